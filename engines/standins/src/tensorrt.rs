//! The stand-in TensorRT, one folder a major, as an installation has it.

use std::fs;
use std::io;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::process;
use std::sync::atomic::{AtomicU32, Ordering};

/// The folder that holds `libnvinfer.so.MAJOR`, `libnvonnxparser.so.MAJOR` and `trtexec`, major 10 or 11. It is no part of
/// [`crate::environment`]: a test that wants TensorRT names a library in `WATCHPOST_TENSORRT_LIB`.
///
/// # Panics
///
/// When Cargo has not built a library, or the major is another.
pub fn tensorrt(major: u32) -> PathBuf {
    let out = Path::new(env!("OUT_DIR"));
    let folder = out.join(format!("tensorrt{major}"));
    for library in ["nvinfer", "nvonnxparser"] {
        let built = out.join(format!("../../../deps/libwatchpost_standin_{library}{major}.so"));
        let name = folder.join(format!("lib{library}.so.{major}"));
        // Files and not symbolic links: who resolves those would look for the parser in Cargo's folder.
        same_file(&built, &name).unwrap_or_else(|error| {
            panic!("{} -> {}: {error}: build the test with cargo", name.display(), built.display())
        });
    }
    folder
}

/// Makes `name` the same file as `built`; several processes may do so at once.
fn same_file(built: &Path, name: &Path) -> io::Result<()> {
    static NUMBER: AtomicU32 = AtomicU32::new(0);
    let wanted = fs::metadata(built)?;
    if fs::metadata(name).is_ok_and(|there| (there.dev(), there.ino()) == (wanted.dev(), wanted.ino())) {
        return Ok(());
    }
    let number = NUMBER.fetch_add(1, Ordering::Relaxed);
    let new = name.with_extension(format!("new-{}-{number}", process::id()));
    fs::hard_link(built, &new)?;
    fs::rename(&new, name)?;
    // Renaming one name of a file to another of the same file does nothing, and leaves the first.
    match fs::remove_file(&new) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
        _ => Ok(()),
    }
}
