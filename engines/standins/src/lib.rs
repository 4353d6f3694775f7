//! Test only: one folder with every stand-in library, and the hand that steers them.
//!
//! - A test that starts a process gives it [`environment`], and reads its [`Ledger`] from a file.
//! - A test that uses the libraries in its own process begins with [`enter`], and steers them with [`Cuda`].
//!
//! `engines/standins/README.md` has examples, every setting and every counter.

mod cuda;
mod tensorrt;
mod without;

use std::env;
use std::ffi::OsString;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::Command;

pub use cuda::Cuda;
pub use tensorrt::tensorrt;
pub use watchpost_standin_contract::{Ledger, names, picture};
pub use without::{without, without_of};

/// The folder that holds `libcuda.so.1`, `libnvcuvid.so.1` and their like.
///
/// # Panics
///
/// When Cargo has not built a library: a dev-dependency on this crate makes it do so.
pub fn folder() -> PathBuf {
    let folder = PathBuf::from(concat!(env!("OUT_DIR"), "/lib"));
    for name in ["libcuda.so.1", "libnvcuvid.so.1"] {
        let library = folder.join(name);
        assert!(library.exists(), "{} leads nowhere: build the test with cargo", library.display());
    }
    folder
}

/// `LD_LIBRARY_PATH` with `folder` before everything else.
fn path_with(folder: &Path) -> OsString {
    let mut path = folder.as_os_str().to_owned();
    if let Some(rest) = env::var_os("LD_LIBRARY_PATH").filter(|rest| !rest.is_empty()) {
        path.push(":");
        path.push(rest);
    }
    path
}

/// Lets `command` find the stand-ins before any real driver. `private` is a folder of the test's own: GStreamer keeps its
/// list of plugins there, so that neither list knows what only the other process can load.
pub fn environment<'a>(command: &'a mut Command, private: &Path) -> &'a mut Command {
    environment_of(command, &folder(), private)
}

/// The same with another folder of libraries: one that [`without()`] made.
pub fn environment_of<'a>(command: &'a mut Command, folder: &Path, private: &Path) -> &'a mut Command {
    command
        .env("LD_LIBRARY_PATH", path_with(folder))
        .env("GST_REGISTRY", private.join("gstreamer-registry.bin"))
}

/// Makes this process one that finds the stand-ins: it starts itself anew, with the same arguments, unless it has done
/// so before. The first line of every test that uses them in its own process. The dynamic linker reads its path only when
/// a process begins, and on a machine with a real driver nothing less keeps that one away.
///
/// # Panics
///
/// When the program cannot be started anew.
pub fn enter() {
    let folder = folder();
    let path = env::var_os("LD_LIBRARY_PATH").unwrap_or_default();
    if env::split_paths(&path).next().as_deref() == Some(&folder) {
        return;
    }
    let program = env::current_exe().expect("a process knows its program");
    let mut again = Command::new(program);
    environment(again.args(env::args_os().skip(1)), &folder.join(".."));
    let error = again.exec();
    panic!("the test program cannot be started anew: {error}");
}
