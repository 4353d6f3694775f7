//! Lays out the folder that tests put into `LD_LIBRARY_PATH`: links with the names the libraries are looked for by.
//!
//! Cargo builds the shared libraries of path dependencies into `target/PROFILE/deps`, three folders above `OUT_DIR`;
//! they may be built after this script has run, so the links may point nowhere until then.

use std::env;
use std::io;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};

/// The crate's library, and the names it stands in for. A second name without the version: some look for that first,
/// and on a machine with a real driver they would find it.
const LIBRARIES: [(&str, &[&str]); 2] = [
    ("libwatchpost_standin_cuda.so", &["libcuda.so.1", "libcuda.so"]),
    ("libwatchpost_standin_nvcuvid.so", &["libnvcuvid.so.1", "libnvcuvid.so"]),
];

fn main() -> io::Result<()> {
    println!("cargo:rerun-if-changed=build.rs");
    let out = PathBuf::from(env::var_os("OUT_DIR").ok_or_else(|| io::Error::other("OUT_DIR is not set"))?);
    let folder = out.join("lib");
    std::fs::create_dir_all(&folder)?;
    for (built, names) in LIBRARIES {
        for name in names {
            link(&Path::new("../../../../deps").join(built), &folder.join(name))?;
        }
    }
    // The libraries get there when a test asks for them: see `tensorrt` in lib.rs.
    for major in ["10", "11"] {
        let folder = out.join(format!("tensorrt{major}"));
        std::fs::create_dir_all(&folder)?;
        trtexec(major, &folder.join("trtexec"))?;
    }
    Ok(())
}

/// The program is tiny: what it does is in the library beside it.
fn trtexec(major: &str, at: &Path) -> io::Result<()> {
    let source = "nvinfer/shim/trtexec.c";
    println!("cargo:rerun-if-changed={source}");
    let mut compiler = cc::Build::new().get_compiler().to_command();
    compiler
        .arg(format!("-DSTANDIN_LIBRARY=\"libnvinfer.so.{major}\""))
        .arg("-o")
        .arg(at)
        .args([source, "-ldl"]);
    match compiler.status()? {
        status if status.success() => Ok(()),
        status => Err(io::Error::other(format!("{compiler:?}: {status}"))),
    }
}

fn link(to: &Path, at: &Path) -> io::Result<()> {
    match std::fs::remove_file(at) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
        _ => {}
    }
    symlink(to, at)
}
