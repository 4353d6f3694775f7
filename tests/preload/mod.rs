//! A library in front of the C library's: the time steps, threads are refused, one thread panics or hangs.
#![allow(dead_code, reason = "every test binary uses its own part")]

use std::fs::File;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::process::Command;

use crate::support::Setup;

/// The daemon with a library in front of the C library's that obeys a file; `None`, said loudly, where there is
/// no C compiler.
pub struct Faulty {
    orders: File,
    library: PathBuf,
    path: PathBuf,
    _folder: tempfile::TempDir,
}

impl Faulty {
    pub const CLOCK: u64 = 0;
    pub const REFUSE_THREADS: u64 = 8;
    pub const REFUSED: u64 = 16;
    pub const PANICS: u64 = 24;
    pub const HANGS: u64 = 32;
    pub const WALL_ONLY: u64 = 40;
    const THREAD: u64 = 48;

    pub fn new() -> Option<Self> {
        let folder = tempfile::tempdir().expect("a folder");
        let library = folder.path().join("faults.so");
        let source = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/process/faults.c");
        let built =
            Command::new("cc").args(["-shared", "-fPIC", "-O1", "-o"]).arg(&library).arg(source).status();
        if !built.is_ok_and(|status| status.success()) {
            eprintln!("NOT TESTED: there is no C compiler `cc` to build the preloaded library with");
            return None;
        }
        let path = folder.path().join("orders");
        std::fs::write(&path, [0; 64]).expect("written");
        let orders = File::options().read(true).write(true).open(&path).expect("open");
        Some(Self { orders, library, path, _folder: folder })
    }

    pub fn before(&self, setup: Setup) -> Setup {
        self.environment().into_iter().fold(setup, |setup, (name, value)| setup.env(name, &value))
    }

    /// What the process needs in its environment.
    pub fn environment(&self) -> [(&'static str, String); 2] {
        let text = |path: &Path| path.to_str().expect("UTF-8").to_owned();
        [("LD_PRELOAD", text(&self.library)), ("PROCESS_FAULTS", text(&self.path))]
    }

    /// From now on this is for the thread of this name.
    pub fn aim_at(&self, thread: &str) {
        let mut name = [0; 16];
        name[..thread.len()].copy_from_slice(thread.as_bytes());
        self.orders.write_all_at(&name, Self::THREAD).expect("written");
    }

    pub fn set(&self, what: u64, value: i64) {
        self.orders.write_all_at(&value.to_ne_bytes(), what).expect("written");
    }

    pub fn get(&self, what: u64) -> i64 {
        let mut bytes = [0; 8];
        self.orders.read_exact_at(&mut bytes, what).expect("read");
        i64::from_ne_bytes(bytes)
    }
}
