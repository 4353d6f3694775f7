//! A file system that is full when the test says so.

use std::fs;
use std::path::PathBuf;
use std::process::{Command, Stdio};

/// A file system in memory, as long as this lives.
pub struct Disk(pub PathBuf);

impl Disk {
    pub fn mount(at: PathBuf, options: &str) -> Option<Self> {
        fs::create_dir(&at).expect("made");
        let mut mount = Command::new("mount");
        mount.args(["-t", "tmpfs", "-o", options, "tmpfs"]).arg(&at).stderr(Stdio::null());
        if mount.status().is_ok_and(|status| status.success()) {
            return Some(Self(at));
        }
        eprintln!("NOT TESTED: a disk with {options}; this user may not mount a tmpfs");
        None
    }
}

impl Drop for Disk {
    fn drop(&mut self) {
        let _best_effort = Command::new("umount").arg(&self.0).status();
    }
}
