//! Finding the library, and seeing what it is before anything of it is trusted.

use std::env;
use std::ffi::{CString, c_void};
use std::fmt;
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};

use crate::abi::{Kind, Object, Raw};
use crate::error::TensorRtError;
use crate::logger::{self, Since};
use crate::version::{Major, Version};

/// Names a library file, or a folder with one, before all other places.
pub const LIBRARY_VARIABLE: &str = "WATCHPOST_TENSORRT_LIB";

/// Folders of a Linux system: Debian and JetPack packages, and the archives as they are usually unpacked.
const SYSTEM: [&str; 9] = [
    "/usr/lib/x86_64-linux-gnu",
    "/usr/lib/aarch64-linux-gnu",
    "/usr/lib/aarch64-linux-gnu/tegra",
    "/usr/local/lib",
    "/usr/lib64",
    "/usr/lib",
    "/usr/local/tensorrt/lib",
    "/opt/tensorrt/lib",
    "/usr/local/TensorRT/lib",
];
/// Folders of a Python environment, below `lib/python3.*/site-packages`.
const PYTHON: [&str; 2] = ["tensorrt_libs", "tensorrt_lean_libs"];
/// Names of the library, by how much we like them: the full one, then the one that only runs engines.
const STEMS: [&str; 2] = ["libnvinfer.so", "libnvinfer_lean.so"];
/// The parser's library, before its major.
const PARSER_STEM: &str = "libnvonnxparser.so.";
/// Entries of one folder that are looked at.
const ENTRIES_MAX: usize = 20_000;

/// Why there is no TensorRT, in one line.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Unavailable(String);

impl Unavailable {
    pub(crate) fn new(line: impl Into<String>) -> Self {
        Self(line.into())
    }
}

impl fmt::Display for Unavailable {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl std::error::Error for Unavailable {}

type Create = unsafe extern "C" fn(Raw, i32) -> Raw;
type Number = unsafe extern "C" fn() -> i32;

#[derive(Debug)]
struct Loaded {
    path: PathBuf,
    version: Version,
    major: Major,
    create_runtime: Create,
    create_builder: Option<Create>,
    /// Last: the functions above are in it.
    _library: libloading::Library,
}

/// A library that has been loaded and is of a version that we know.
#[derive(Debug, Clone)]
pub struct Library(Arc<Loaded>);

/// What has been loaded stays: libnvinfer keeps threads, handlers and our logger until the process ends, so unloading
/// it would pull the ground from under them. One entry a file.
static LOADED: Mutex<Vec<Library>> = Mutex::new(Vec::new());

/// The best TensorRT of this box: a GPU is there, the library is there, and its version is one that we know. Loads it,
/// and makes no context on the GPU.
///
/// # Errors
/// [`Unavailable`]: in one line, what is missing and what to do.
pub fn find() -> Result<Library, Unavailable> {
    let devices = watchpost_cuda::devices().map_err(|error| Unavailable::new(error.to_string()))?;
    if devices.is_empty() {
        return Err(Unavailable::new("the NVIDIA driver is there and shows no GPU; see `nvidia-smi`"));
    }
    find_library()
}

/// The best library of this box, whether there is a GPU or not.
///
/// # Errors
/// As [`find`].
pub fn find_library() -> Result<Library, Unavailable> {
    let candidates = match env::var_os(LIBRARY_VARIABLE).map(PathBuf::from) {
        Some(named) if named.is_dir() => candidates(&[named]),
        Some(named) if named.is_file() => vec![named],
        Some(named) => {
            let line = format!("{LIBRARY_VARIABLE} names {}, which is not there", named.display());
            return Err(Unavailable(line));
        }
        None => candidates(&folders()),
    };
    if candidates.is_empty() {
        return Err(Unavailable(format!(
            "no libnvinfer.so.10 or .11 in the system's library folders, in $LD_LIBRARY_PATH or in $VIRTUAL_ENV; \
             install TensorRT, or name its library with {LIBRARY_VARIABLE}"
        )));
    }
    let mut misses = Vec::new();
    for path in candidates {
        match Library::open(&path) {
            Ok(library) => return Ok(library),
            Err(error) => misses.push(error.to_string()),
        }
    }
    Err(Unavailable(misses.join("; ")))
}

fn folders() -> Vec<PathBuf> {
    let asked = env::var_os("LD_LIBRARY_PATH").unwrap_or_default();
    let mut folders: Vec<PathBuf> = env::split_paths(&asked).filter(|path| path.is_absolute()).collect();
    folders.extend(SYSTEM.iter().map(PathBuf::from));
    if let Some(environment) = env::var_os("VIRTUAL_ENV") {
        folders.extend(python_folders(Path::new(&environment)));
    }
    folders
}

fn python_folders(environment: &Path) -> Vec<PathBuf> {
    let Ok(entries) = fs::read_dir(environment.join("lib")) else { return Vec::new() };
    let pythons = entries.take(ENTRIES_MAX).filter_map(|entry| entry.ok().map(|entry| entry.path()));
    let packages = pythons.map(|python| python.join("site-packages"));
    packages.flat_map(|site| PYTHON.map(|name| site.join(name))).filter(|path| path.is_dir()).collect()
}

/// Files that may be the library, the best first: full before lean, a known major before others, the newest first, an
/// earlier folder before a later one.
fn candidates(folders: &[PathBuf]) -> Vec<PathBuf> {
    let mut found = Vec::new();
    for (place, folder) in folders.iter().enumerate() {
        let Ok(entries) = fs::read_dir(folder) else { continue };
        for entry in entries.take(ENTRIES_MAX).flatten() {
            let path = entry.path();
            let Some((lean, numbers)) = path.file_name().and_then(|name| parse(name.to_str()?)) else {
                continue;
            };
            let known = matches!(numbers.first(), None | Some(10 | 11));
            found.push(((lean, !known, std::cmp::Reverse(numbers), place), path));
        }
    }
    found.sort();
    found.into_iter().map(|(_, path)| path).collect()
}

/// `libnvinfer.so.10.16.1` -> not lean, [10, 16, 1].
fn parse(name: &str) -> Option<(bool, Vec<u32>)> {
    let (lean, rest) =
        STEMS.iter().enumerate().find_map(|(index, stem)| Some((index == 1, name.strip_prefix(stem)?)))?;
    let numbers = rest.split('.').skip(1).map(str::parse).collect::<Result<Vec<u32>, _>>().ok()?;
    rest.is_empty()
        .then(Vec::new)
        .or((rest.starts_with('.')).then_some(numbers))
        .map(|numbers| (lean, numbers))
}

impl Library {
    /// Loads a file and asks for its version before anything else. Asks for no GPU.
    ///
    /// # Errors
    /// [`TensorRtError::Library`], [`TensorRtError::UnsupportedVersion`].
    pub fn open(path: &Path) -> Result<Self, TensorRtError> {
        // Links stay what they are: what belongs to the library lies beside the name that was asked for.
        let path = std::path::absolute(path).unwrap_or_else(|_| path.to_owned());
        let mut known = LOADED.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(library) = known.iter().find(|library| library.0.path == path) {
            return Ok(library.clone());
        }
        let library = Self(Arc::new(load(path)?));
        known.push(library.clone());
        Ok(library)
    }

    /// Its version, as it says itself.
    pub fn version(&self) -> Version {
        self.0.version
    }

    /// The file.
    pub fn path(&self) -> &Path {
        &self.0.path
    }

    /// Whether it can only run engines, not build them.
    pub fn is_lean(&self) -> bool {
        self.0.create_builder.is_none()
    }

    /// Makes a runtime and lets it go again: the driver is new enough, the library works. Makes a context on the GPU.
    ///
    /// # Errors
    /// [`TensorRtError::Start`].
    pub fn probe(&self) -> Result<(), TensorRtError> {
        self.runtime().map(drop)
    }

    pub(crate) fn major(&self) -> Major {
        self.0.major
    }

    /// `IRuntime`.
    pub(crate) fn runtime(&self) -> Result<Object, TensorRtError> {
        self.create(self.0.create_runtime)
    }

    /// `IBuilder`.
    pub(crate) fn builder(&self) -> Result<Object, TensorRtError> {
        let Some(create) = self.0.create_builder else {
            return Err(TensorRtError::Build(format!(
                "{} is the lean runtime, which cannot build engines; install the full TensorRT",
                self.path().display()
            )));
        };
        self.create(create)
    }

    fn create(&self, create: Create) -> Result<Object, TensorRtError> {
        let since = Since::now();
        let version = self.version();
        // SAFETY: the version was read first and its interface is known: this is the function's type, and the logger
        // has the layout of this major and lives as long as the process.
        let object = unsafe {
            let raw = create(logger::object(self.major()), version.encode());
            Object::adopt(raw, Kind::Ours, version)
        };
        object.ok_or_else(|| TensorRtError::Start { version, words: since.words() })
    }
}

/// The ONNX parser beside a library, of the same major.
pub(crate) fn parser_beside(library: &Library) -> Option<PathBuf> {
    let folder = library.path().parent()?;
    let stem = format!("{PARSER_STEM}{}", library.version().major);
    let plain = folder.join(&stem);
    if plain.is_file() {
        return Some(plain);
    }
    let versioned = format!("{stem}.");
    let entries = fs::read_dir(folder).ok()?.take(ENTRIES_MAX).flatten().map(|entry| entry.path());
    entries
        .filter(|path| path.file_name().is_some_and(|name| name.to_string_lossy().starts_with(&versioned)))
        .max()
}

fn load(path: PathBuf) -> Result<Loaded, TensorRtError> {
    let refuse = |reason: String| TensorRtError::Library { path: path.clone(), reason };
    // SAFETY: loading runs the library's initialisers; it is the box's own TensorRT, or what its owner names.
    let library = unsafe { libloading::Library::new(&path) }.map_err(|error| refuse(words(&error)))?;
    // SAFETY: this function takes nothing and returns an int in every version there has been.
    let version = unsafe { symbol::<Number>(&library, "getInferLibVersion") }.map_err(&refuse)?;
    // SAFETY: as above.
    let mut version = Version::decode(unsafe { version() });
    let Some(major) = version.known().filter(|_| version.is_supported()) else {
        return Err(TensorRtError::UnsupportedVersion { path, version });
    };
    // SAFETY: as above; it came with 10.0.
    if let Ok(build) = unsafe { symbol::<Number>(&library, "getInferLibBuildVersion") } {
        // SAFETY: as above.
        version.build = u32::try_from(unsafe { build() }).unwrap_or(0);
    }
    // SAFETY: their types in all versions that `is_supported` lets through.
    let (create_runtime, create_builder) = unsafe {
        let runtime = symbol::<Create>(&library, "createInferRuntime_INTERNAL").map_err(&refuse)?;
        (runtime, symbol::<Create>(&library, "createInferBuilder_INTERNAL").ok())
    };
    Ok(Loaded { path, version, major, create_runtime, create_builder, _library: library })
}

/// A function of a library, by name.
///
/// # Safety
/// It is of the type `F`, and is not called after the library is gone.
pub(crate) unsafe fn symbol<F: Copy>(library: &libloading::Library, name: &str) -> Result<F, String> {
    const { assert!(size_of::<F>() == size_of::<*const c_void>()) };
    let missing = || format!("it has no function {name}");
    let text = CString::new(name).map_err(|_| missing())?;
    // SAFETY: as the caller promises.
    unsafe { library.get::<F>(text.as_bytes_with_nul()) }.map(|symbol| *symbol).map_err(|_| missing())
}

/// The loader's words in one line.
pub(crate) fn words(error: &libloading::Error) -> String {
    let cause = std::error::Error::source(error).map(ToString::to_string);
    cause.unwrap_or_else(|| error.to_string()).replace('\n', " ")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_told_apart() {
        assert_eq!(parse("libnvinfer.so"), Some((false, vec![])));
        assert_eq!(parse("libnvinfer.so.10"), Some((false, vec![10])));
        assert_eq!(parse("libnvinfer.so.10.16.1"), Some((false, vec![10, 16, 1])));
        assert_eq!(parse("libnvinfer_lean.so.11"), Some((true, vec![11])));
        for other in
            ["libnvinfer_plugin.so.10", "libnvinfer.so.10.old", "libnvinfer.sox", "libnvinfer_dispatch.so.10"]
        {
            assert_eq!(parse(other), None, "{other}");
        }
    }

    #[test]
    fn the_newest_known_full_library_comes_first() {
        let first = tempfile::tempdir().unwrap();
        let second = tempfile::tempdir().unwrap();
        for name in
            ["libnvinfer.so.8", "libnvinfer.so.12", "libnvinfer.so.10", "libnvinfer_lean.so.11", "libz.so.1"]
        {
            fs::write(first.path().join(name), "").unwrap();
        }
        for name in ["libnvinfer.so.10", "libnvinfer.so.11", "libnvinfer.so.10.3.0"] {
            fs::write(second.path().join(name), "").unwrap();
        }
        let found = candidates(&[first.path().to_owned(), second.path().to_owned()]);
        let expected = [
            second.path().join("libnvinfer.so.11"),
            second.path().join("libnvinfer.so.10.3.0"),
            first.path().join("libnvinfer.so.10"),
            second.path().join("libnvinfer.so.10"),
            first.path().join("libnvinfer.so.12"),
            first.path().join("libnvinfer.so.8"),
            first.path().join("libnvinfer_lean.so.11"),
        ];
        assert_eq!(found, expected);
    }

    #[test]
    fn a_file_that_is_no_library_is_refused_with_its_name() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("libnvinfer.so.10");
        fs::write(&path, "not a library").unwrap();
        let error = Library::open(&path).unwrap_err();
        assert!(matches!(error, TensorRtError::Library { .. }), "{error}");
        assert!(error.to_string().contains("libnvinfer.so.10"), "{error}");
        assert!(!error.to_string().contains('\n'), "{error}");
    }
}
