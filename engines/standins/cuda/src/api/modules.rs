//! Modules, functions, launches.

use std::ffi::{CStr, c_char, c_int, c_uint, c_void};
use std::sync::Arc;

use crate::api::give;
use crate::codes::{
    Code, FILE_NOT_FOUND, INVALID_HANDLE, INVALID_IMAGE, INVALID_VALUE, LAUNCH_OUT_OF_RESOURCES, NOT_FOUND,
    Outcome,
};
use crate::context::current;
use crate::driver::{Driver, call, query};
use crate::foreign::{In, Out};
use crate::kernels::Launch;
use crate::module::Module;
use crate::stream;
use crate::work::Work;

/// CU_JIT_ERROR_LOG_BUFFER and CU_JIT_ERROR_LOG_BUFFER_SIZE_BYTES.
const ERROR_LOG: c_int = 5;
const ERROR_LOG_BYTES: c_int = 6;

fn load(driver: &Driver, handle: Out<u64>, image: &[u8], mut complain: impl FnMut(&str)) -> Outcome {
    handle.required()?;
    let module = Module::read(driver, current()?.handle, image).map_err(|(code, words)| {
        complain(&words);
        code
    })?;
    let new = driver.new_handle();
    driver.modules.insert(new, module);
    driver.counters.live_modules.change(1);
    handle.set(new)
}

/// PTX is a text with a zero at its end; an ELF file or a fat binary is for a GPU.
fn text_of(image: In<c_char>) -> Outcome<Vec<u8>> {
    if image.0.is_null() {
        return Err(INVALID_VALUE);
    }
    if image.at(0)?.cast_unsigned() == 0x7f || image.at(0)?.cast_unsigned() == 0x50 {
        return Err(INVALID_IMAGE);
    }
    // SAFETY: what is no binary image is a text that ends with a zero.
    Ok(unsafe { CStr::from_ptr(image.0) }.to_bytes().to_vec())
}

#[unsafe(no_mangle)]
pub extern "C" fn cuModuleLoadData(module: Out<u64>, image: In<c_char>) -> Code {
    call(|driver| load(driver, module, &text_of(image)?, |_| ()))
}

#[unsafe(no_mangle)]
pub extern "C" fn cuModuleLoadDataEx(
    module: Out<u64>,
    image: In<c_char>,
    options: c_uint,
    keys: In<c_int>,
    values: In<usize>,
) -> Code {
    call(|driver| {
        let mut log = Out(std::ptr::null_mut());
        let mut room = 0;
        for index in 0..options as usize {
            match keys.at(index)? {
                ERROR_LOG => log = Out(values.at(index)? as *mut c_char),
                ERROR_LOG_BYTES => room = values.at(index)?,
                _ => {}
            }
        }
        load(driver, module, &text_of(image)?, |words| {
            let _: Outcome = log.text(words, room);
        })
    })
}

#[unsafe(no_mangle)]
pub extern "C" fn cuModuleLoad(module: Out<u64>, path: In<c_char>) -> Code {
    call(|driver| {
        let image = std::fs::read(path.text()?).map_err(|_| FILE_NOT_FOUND)?;
        load(driver, module, &image, |_| ())
    })
}

#[unsafe(no_mangle)]
pub extern "C" fn cuModuleUnload(module: u64) -> Code {
    query(|driver| {
        driver.modules.remove(module)?;
        driver.counters.live_modules.change(-1);
        driver.lost()
    })
}

#[unsafe(no_mangle)]
pub extern "C" fn cuModuleGetFunction(function: Out<u64>, module: u64, name: In<c_char>) -> Code {
    call(|driver| {
        function.required()?;
        function.set(driver.modules.get(module)?.function(driver, &name.text()?)?)
    })
}

#[unsafe(no_mangle)]
pub extern "C" fn cuModuleGetGlobal_v2(
    _address: Out<u64>,
    _bytes: Out<usize>,
    _module: u64,
    _name: In<c_char>,
) -> Code {
    NOT_FOUND
}

/// CUfunction_attribute: threads in a block (0), registers (4); nothing else is there.
#[unsafe(no_mangle)]
pub extern "C" fn cuFuncGetAttribute(value: Out<c_int>, attribute: c_int, function: u64) -> Code {
    call(|driver| {
        driver.functions.get(function)?;
        value.set(match attribute {
            0 => 1024,
            4 => 32,
            _ => 0,
        })
    })
}

#[unsafe(no_mangle)]
pub extern "C" fn cuFuncSetAttribute(function: u64, _attribute: c_int, _value: c_int) -> Code {
    call(|driver| driver.functions.get(function).map(drop))
}

#[unsafe(no_mangle)]
pub extern "C" fn cuFuncSetCacheConfig(function: u64, _config: c_int) -> Code {
    call(|driver| driver.functions.get(function).map(drop))
}

#[unsafe(no_mangle)]
pub extern "C" fn cuLaunchKernel(
    function: u64,
    grid_x: c_uint,
    grid_y: c_uint,
    grid_z: c_uint,
    block_x: c_uint,
    block_y: c_uint,
    block_z: c_uint,
    _shared_bytes: c_uint,
    stream: u64,
    parameters: In<*mut c_void>,
    extra: In<*mut c_void>,
) -> Code {
    call(|driver| {
        let function = driver.functions.get(function)?;
        let (stream, context) = stream::find_here(driver, stream)?;
        if function.context != context.handle {
            return Err(INVALID_HANDLE);
        }
        let (grid, block) = ([grid_x, grid_y, grid_z], [block_x, block_y, block_z]);
        let threads = block.iter().fold(1u64, |all, one| all.saturating_mul(u64::from(*one)));
        let outside =
            grid.contains(&0) || block.contains(&0) || grid_y > 65535 || grid_z > 65535 || block_z > 64;
        if outside || block_x > 1024 || block_y > 1024 || parameters.0.is_null() || !extra.0.is_null() {
            return Err(INVALID_VALUE);
        }
        if threads > 1024 {
            return Err(LAUNCH_OUT_OF_RESOURCES);
        }
        let work = if driver.next_launch_fails() {
            Work::Fail(driver.setting(|settings| settings.lost_code))
        } else {
            let launch = Launch::new(function.kernel, context.handle, grid, block, parameters.0.cast_mut());
            Work::Kernel(Arc::new(launch))
        };
        give(driver, &stream, work).map(drop)
    })
}
