//! The caller's logger, and the chatter that a real library makes.

use std::ffi::{CString, c_char, c_void};

use crate::settings::{self, Amount};

/// `ILogger::Severity`
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Severity {
    InternalError = 0,
    Error = 1,
    Warning = 2,
    Info = 3,
    Verbose = 4,
}

/// Calls `ILogger::log`; the C++ side knows how.
pub type Log = extern "C" fn(logger: *mut c_void, severity: i32, text: *const c_char);

/// An `ILogger` of the caller's.
#[derive(Debug, Clone, Copy)]
pub struct Logger {
    object: *mut c_void,
    log: Log,
}

// SAFETY: a logger must be usable from any thread and outlive what was created with it: TensorRT's rule.
unsafe impl Send for Logger {}
// SAFETY: as above.
unsafe impl Sync for Logger {}

impl Logger {
    /// `object` is what the caller gave us, `log` what calls it.
    pub fn new(object: *mut c_void, log: Log) -> Self {
        Self { object, log }
    }

    /// What calls loggers of this major.
    pub fn function(&self) -> Log {
        self.log
    }

    /// Says one line.
    pub fn say(&self, severity: Severity, text: &str) {
        let text = CString::new(text.replace('\0', " ")).unwrap_or_default();
        (self.log)(self.object, severity as i32, text.as_ptr());
    }

    /// Says why a call fails.
    pub fn error(&self, text: &str) {
        self.say(Severity::Error, text);
    }

    /// What libraries say unasked: every severity, a very long line, and bytes that are not UTF-8.
    pub fn chatter(&self, occasion: &str) {
        for round in 0..settings::amount(Amount::Chatter) {
            let all = [
                Severity::InternalError,
                Severity::Error,
                Severity::Warning,
                Severity::Info,
                Severity::Verbose,
            ];
            for severity in all {
                self.say(severity, &format!("chatter {round} of severity {} at {occasion}", severity as i32));
            }
            self.say(Severity::Info, &"long ".repeat(4_000));
            (self.log)(self.object, Severity::Warning as i32, c"not UTF-8: \xff\xfe".as_ptr());
        }
    }
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;
    use std::ffi::CStr;
    use std::sync::Mutex;

    static LINES: Mutex<Vec<(usize, i32, String)>> = Mutex::new(Vec::new());

    extern "C" fn collect(logger: *mut c_void, severity: i32, text: *const c_char) {
        // SAFETY: `say` passes a C string.
        let text = unsafe { CStr::from_ptr(text) }.to_string_lossy().into_owned();
        LINES.lock().unwrap().push((logger as usize, severity, text));
    }

    /// A logger for the tests of this crate, told from others by its number.
    pub(crate) fn collecting(number: usize) -> Logger {
        Logger::new(std::ptr::without_provenance_mut(number), collect)
    }

    /// What it has been told.
    pub(crate) fn said_to(number: usize) -> Vec<String> {
        let lines = LINES.lock().unwrap();
        lines.iter().filter(|(logger, ..)| *logger == number).map(|(.., text)| text.clone()).collect()
    }

    #[test]
    fn lines_arrive_with_their_severity() {
        collecting(1).error("a\0b");
        assert_eq!(said_to(1), ["a b"]);
        assert!(LINES.lock().unwrap().contains(&(1, 1, "a b".to_owned())));
    }
}
