//! How tests and the other stand-ins steer this one. No real driver has these symbols, so whoever finds them knows that
//! it has no GPU before it.

use std::ffi::{c_char, c_int};
use std::sync::atomic::AtomicI64;

use crate::codes::INVALID_VALUE;
use crate::driver::driver;
use crate::foreign::{In, Out};

/// Changes settings: `key=value` with commas between, as in `WATCHPOST_STANDIN`. Faults count from now. 0, or 1 when the
/// text is wrong: then nothing changes, and `problem` (which may be NULL) has `room` bytes for a sentence about it.
#[unsafe(no_mangle)]
pub extern "C" fn standin_cuda_configure(text: In<c_char>, problem: Out<c_char>, room: usize) -> c_int {
    let changed = text.text().map_err(|_| "no text".to_owned()).and_then(|text| driver().configure(&text));
    match changed {
        Ok(()) => 0,
        Err(words) => {
            let _ = problem.text(&words, room);
            INVALID_VALUE
        }
    }
}

/// Default settings, no fault, a device that is not lost, counters at zero. What is live stays live, and counted.
#[unsafe(no_mangle)]
pub extern "C" fn standin_cuda_reset() {
    driver().reset();
}

/// The value of the counter called `name`; 0 for one that there is not.
#[unsafe(no_mangle)]
pub extern "C" fn standin_cuda_counter(name: In<c_char>) -> i64 {
    name.text().map_or(0, |name| driver().ledger.get(&name))
}

/// Adds to the counter called `name`, which is made when it is new: for the other stand-ins' counters.
#[unsafe(no_mangle)]
pub extern "C" fn standin_cuda_count(name: In<c_char>, delta: i64) {
    if let Ok(name) = name.text() {
        driver().ledger.row(&name).change(delta);
    }
}

/// Where the counter called `name` is, which is made when it is new: for those who count often. It is never moved.
#[unsafe(no_mangle)]
pub extern "C" fn standin_cuda_row(name: In<c_char>) -> *const AtomicI64 {
    name.text().map_or(std::ptr::null(), |name| std::ptr::from_ref(driver().ledger.row(&name).cell()))
}

/// Sets the counter called `name`: how an order is given.
#[unsafe(no_mangle)]
pub extern "C" fn standin_cuda_set(name: In<c_char>, value: i64) {
    if let Ok(name) = name.text() {
        driver().ledger.set(&name, value);
    }
}

/// 1 if the order called `name` was above zero, and takes one away; else 0.
#[unsafe(no_mangle)]
pub extern "C" fn standin_cuda_take(name: In<c_char>) -> c_int {
    name.text().map_or(0, |name| c_int::from(driver().ledger.row(&name).take()))
}

/// Every counter, a line `name=value` each, then an empty line and the violations; returns the bytes that it needs.
#[unsafe(no_mangle)]
pub extern "C" fn standin_cuda_report(text: Out<c_char>, room: usize) -> usize {
    let ledger = driver().ledger;
    let mut report: String = ledger.all().iter().map(|(name, value)| format!("{name}={value}\n")).collect();
    report.push('\n');
    report.push_str(&ledger.text());
    if room > 0 && !text.0.is_null() {
        let _ = text.text(&report, room);
    }
    report.len() + 1
}

/// A setting of another stand-in (a key with a dot, as `nvcuvid.max_width`), or `default` where it is not set.
#[unsafe(no_mangle)]
pub extern "C" fn standin_cuda_setting(key: In<c_char>, default: i64) -> i64 {
    let key = key.text().unwrap_or_default();
    driver().setting(|settings| settings.others.get(&key).copied()).unwrap_or(default)
}

/// 1 if all of `bytes` at `address` are live memory of the driver's. Host functions may call this.
#[unsafe(no_mangle)]
pub extern "C" fn standin_cuda_is_live(address: u64, bytes: usize) -> c_int {
    c_int::from(driver().memory().find(address, bytes as u64).is_ok())
}

/// Another stand-in has seen something that no correct program does.
#[unsafe(no_mangle)]
pub extern "C" fn standin_cuda_violation(what: In<c_char>) {
    let driver = driver();
    let what = what.text().unwrap_or_default();
    driver.violation(driver.ledger.row("other.violation"), &what);
}

/// The device is lost with this error, from the view of every later call. Host functions may call this.
#[unsafe(no_mangle)]
pub extern "C" fn standin_cuda_lose(code: c_int) {
    driver().lose(code);
}
