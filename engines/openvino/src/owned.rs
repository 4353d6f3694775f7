//! OpenVINO's objects as values that give themselves back, and its errors as words.

use std::ffi::{CStr, CString, c_char};
use std::ptr;

use openvino_sys as ov;
use openvino_sys::ov_status_e;

/// What a function of the library refused, in its words.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Refusal(pub String);

/// The library's answer as a result.
pub(crate) fn check(status: ov_status_e) -> Result<(), Refusal> {
    if status == ov_status_e::OK {
        return Ok(());
    }
    // SAFETY: the last message of this thread: null, or a string that ends with 0 and lives until the next call.
    let words = unsafe {
        let words = ov::ov_get_last_err_msg();
        if words.is_null() { String::new() } else { CStr::from_ptr(words).to_string_lossy().into_owned() }
    };
    // Its own messages begin with the place in its source, on lines of their own.
    let last = words.lines().map(str::trim).rfind(|line| !line.is_empty());
    Err(Refusal(last.map_or_else(|| format!("{status:?}"), str::to_owned)))
}

/// Text for the library.
pub(crate) fn c_string(text: &str) -> Result<CString, Refusal> {
    CString::new(text).map_err(|_| Refusal(format!("{text:?} holds a zero byte")))
}

/// Text of the library, which is given back to it.
///
/// # Safety
/// `text` is null or came from a function of the library that says it is freed with `ov_free`.
pub(crate) unsafe fn take_text(text: *mut c_char) -> String {
    if text.is_null() {
        return String::new();
    }
    // SAFETY: the caller's word.
    let taken = unsafe { CStr::from_ptr(text) }.to_string_lossy().into_owned();
    // SAFETY: as above; it is not used again.
    unsafe { ov::ov_free(text) };
    taken
}

macro_rules! owned {
    ($(#[$doc:meta])* $name:ident, $raw:ty, $free:path) => {
        $(#[$doc])*
        pub(crate) struct $name(*mut $raw);

        // SAFETY: OpenVINO's objects belong to no thread; each of ours has one owner, and is used through `&mut` or once.
        unsafe impl Send for $name {}

        impl $name {
            /// From a function that makes one and writes it behind a pointer.
            pub fn made(make: impl FnOnce(*mut *mut $raw) -> ov_status_e) -> Result<Self, Refusal> {
                let mut raw = ptr::null_mut();
                check(make(&raw mut raw))?;
                if raw.is_null() {
                    return Err(Refusal(concat!("there is no ", stringify!($name)).to_owned()));
                }
                Ok(Self(raw))
            }

            /// For a call that does not keep it.
            pub fn raw(&self) -> *mut $raw {
                self.0
            }
        }

        impl Drop for $name {
            fn drop(&mut self) {
                // SAFETY: made by the library, owned by us, freed once.
                unsafe { $free(self.0) }
            }
        }
    };
}

owned!(
    /// The library's root: its plugins live as long as it.
    Core, ov::ov_core_t, ov::ov_core_free
);
owned!(
    /// A model as it was read.
    Graph, ov::ov_model_t, ov::ov_model_free
);
owned!(
    /// A model compiled for a device.
    Compiled, ov::ov_compiled_model_t, ov::ov_compiled_model_free
);
owned!(
    /// One inference at a time, with its tensors.
    Request, ov::ov_infer_request_t, ov::ov_infer_request_free
);
owned!(
    /// An input or output of a model.
    ConstPort, ov::ov_output_const_port_t, ov::ov_output_const_port_free
);
owned!(
    /// A tensor: the library's memory, or ours on loan.
    Tensor, ov::ov_tensor_t, ov::ov_tensor_free
);
