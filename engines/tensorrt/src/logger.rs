//! What TensorRT says, into `tracing`, and its last errors for our messages.
//!
//! A logger is a C++ object of ours that the library calls through its virtual table. Version 11 put the logger behind a
//! versioned interface, so there are two layouts. The objects are statics: the library keeps the first logger it sees for
//! as long as the process lives.

use std::collections::VecDeque;
use std::ffi::{CStr, c_char, c_void};
use std::panic::catch_unwind;
use std::sync::mpsc::SyncSender;
use std::sync::{Mutex, MutexGuard, PoisonError};

use crate::abi::Raw;
use crate::version::Major;

/// Errors that are remembered.
const ERRORS_MAX: usize = 6;
/// Bytes of one line that are kept.
const LINE_BYTES_MAX: usize = 600;

/// `ILogger::Severity`.
const INTERNAL_ERROR: i32 = 0;
const ERROR: i32 = 1;
const WARNING: i32 = 2;
const INFO: i32 = 3;

type Log = unsafe extern "C" fn(*const c_void, i32, *const c_char);
type Nothing = unsafe extern "C" fn(*const c_void);

/// `InterfaceInfo`, returned in registers.
#[repr(C)]
pub(crate) struct InterfaceInfo {
    pub(crate) kind: *const c_char,
    pub(crate) major: i32,
    pub(crate) minor: i32,
}

/// The table of 10.
#[repr(C)]
struct TableTen {
    log: Log,
    destroy: Nothing,
    delete: Nothing,
}

/// The table of 11.
#[repr(C)]
struct TableEleven {
    api_language: unsafe extern "C" fn(*const c_void) -> i32,
    interface_info: unsafe extern "C" fn(*const c_void) -> InterfaceInfo,
    destroy: Nothing,
    delete: Nothing,
    log: Log,
}

#[repr(C)]
struct Logger<T: 'static> {
    table: &'static T,
}

static TEN: Logger<TableTen> = Logger { table: &TableTen { log, destroy: nothing, delete: nothing } };
static ELEVEN: Logger<TableEleven> =
    Logger { table: &TableEleven { api_language, interface_info, destroy: nothing, delete: nothing, log } };

/// The logger for a library of this major.
pub(crate) fn object(major: Major) -> Raw {
    match major {
        Major::Ten => std::ptr::from_ref(&TEN).cast_mut().cast(),
        Major::Eleven => std::ptr::from_ref(&ELEVEN).cast_mut().cast(),
    }
}

/// C++.
pub(crate) unsafe extern "C" fn api_language(_this: *const c_void) -> i32 {
    0
}

unsafe extern "C" fn interface_info(_this: *const c_void) -> InterfaceInfo {
    InterfaceInfo { kind: c"ILogger".as_ptr(), major: 1, minor: 0 }
}

/// A destructor of an object that needs none.
pub(crate) unsafe extern "C" fn nothing(_this: *const c_void) {}

/// Called by the library from any of its threads.
unsafe extern "C" fn log(_this: *const c_void, severity: i32, message: *const c_char) {
    if message.is_null() {
        return;
    }
    // SAFETY: the library hands over a C string that lives until we return.
    let text = unsafe { CStr::from_ptr(message) }.to_string_lossy();
    // A panic must not run into C++; there is nothing to be done about one here.
    let _ = catch_unwind(|| note(severity, text.trim_end()));
}

#[derive(Default)]
struct Heard {
    /// Errors ever heard.
    error_count: u64,
    /// The last of them.
    errors: VecDeque<String>,
    /// Who wants to hear what goes on, during a build.
    listener: Option<SyncSender<String>>,
}

static HEARD: Mutex<Heard> = Mutex::new(Heard { error_count: 0, errors: VecDeque::new(), listener: None });

fn heard() -> MutexGuard<'static, Heard> {
    HEARD.lock().unwrap_or_else(PoisonError::into_inner)
}

fn note(severity: i32, text: &str) {
    match severity {
        INTERNAL_ERROR | ERROR => tracing::error!(target: "tensorrt", "{text}"),
        WARNING => tracing::warn!(target: "tensorrt", "{text}"),
        // A few lines on every load: of no interest while all is well.
        INFO => tracing::debug!(target: "tensorrt", "{text}"),
        _ => tracing::trace!(target: "tensorrt", "{text}"),
    }
    if severity > INFO {
        return;
    }
    let mut heard = heard();
    if severity <= ERROR {
        heard.error_count += 1;
        if heard.errors.len() == ERRORS_MAX {
            heard.errors.pop_front();
        }
        heard.errors.push_back(shorten(text).to_owned());
    }
    if let Some(listener) = &heard.listener {
        // A listener that cannot follow misses lines; the build does not wait for it.
        let _ = listener.try_send(shorten(text).to_owned());
    }
}

fn shorten(text: &str) -> &str {
    text.get(..text.floor_char_boundary(LINE_BYTES_MAX)).unwrap_or(text)
}

/// A moment, from which on errors are of interest.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Since(u64);

impl Since {
    /// From now on.
    pub(crate) fn now() -> Self {
        Self(heard().error_count)
    }

    /// What has been complained about since, in one line.
    pub(crate) fn words(self) -> String {
        let heard = heard();
        let new = usize::try_from(heard.error_count - self.0).unwrap_or(usize::MAX).min(heard.errors.len());
        let lines: Vec<&str> =
            heard.errors.iter().skip(heard.errors.len() - new).map(String::as_str).collect();
        if lines.is_empty() { "it gave no reason".to_owned() } else { lines.join("; ") }
    }
}

/// Sends lines to a listener until it is dropped.
pub(crate) struct Listening;

impl Listening {
    /// Of warnings, errors and information.
    pub(crate) fn start(listener: SyncSender<String>) -> Self {
        heard().listener = Some(listener);
        Self
    }
}

impl Drop for Listening {
    fn drop(&mut self) {
        heard().listener = None;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What libnvinfer does: an object's first word is its table, and an entry is called with the object.
    fn call(object: Raw, entry: usize, severity: i32, text: &CStr) {
        // SAFETY: the objects are ours, and `entry` is the one of `log` in their layout.
        unsafe {
            let table: *const Log = *object.cast();
            (*table.add(entry))(object, severity, text.as_ptr());
        }
    }

    #[test]
    fn errors_are_kept_in_both_layouts_and_nothing_grows() {
        let since = Since::now();
        assert_eq!(since.words(), "it gave no reason");
        call(object(Major::Ten), 0, INFO, c"chatter");
        call(object(Major::Ten), 0, ERROR, c"first\n");
        call(object(Major::Eleven), 4, INTERNAL_ERROR, c"second");
        assert_eq!(since.words(), "first; second");
        let later = Since::now();
        assert_eq!(later.words(), "it gave no reason");
        let long = std::ffi::CString::new("\u{e4}".repeat(5_000)).unwrap();
        (0..1_000).for_each(|_| call(object(Major::Ten), 0, ERROR, &long));
        assert!(later.words().len() <= ERRORS_MAX * (LINE_BYTES_MAX + 2));
    }

    #[test]
    fn version_11_is_told_what_it_talks_to() {
        let object = object(Major::Eleven);
        // SAFETY: as above; entry 0 and 1 of this layout have these types.
        unsafe {
            let table: *const TableEleven = *object.cast();
            assert_eq!(((*table).api_language)(object), 0);
            let info = ((*table).interface_info)(object);
            assert_eq!((CStr::from_ptr(info.kind), info.major, info.minor), (c"ILogger", 1, 0));
        }
    }
}
