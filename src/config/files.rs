//! Reads the main file and the drop-ins beside it.

use std::fs;
use std::hash::{DefaultHasher, Hash, Hasher};
use std::io::{ErrorKind, Read};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use super::problem::{ConfigErrors, Location, Problem, Severity};
use super::tree::Layers;

/// Configuration is written by people.
const MOST_FILE_BYTES: u64 = 1 << 20;
const MOST_DROP_INS: usize = 256;

/// Adds the main file, then `conf.d/*.toml` beside it in the order of their names.
///
/// # Errors
/// The main file does not exist. Everything else is noted in the layers, so that it is told together.
pub(super) fn add_files(layers: &mut Layers, main: &Path) -> Result<(), ConfigErrors> {
    if let Err(error) = fs::metadata(main)
        && error.kind() == ErrorKind::NotFound
    {
        return Err(ConfigErrors::new(vec![no_file(main)]));
    }
    let short_name = main.file_name().map_or_else(|| display(main), |name| display(Path::new(name)));
    add_file(layers, main, &short_name);
    let folder = main.parent().unwrap_or(Path::new("")).join("conf.d");
    match drop_ins(&folder) {
        Ok(paths) => {
            for path in paths {
                let name = path.file_name().map(|name| display(Path::new(name))).unwrap_or_default();
                add_file(layers, &path, &format!("conf.d/{name}"));
            }
        }
        Err(message) => layers.add_unreadable(&display(&folder), message),
    }
    Ok(())
}

/// See [`super::fingerprint`].
pub(super) fn fingerprint(main: &Path) -> u64 {
    let folder = main.parent().unwrap_or(Path::new("")).join("conf.d");
    let mut hasher = DefaultHasher::new();
    for path in std::iter::once(main.to_owned()).chain(drop_ins(&folder).unwrap_or_default()) {
        let metadata = fs::metadata(&path).ok();
        // A file that is replaced has another number, even if its time was set back.
        metadata.map(|of| (of.len(), of.modified().ok(), of.ino())).hash(&mut hasher);
        path.hash(&mut hasher);
    }
    hasher.finish()
}

fn no_file(main: &Path) -> Problem {
    let location = Location::WholeFile { name: display(main) };
    Problem::whole(Severity::Error, location, "there is no configuration file here").with_hint(FIRST_STEPS)
}

/// What to do without a configuration.
pub(super) const FIRST_STEPS: &str = "\
to see watchpost work without a camera: watchpost demo
to use another file: -c FILE
a first configuration (names of models: watchpost model list):
    [detector]
    model = \"yolox-nano\"

    [camera.gate]
    url = \"rtsp://10.0.0.12/stream\"";

fn drop_ins(folder: &Path) -> Result<Vec<PathBuf>, String> {
    let entries = match fs::read_dir(folder) {
        Ok(entries) => entries,
        Err(error) if error.kind() == ErrorKind::NotFound => return Ok(Vec::new()),
        Err(error) => return Err(unreadable(&error)),
    };
    let mut paths = Vec::new();
    for entry in entries {
        let path = entry.map_err(|error| unreadable(&error))?.path();
        let hidden = path.file_name().is_some_and(|name| name.as_encoded_bytes().starts_with(b"."));
        if path.extension().is_some_and(|extension| extension == "toml") && !hidden {
            paths.push(path);
        }
        if paths.len() > MOST_DROP_INS {
            return Err(format!("holds more than {MOST_DROP_INS} files"));
        }
    }
    paths.sort();
    Ok(paths)
}

fn add_file(layers: &mut Layers, path: &Path, short_name: &str) {
    match read_text(path, MOST_FILE_BYTES) {
        Ok(text) => layers.add_document(&display(path), short_name, &text),
        Err(message) => layers.add_unreadable(&display(path), message),
    }
}

/// The text of a regular file of at most `most_bytes`. Never waits: a pipe or device is refused.
///
/// # Errors
/// What is wrong, as the end of a sentence that begins with the file; never quotes its text.
pub(super) fn read_text(path: &Path, most_bytes: u64) -> Result<String, String> {
    let metadata = fs::metadata(path).map_err(|error| unreadable(&error))?;
    if !metadata.is_file() {
        return Err("is not a regular file".to_owned());
    }
    let file = fs::File::open(path).map_err(|error| unreadable(&error))?;
    let mut bytes = Vec::new();
    file.take(most_bytes + 1).read_to_end(&mut bytes).map_err(|error| unreadable(&error))?;
    if bytes.len() as u64 > most_bytes {
        return Err(format!("is larger than {}", super::measure::show_size(most_bytes)));
    }
    String::from_utf8(bytes).map_err(|error| {
        let line = error.as_bytes()[..error.utf8_error().valid_up_to()]
            .iter()
            .filter(|byte| **byte == b'\n')
            .count();
        format!("is not UTF-8 text (line {})", line + 1)
    })
}

fn unreadable(error: &std::io::Error) -> String {
    match error.kind() {
        ErrorKind::NotFound => "does not exist".to_owned(),
        ErrorKind::PermissionDenied => "may not be read by the user this program runs as".to_owned(),
        _ => format!("cannot be read: {error}"),
    }
}

fn display(path: &Path) -> String {
    path.display().to_string()
}
