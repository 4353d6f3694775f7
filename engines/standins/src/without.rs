//! Libraries that lack a symbol, as an older driver does.

use std::io;
use std::path::Path;
use std::{fs, iter};

use crate::folder;

/// Fills the folder `to` with the stand-ins, where `library` (say, `libcuda.so.1`) has no symbol called `symbol`: in its
/// tables that name begins with another letter.
///
/// # Errors
///
/// A file cannot be read or written, or the library does not have the symbol in the first place.
pub fn without(library: &str, symbol: &str, to: &Path) -> io::Result<()> {
    without_of(&folder(), library, symbol, to)
}

/// The same with the libraries of another folder: one of [`crate::tensorrt()`].
///
/// # Errors
///
/// As [`without`].
pub fn without_of(from: &Path, library: &str, symbol: &str, to: &Path) -> io::Result<()> {
    for entry in fs::read_dir(from)? {
        let entry = entry?;
        let mut bytes = fs::read(entry.path())?;
        let name = entry.file_name();
        // `libcuda.so` is the same library as `libcuda.so.1`.
        let is_it = name == library || library.rsplit_once('.').is_some_and(|(short, _)| name == short);
        if is_it && !rename(&mut bytes, symbol) {
            return Err(io::Error::other(format!("{library} has no symbol {symbol}")));
        }
        fs::write(to.join(&name), bytes)?;
        fs::set_permissions(to.join(&name), fs::metadata(entry.path())?.permissions())?;
    }
    Ok(())
}

fn rename(bytes: &mut [u8], symbol: &str) -> bool {
    let wanted: Vec<u8> = iter::once(0).chain(symbol.bytes()).chain(iter::once(0)).collect();
    let places: Vec<usize> = bytes
        .windows(wanted.len())
        .enumerate()
        .filter(|(_, window)| *window == wanted)
        .map(|(at, _)| at + 1)
        .collect();
    places.iter().for_each(|at| bytes[*at] = b'X');
    !places.is_empty()
}
