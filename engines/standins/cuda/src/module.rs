//! Modules: PTX text is read for what it demands and for its kernels' names; what runs is the host's build of them.

use crate::codes::{INVALID_IMAGE, INVALID_PTX, NOT_FOUND, NOT_SUPPORTED, Outcome, UNSUPPORTED_PTX_VERSION};
use crate::driver::Driver;
use crate::kernels::{self, Kernel};

/// A loaded module.
#[derive(Debug)]
pub struct Module {
    pub context: u64,
    entries: Vec<String>,
}

/// A kernel of a module.
#[derive(Debug)]
pub struct Function {
    pub context: u64,
    pub kernel: &'static Kernel,
}

impl Module {
    /// Reads PTX as a driver of the configured version and a device of the configured capability would take it: `Err`
    /// has the compiler's words as well.
    pub fn read(driver: &Driver, context: u64, image: &[u8]) -> Result<Module, (i32, String)> {
        let text =
            std::str::from_utf8(image).map_err(|_| (INVALID_IMAGE, "the image is no PTX".to_owned()))?;
        let word = |directive: &str| {
            let line = text.lines().map(str::trim).find_map(|line| line.strip_prefix(directive));
            line.map(|rest| rest.trim().to_owned())
        };
        let version = word(".version").and_then(|version| two_numbers(&version));
        let Some(version) = version else {
            return Err((INVALID_IMAGE, "no .version: the image is no PTX".to_owned()));
        };
        let newest = newest_isa(driver.setting(|settings| settings.driver));
        if version > newest {
            let words = format!(
                "ptxas fatal: unsupported .version {}.{}; current version is '{}.{}'",
                version.0, version.1, newest.0, newest.1
            );
            return Err((UNSUPPORTED_PTX_VERSION, words));
        }
        let target = word(".target")
            .and_then(|target| target.strip_prefix("sm_")?.split([',', ' ']).next()?.parse::<u32>().ok());
        let Some(target) = target else { return Err((INVALID_PTX, "ptxas fatal: no .target".to_owned())) };
        let (major, minor) = driver.setting(|settings| settings.compute);
        if target > major * 10 + minor {
            return Err((
                INVALID_PTX,
                "ptxas fatal: SM version specified by .target is higher than default SM version assumed"
                    .to_owned(),
            ));
        }
        let entries = text
            .split(".entry")
            .skip(1)
            .filter_map(|rest| Some(rest.trim_start().split(['(', ' ', '\n']).next()?.to_owned()));
        Ok(Module { context, entries: entries.collect() })
    }

    /// The kernel called `name`.
    pub fn function(&self, driver: &Driver, name: &str) -> Outcome<u64> {
        if !self.entries.iter().any(|entry| entry == name) {
            return Err(NOT_FOUND);
        }
        let Some(kernel) = kernels::find(name) else {
            driver.ledger.say(&format!("the kernel {name} has no host build: see kernels.rs"));
            return Err(NOT_SUPPORTED);
        };
        let handle = driver.new_handle();
        driver.functions.insert(handle, Function { context: self.context, kernel });
        Ok(handle)
    }
}

fn two_numbers(text: &str) -> Option<(u32, u32)> {
    let (major, minor) = text.split_whitespace().next()?.split_once('.')?;
    Some((major.parse().ok()?, minor.parse().ok()?))
}

/// The newest PTX ISA that a driver compiles. CUDA 11.n: 7.n; 12.n: 8.n up to 12.5, then one less; 13.n: 9.n.
fn newest_isa(driver: u32) -> (u32, u32) {
    let (major, minor) = (driver / 1000, driver % 1000 / 10);
    match (major, minor) {
        (..=10, _) => (6, 5),
        (11, _) => (7, minor),
        (12, 6..) => (8, minor - 1),
        (12, _) => (8, minor),
        _ => (major - 4, minor),
    }
}
