//! Initialisation, version, names of errors, and symbols by name.

use std::ffi::{CString, c_char, c_int, c_uint, c_void};

use crate::codes::{self, Code, INVALID_VALUE, NO_DEVICE, NOT_FOUND, Outcome, SUCCESS};
use crate::driver::driver;
use crate::foreign::{In, Out};

fn plain(run: impl FnOnce() -> Outcome) -> Code {
    run().err().unwrap_or(SUCCESS)
}

#[unsafe(no_mangle)]
pub extern "C" fn cuInit(flags: c_uint) -> Code {
    plain(|| {
        if flags != 0 {
            return Err(INVALID_VALUE);
        }
        let driver = driver();
        match driver.setting(|settings| (settings.init_error, settings.devices)) {
            (SUCCESS, 0) => Err(NO_DEVICE),
            (SUCCESS, _) => {
                driver.set_ready();
                Ok(())
            }
            (code, _) => Err(code),
        }
    })
}

#[unsafe(no_mangle)]
pub extern "C" fn cuDriverGetVersion(version: Out<c_int>) -> Code {
    plain(|| version.set(driver().setting(|settings| settings.driver) as c_int))
}

#[unsafe(no_mangle)]
pub extern "C" fn cuGetErrorName(error: Code, text: Out<*const c_char>) -> Code {
    plain(|| match codes::words(error) {
        Some((name, _)) => text.set(name.as_ptr()),
        None => text.set(std::ptr::null()).and(Err(INVALID_VALUE)),
    })
}

#[unsafe(no_mangle)]
pub extern "C" fn cuGetErrorString(error: Code, text: Out<*const c_char>) -> Code {
    plain(|| match codes::words(error) {
        Some((_, words)) => text.set(words.as_ptr()),
        None => text.set(std::ptr::null()).and(Err(INVALID_VALUE)),
    })
}

/// The newest of our functions with this name: `cuMemAlloc` is `cuMemAlloc_v2`.
fn symbol(name: &str) -> Option<*mut c_void> {
    let mut us = libc::Dl_info {
        dli_fname: std::ptr::null(),
        dli_fbase: std::ptr::null_mut(),
        dli_sname: std::ptr::null(),
        dli_saddr: std::ptr::null_mut(),
    };
    // SAFETY: an address of this library, and a place for what is known about it.
    let known = unsafe { libc::dladdr(cuInit as *const c_void, &raw mut us) };
    if known == 0 {
        return None;
    }
    // SAFETY: the path of a library that is loaded; it stays so, since it is never unloaded.
    let library = unsafe { libc::dlopen(us.dli_fname, libc::RTLD_NOLOAD | libc::RTLD_LAZY) };
    if library.is_null() {
        return None;
    }
    ["_v2", ""].iter().find_map(|suffix| {
        let name = CString::new(format!("{name}{suffix}")).ok()?;
        // SAFETY: an open library and a text that ends with a zero.
        let found = unsafe { libc::dlsym(library, name.as_ptr()) };
        (!found.is_null()).then_some(found)
    })
}

#[unsafe(no_mangle)]
pub extern "C" fn cuGetProcAddress(
    name: In<c_char>,
    function: Out<*mut c_void>,
    version: c_int,
    flags: u64,
) -> Code {
    cuGetProcAddress_v2(name, function, version, flags, Out(std::ptr::null_mut()))
}

#[unsafe(no_mangle)]
pub extern "C" fn cuGetProcAddress_v2(
    name: In<c_char>,
    function: Out<*mut c_void>,
    _version: c_int,
    _flags: u64,
    status: Out<c_int>,
) -> Code {
    plain(|| match symbol(&name.text()?) {
        Some(found) => {
            status.offer(0);
            function.set(found)
        }
        None => {
            status.offer(1);
            function.set(std::ptr::null_mut()).and(Err(NOT_FOUND))
        }
    })
}
