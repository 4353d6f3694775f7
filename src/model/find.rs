//! Where models are looked for, and whether what is found is what it says it is.

use std::env;
use std::fs::{self, File};
use std::io::{self, Read};
use std::path::{Path, PathBuf};

use sha2::{Digest, Sha256};

use super::catalogue::catalogue;
use super::conclude::settle;
use super::manifest_text::nearest;
use super::{
    InspectError, Manifest, ModelError, ModelSource, OnnxFacts, Overrides, conclude_file, inspect,
    inspect_source,
};
use crate::folders;

/// Manifests that one folder may hold before we stop reading it.
const MAX_LISTED: usize = 1000;

/// One manifest in a folder, or why it is none.
#[derive(Debug)]
pub struct Listed {
    /// The manifest's file; `None` for a model that is compiled in.
    pub path: Option<PathBuf>,
    /// What it says, with its weights not yet looked at.
    pub manifest: Result<Manifest, ModelError>,
}

/// The folders where manifests are looked for, nearest first.
pub fn search_dirs() -> Vec<PathBuf> {
    let mut dirs = vec![PathBuf::from("engines/models")];
    let data_home = folders::named_by("XDG_DATA_HOME")
        .or_else(|| folders::named_by("HOME").map(|home| home.join(".local/share")));
    dirs.extend(data_home.map(|home| home.join("watchpost/models")));
    let state = folders::named_by("STATE_DIRECTORY");
    dirs.push(state.unwrap_or_else(|| PathBuf::from("/var/lib/watchpost")).join("models"));
    dirs.push(PathBuf::from("/usr/share/watchpost/models"));
    let executable = env::current_exe().ok();
    let prefix = executable.as_deref().and_then(Path::parent).and_then(Path::parent);
    dirs.extend(prefix.map(|prefix| prefix.join("share/watchpost/models")));
    dirs.dedup();
    dirs
}

/// The project's own small model, so that `watchpost demo` works from any folder.
const DEMO: (&str, &[u8]) =
    (include_str!("../../engines/models/demo.toml"), include_bytes!("../../engines/models/demo.onnx"));

/// Models that are compiled in.
fn embedded() -> Vec<Result<Manifest, ModelError>> {
    vec![Manifest::embedded(DEMO.0, DEMO.1)]
}

/// Every manifest in `dirs` and those compiled in; a name that occurs twice is used from its first place. Models that can
/// be fetched and are not described in `dirs` come last.
pub fn list(dirs: &[PathBuf]) -> Vec<Listed> {
    let mut listed = Vec::new();
    for dir in dirs {
        let Ok(entries) = fs::read_dir(dir) else { continue };
        let mut paths: Vec<PathBuf> = entries
            .take(MAX_LISTED)
            .filter_map(|entry| entry.ok().map(|entry| entry.path()))
            .filter(|path| has_extension(path, "toml") && path.is_file())
            .collect();
        paths.sort();
        listed.extend(
            paths.into_iter().map(|path| Listed { manifest: Manifest::load(&path), path: Some(path) }),
        );
    }
    for manifest in embedded() {
        // In the source tree its own files are found already.
        let same = |listed: &Listed| matches!((&listed.manifest, &manifest), (Ok(a), Ok(b)) if a.name == b.name && a.sha256 == b.sha256);
        if !listed.iter().any(same) {
            listed.push(Listed { path: None, manifest });
        }
    }
    for manifest in catalogue() {
        // What somebody calls so is what they mean by it.
        let same =
            |listed: &Listed| matches!((&listed.manifest, &manifest), (Ok(a), Ok(b)) if a.name == b.name);
        if !listed.iter().any(same) {
            listed.push(Listed { path: None, manifest });
        }
    }
    listed
}

/// Finds a model by name in `dirs`, or by the path of its manifest or ONNX file, and verifies it.
///
/// An ONNX file without a manifest beside it (`model.toml` for `model.onnx`) gets one in memory; its
/// `notes` say what was concluded and what could not be told.
///
/// # Errors
/// [`ModelError`]; every message says which file and what to do.
pub fn find(name_or_path: &str, dirs: &[PathBuf]) -> Result<Manifest, ModelError> {
    let path = Path::new(name_or_path);
    let manifest = if has_extension(path, "toml") {
        Manifest::load(path)?
    } else if has_extension(path, "onnx") {
        let beside = path.with_extension("toml");
        // A manifest beside the file may describe another one.
        match beside.is_file().then(|| Manifest::load(&beside)).transpose()? {
            Some(manifest) if manifest.file().is_some_and(|file| file.file_name() == path.file_name()) => {
                manifest
            }
            _ => return described(path),
        }
    } else if name_or_path.contains('/') {
        return Err(ModelError::Unknown {
            name: name_or_path.to_owned(),
            hint: "a path must end in .toml (a manifest) or .onnx (a model)".to_owned(),
        });
    } else {
        by_name(name_or_path, dirs)?
    };
    verify(&manifest)?;
    Ok(manifest)
}

fn has_extension(path: &Path, extension: &str) -> bool {
    path.extension().is_some_and(|found| found.eq_ignore_ascii_case(extension))
}

/// The first manifest of this name whose weights are there, or else the first: what is described in
/// `/usr/share` may lie in `/var/lib`, and another folder may describe the same model and have it.
fn by_name(name: &str, dirs: &[PathBuf]) -> Result<Manifest, ModelError> {
    let (mut known, mut without_weights) = (Vec::new(), None);
    for listed in list(dirs) {
        let file_stem = listed.path.as_ref().and_then(|path| path.file_stem()).and_then(|stem| stem.to_str());
        match listed.manifest {
            Ok(mut manifest) if manifest.name == name => {
                if let Some(source) = locate(&manifest, dirs) {
                    manifest.source = source;
                    return Ok(manifest);
                }
                without_weights.get_or_insert(manifest);
            }
            Ok(manifest) => known.push(manifest.name),
            // The one that was meant is broken: that is the error to show.
            Err(error) if file_stem == Some(name) => return Err(error),
            Err(_) => {}
        }
    }
    if let Some(manifest) = without_weights {
        return Ok(manifest);
    }
    known.sort();
    known.dedup();
    let suggestion = nearest(name, known.iter().map(String::as_str))
        .map_or_else(String::new, |nearest| format!("did you mean {nearest:?}? "));
    let known = if known.is_empty() { "none".to_owned() } else { known.join(", ") };
    let places = dirs.iter().map(|dir| dir.display().to_string()).collect::<Vec<_>>().join(", ");
    Err(ModelError::Unknown {
        name: name.to_owned(),
        hint: format!(
            "{suggestion}models found: {known}; looked in {places}. `watchpost model list` shows those that can be \
             fetched; `watchpost model add FILE.onnx` describes your own; the path of an .onnx file works, too"
        ),
    })
}

/// Where the weights of a manifest are: beside it, or under the same file name in one of `dirs`. That it is
/// the right file, its digest proves later.
pub fn locate(manifest: &Manifest, dirs: &[PathBuf]) -> Option<ModelSource> {
    let Some(beside) = manifest.file() else { return Some(manifest.source.clone()) };
    let elsewhere =
        beside.file_name().into_iter().flat_map(|name| dirs.iter().map(move |dir| dir.join(name)));
    std::iter::once(beside.clone()).chain(elsewhere).find(|path| path.is_file()).map(ModelSource::File)
}

fn described(path: &Path) -> Result<Manifest, ModelError> {
    let name = path.file_stem().map_or_else(|| "model".into(), |stem| stem.to_string_lossy());
    let (_, conclusion) = conclude_file(path, &name, &Overrides::default())?;
    let mut manifest = conclusion.manifest;
    manifest.source = ModelSource::File(path.to_owned());
    manifest.sha256 = digest(&manifest.source).map_err(|cause| ModelError::unreadable(path, cause))?;
    manifest.notes = conclusion.notes.into_iter().chain(conclusion.unknown).collect();
    Ok(manifest)
}

/// Looks into an ONNX file.
///
/// # Errors
/// [`ModelError::Unreadable`], [`ModelError::Inspect`].
pub fn look_into(path: &Path) -> Result<OnnxFacts, ModelError> {
    inspect(path).map_err(|cause| inspect_error(path, cause))
}

fn inspect_error(path: &Path, cause: InspectError) -> ModelError {
    match cause {
        InspectError::Unreadable(cause) => ModelError::unreadable(path, cause),
        cause => ModelError::Inspect { path: path.display().to_string(), cause },
    }
}

/// Checks that the weights are there, are the ones the manifest was written for, and have the input and
/// outputs it describes. Says what the file says about itself.
///
/// # Errors
/// [`ModelError::FileMissing`], [`ModelError::Digest`], [`ModelError::Inspect`], [`ModelError::Mismatch`].
pub fn verify(manifest: &Manifest) -> Result<OnnxFacts, ModelError> {
    let path = manifest.source.to_string();
    if let ModelSource::File(file) = &manifest.source
        && fs::metadata(file).is_err_and(|error| error.kind() == io::ErrorKind::NotFound)
    {
        return Err(missing(manifest, file));
    }
    // Looked into before it is hashed: "is truncated" says more than "has another digest".
    let facts = inspect_source(&manifest.source).map_err(|cause| inspect_error(Path::new(&path), cause))?;
    let actual = digest(&manifest.source).map_err(|cause| ModelError::unreadable(Path::new(&path), cause))?;
    if actual != manifest.sha256 {
        return Err(ModelError::Digest { path, expected: manifest.sha256.clone(), actual });
    }
    check_input(manifest, &facts)?;
    check_known_outputs(manifest, &facts)?;
    Ok(facts)
}

/// The manifest is there and its weights are not: they can be fetched, or put there.
fn missing(manifest: &Manifest, file: &Path) -> ModelError {
    let (name, path) = (manifest.name.clone(), file.to_owned());
    match &manifest.download {
        Some(download) => {
            let mebibytes = download.size_bytes as f64 / f64::from(1 << 20);
            ModelError::NotPulled { name, mebibytes, license: manifest.license.clone() }
        }
        None => ModelError::FileMissing { name, path, sha256: manifest.sha256.clone() },
    }
}

/// SHA-256 in lower-case hexadecimal digits; the file is read piece by piece.
///
/// # Errors
/// When the file cannot be read.
pub fn digest(source: &ModelSource) -> io::Result<String> {
    let mut hasher = Sha256::new();
    match source {
        ModelSource::Embedded(bytes) => hasher.update(bytes),
        ModelSource::File(path) => {
            let mut file = File::open(path)?;
            let mut buffer = vec![0; 64 << 10];
            loop {
                match file.read(&mut buffer) {
                    Ok(0) => break,
                    Ok(count) => hasher.update(&buffer[..count]),
                    Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                    Err(error) => return Err(error),
                }
            }
        }
    }
    Ok(hasher.finalize().iter().map(|byte| format!("{byte:02x}")).collect())
}

fn check_input(manifest: &Manifest, facts: &OnnxFacts) -> Result<(), ModelError> {
    let refuse = |reason: String| Err(ModelError::Mismatch { name: manifest.name.clone(), reason });
    let said = (manifest.input.width, manifest.input.height);
    let picture = match settle(facts, Some(said)) {
        Ok(picture) => picture,
        Err(reason) => return refuse(format!("its file cannot be fed: {reason}")),
    };
    if (picture.width, picture.height) != said {
        return refuse(format!(
            "its file's input has shape {:?}, and [input] in the manifest says {}x{}; correct the manifest, or write it \
             anew with `watchpost model add {} --force`",
            picture.shape(),
            said.0,
            said.1,
            manifest.source
        ));
    }
    Ok(())
}

/// Outputs are checked here where the file fixes them, and again by the engine when it has run.
fn check_known_outputs(manifest: &Manifest, facts: &OnnxFacts) -> Result<(), ModelError> {
    // Each picture of a batch gets its share.
    let batch =
        settle(facts, Some((manifest.input.width, manifest.input.height))).map_or(1, |picture| picture.batch);
    let shapes: Option<Vec<Vec<usize>>> = facts
        .outputs
        .iter()
        .map(|output| {
            let dims = output.shape.as_ref()?.iter().enumerate();
            dims.map(|(axis, dim)| match dim.fixed() {
                None => (axis == 0).then_some(1),
                Some(fixed) => Some(if axis == 0 && fixed == batch { 1 } else { fixed }),
            })
            .collect()
        })
        .collect();
    match shapes {
        None => Ok(()),
        Some(shapes) => {
            let shapes: Vec<&[usize]> = shapes.iter().map(Vec::as_slice).collect();
            manifest.check_outputs(&shapes)
        }
    }
}
