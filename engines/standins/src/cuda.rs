//! The stand-in driver of this process, seen by a test.

use std::ffi::{CStr, CString, c_char, c_int};
use std::sync::OnceLock;

use libloading::Library;

/// A hand on the stand-in `libcuda.so.1` that this process has loaded.
#[derive(Clone, Copy, Debug)]
pub struct Cuda {
    configure: unsafe extern "C" fn(*const c_char, *mut c_char, usize) -> c_int,
    reset: unsafe extern "C" fn(),
    counter: unsafe extern "C" fn(*const c_char) -> i64,
    set: unsafe extern "C" fn(*const c_char, i64),
    report: unsafe extern "C" fn(*mut c_char, usize) -> usize,
    is_live: unsafe extern "C" fn(u64, usize) -> c_int,
}

impl Cuda {
    /// Loads the driver as everyone does, by its name, and makes sure that it is the stand-in.
    ///
    /// # Panics
    ///
    /// When there is none, or a real one: the test forgot [`crate::enter`].
    pub fn here() -> Cuda {
        static HERE: OnceLock<Cuda> = OnceLock::new();
        *HERE.get_or_init(|| {
            // SAFETY: loading the stand-in runs none of its code.
            let library = unsafe { Library::new("libcuda.so.1") };
            let library = library
                .unwrap_or_else(|error| panic!("{error}: begin the test with watchpost_standins::enter()"));
            Cuda::of(&library).unwrap_or_else(|error| {
                panic!("a real driver, no stand-in: begin the test with watchpost_standins::enter(): {error}")
            })
        })
    }

    /// The stand-in's functions. They stay: the library is linked so that it is never unloaded.
    fn of(library: &Library) -> Result<Cuda, libloading::Error> {
        // SAFETY: the functions of these names have these types: see api/control.rs of the stand-in.
        unsafe {
            Ok(Cuda {
                configure: *library.get("standin_cuda_configure")?,
                reset: *library.get("standin_cuda_reset")?,
                counter: *library.get("standin_cuda_counter")?,
                set: *library.get("standin_cuda_set")?,
                report: *library.get("standin_cuda_report")?,
                is_live: *library.get("standin_cuda_is_live")?,
            })
        }
    }

    /// Changes settings, as `WATCHPOST_STANDIN` does. Faults count from now.
    ///
    /// # Panics
    ///
    /// When the text is wrong.
    pub fn configure(&self, text: &str) {
        let mut problem = [0u8; 256];
        let text = text_for(text);
        // SAFETY: a text, and a place with its size.
        let wrong = unsafe { (self.configure)(text.as_ptr(), problem.as_mut_ptr().cast(), problem.len()) };
        let words = CStr::from_bytes_until_nul(&problem).unwrap_or_default();
        assert_eq!(wrong, 0, "{}", words.to_string_lossy());
    }

    /// Default settings, no fault, a device that is not lost, counters at zero but those of what is live.
    pub fn reset(&self) {
        // SAFETY: no arguments.
        unsafe { (self.reset)() }
    }

    /// A counter of [`crate::names`].
    pub fn counter(&self, name: &str) -> i64 {
        let name = text_for(name);
        // SAFETY: a text.
        unsafe { (self.counter)(name.as_ptr()) }
    }

    /// Gives an order.
    pub fn set(&self, name: &str, value: i64) {
        let name = text_for(name);
        // SAFETY: a text.
        unsafe { (self.set)(name.as_ptr(), value) }
    }

    /// Every counter, and what the violations were.
    pub fn report(&self) -> String {
        let mut text = vec![0u8; 65536];
        // SAFETY: a place with its size.
        unsafe { (self.report)(text.as_mut_ptr().cast(), text.len()) };
        CStr::from_bytes_until_nul(&text).unwrap_or_default().to_string_lossy().into_owned()
    }

    /// Everything that is still held, in words; empty when all has been given back.
    pub fn held(&self) -> Vec<String> {
        let report = self.report();
        let live = report
            .lines()
            .filter(|line| line.contains("live") && line.contains('=') && !line.ends_with("=0"));
        live.map(str::to_owned).collect()
    }

    /// All of `bytes` at a device address are live.
    pub fn is_live(&self, address: u64, bytes: usize) -> bool {
        // SAFETY: numbers.
        unsafe { (self.is_live)(address, bytes) != 0 }
    }
}

fn text_for(text: &str) -> CString {
    CString::new(text).expect("a test's text has no zero in it")
}
