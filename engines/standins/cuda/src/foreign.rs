//! Pointers of the callers, with their checks.

use std::ffi::{CStr, c_char};
use std::ptr::NonNull;

use crate::codes::{INVALID_VALUE, Outcome};

/// Where a caller wants a result. NULL is [`INVALID_VALUE`], or nothing where the result is optional.
#[repr(transparent)]
#[derive(Clone, Copy, Debug)]
pub struct Out<T>(pub *mut T);

impl<T> Out<T> {
    /// The result, which the caller must have asked for.
    pub fn set(self, value: T) -> Outcome {
        let place = NonNull::new(self.0).ok_or(INVALID_VALUE)?;
        // SAFETY: a caller of the driver passes NULL or a place for one T.
        unsafe { place.write_unaligned(value) };
        Ok(())
    }

    /// The result, if the caller wants it.
    pub fn offer(self, value: T) {
        let _: Outcome = self.set(value);
    }

    /// There is a place for the result.
    pub fn required(self) -> Outcome {
        if self.0.is_null() { Err(INVALID_VALUE) } else { Ok(()) }
    }
}

impl Out<c_char> {
    /// `text` with a zero at its end, cut to `room` bytes.
    pub fn text(self, text: &str, room: usize) -> Outcome {
        self.required()?;
        if room == 0 {
            return Err(INVALID_VALUE);
        }
        let length = text.len().min(room - 1);
        // SAFETY: a caller of the driver passes a place for as many bytes as it says.
        unsafe {
            std::ptr::copy_nonoverlapping(text.as_ptr(), self.0.cast::<u8>(), length);
            self.0.add(length).write(0);
        }
        Ok(())
    }
}

/// Something of a caller's that is read. NULL is [`INVALID_VALUE`].
#[repr(transparent)]
#[derive(Clone, Copy, Debug)]
pub struct In<T>(pub *const T);

impl<T: Copy> In<T> {
    /// The value.
    pub fn get(self) -> Outcome<T> {
        if self.0.is_null() {
            return Err(INVALID_VALUE);
        }
        // SAFETY: a caller of the driver passes NULL or the address of one T.
        Ok(unsafe { self.0.read_unaligned() })
    }

    /// The value at `index` of an array that the caller promises to be long enough.
    pub fn at(self, index: usize) -> Outcome<T> {
        if self.0.is_null() {
            return Err(INVALID_VALUE);
        }
        // SAFETY: the array has more than `index` values.
        Ok(unsafe { self.0.add(index).read_unaligned() })
    }
}

impl In<c_char> {
    /// The text.
    pub fn text(self) -> Outcome<String> {
        if self.0.is_null() {
            return Err(INVALID_VALUE);
        }
        // SAFETY: a caller of the driver passes NULL or a text that ends with a zero.
        Ok(unsafe { CStr::from_ptr(self.0) }.to_string_lossy().into_owned())
    }
}
