//! The committed PTX is the committed source's, for the targets and at the ISA that we promise.

use std::ffi::{CStr, CString, c_char, c_int, c_void};
use std::fs;
use std::path::{Path, PathBuf};

use libloading::Library;
use sha2::{Digest, Sha256};

/// What every driver of CUDA 12 and JetPack 6 takes.
const ISA_MAX: (u32, u32) = (8, 2);
const TARGETS: [(&str, &str); 2] = [("compute_72", "sm_72"), ("compute_75", "sm_75")];
const LIBRARY_VARIABLE: &str = "WATCHPOST_NVRTC_LIB";

fn kernels() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("kernels")
}

fn source() -> String {
    fs::read_to_string(kernels().join("letterbox.cu")).expect("the source")
}

fn committed(target: &str) -> String {
    fs::read_to_string(kernels().join(format!("letterbox.{target}.ptx"))).expect("the PTX")
}

/// What follows `word` on its line.
fn after<'a>(text: &'a str, word: &str) -> &'a str {
    let line = text.lines().find_map(|line| line.strip_prefix(word));
    line.unwrap_or_else(|| panic!("no line starts with {word}")).trim()
}

#[test]
fn the_committed_ptx_is_of_this_source_for_its_target_and_old_enough() {
    let digest: String = Sha256::digest(source()).iter().map(|byte| format!("{byte:02x}")).collect();
    for (compute, sm) in TARGETS {
        let ptx = committed(compute);
        let header = after(&ptx, "// source sha256 ");
        assert!(
            header.starts_with(&digest),
            "letterbox.cu was changed: run engines/cuda/kernels/make_ptx.sh"
        );
        assert_eq!(after(&ptx, ".target "), sm);
        let isa = after(&ptx, ".version ").split_once('.').expect("two numbers");
        assert!((isa.0.parse().unwrap(), isa.1.parse().unwrap()) <= ISA_MAX, "PTX ISA {isa:?} is too new");
        for kernel in ["letterbox", "to_half"] {
            assert!(ptx.contains(&format!(".visible .entry {kernel}(")), "{compute} has no {kernel}");
        }
        assert!(!ptx.contains(".f64"), "double precision is 32 to 64 times slower on these GPUs");
    }
}

/// libnvrtc: the named one, or one in the active Python environment.
fn find_nvrtc() -> Option<PathBuf> {
    if let Some(named) = std::env::var_os(LIBRARY_VARIABLE) {
        return Some(PathBuf::from(named));
    }
    let lib = Path::new(&std::env::var_os("VIRTUAL_ENV")?).join("lib");
    let pythons = fs::read_dir(lib).ok()?.filter_map(|entry| Some(entry.ok()?.path()));
    pythons
        .filter_map(|python| {
            starting_with(&python.join("site-packages/nvidia/cuda_nvrtc/lib"), "libnvrtc.so")
        })
        .next()
}

fn starting_with(folder: &Path, stem: &str) -> Option<PathBuf> {
    let paths = fs::read_dir(folder).ok()?.filter_map(|entry| Some(entry.ok()?.path()));
    let mut named =
        paths.filter(|path| path.file_name().is_some_and(|name| name.to_string_lossy().starts_with(stem)));
    named.next()
}

type Create = unsafe extern "C" fn(
    *mut *mut c_void,
    *const c_char,
    *const c_char,
    c_int,
    *const *const c_char,
    *const *const c_char,
) -> c_int;

/// Compiles with NVRTC; an error is its log.
fn compile(nvrtc: &Library, source: &str, target: &str) -> Result<String, String> {
    let (source, name) = (CString::new(source).unwrap(), c"letterbox.cu");
    let options = [CString::new(format!("--gpu-architecture={target}")).unwrap(), c"--std=c++17".to_owned()];
    let options = options.each_ref().map(|option| option.as_ptr());
    let mut program: *mut c_void = std::ptr::null_mut();
    let none = std::ptr::null();
    // SAFETY: the functions of nvrtc.h with their signatures; every pointer lives through its call, and each text has the
    // size that the library says.
    unsafe {
        let create = nvrtc.get::<Create>(b"nvrtcCreateProgram").unwrap();
        assert_eq!(create(&raw mut program, source.as_ptr(), name.as_ptr(), 0, none, none), 0);
        let run = nvrtc.get::<unsafe extern "C" fn(*mut c_void, c_int, *const *const c_char) -> c_int>(
            b"nvrtcCompileProgram",
        );
        let good = run.unwrap()(program, 2, options.as_ptr()) == 0;
        let (size_of, text_of) = if good {
            ("nvrtcGetPTXSize", "nvrtcGetPTX")
        } else {
            ("nvrtcGetProgramLogSize", "nvrtcGetProgramLog")
        };
        let mut size = 0_usize;
        let size_of = nvrtc.get::<unsafe extern "C" fn(*mut c_void, *mut usize) -> c_int>(size_of).unwrap();
        assert_eq!(size_of(program, &raw mut size), 0);
        let mut text = vec![0_u8; size];
        let text_of = nvrtc.get::<unsafe extern "C" fn(*mut c_void, *mut c_char) -> c_int>(text_of).unwrap();
        assert_eq!(text_of(program, text.as_mut_ptr().cast()), 0);
        let destroy =
            nvrtc.get::<unsafe extern "C" fn(*mut *mut c_void) -> c_int>(b"nvrtcDestroyProgram").unwrap();
        destroy(&raw mut program);
        let text = CStr::from_bytes_until_nul(&text).unwrap().to_string_lossy().into_owned();
        if good { Ok(text) } else { Err(text) }
    }
}

fn version(nvrtc: &Library) -> (c_int, c_int) {
    let (mut major, mut minor) = (0, 0);
    // SAFETY: writes two numbers.
    unsafe {
        let version =
            nvrtc.get::<unsafe extern "C" fn(*mut c_int, *mut c_int) -> c_int>(b"nvrtcVersion").unwrap();
        assert_eq!(version(&raw mut major, &raw mut minor), 0);
    }
    (major, minor)
}

/// From `.version` on: what comes before says who compiled it.
fn body(ptx: &str) -> &str {
    &ptx[ptx.find("\n.version ").expect("a version")..]
}

#[test]
fn nvrtc_makes_the_committed_ptx_of_the_committed_source() {
    let Some(path) = find_nvrtc() else {
        eprintln!(
            "NOT TESTED: there is no NVRTC; name one with {LIBRARY_VARIABLE}, or activate a Python environment with \
             `pip install nvidia-cuda-nvrtc-cu11==11.8.89`"
        );
        return;
    };
    // NVRTC looks for its second library by name; it finds the one that is loaded.
    // SAFETY: NVIDIA's compiler; its initialisers are those of an ordinary library.
    let _builtins = path
        .parent()
        .and_then(|folder| starting_with(folder, "libnvrtc-builtins"))
        .map(|path| unsafe { Library::new(path) }.expect("loads"));
    // SAFETY: as above.
    let nvrtc = unsafe { Library::new(&path) }.unwrap_or_else(|error| panic!("{}: {error}", path.display()));
    let ours =
        committed(TARGETS[0].0).contains(&format!("release {}.{},", version(&nvrtc).0, version(&nvrtc).1));
    for (compute, _) in TARGETS {
        // CUDA 13 knows 7.5 and later only.
        if compute == "compute_72" && version(&nvrtc).0 > 12 {
            continue;
        }
        let made = compile(&nvrtc, &source(), compute).unwrap_or_else(|log| panic!("{compute}: {log}"));
        if ours {
            assert_eq!(body(&made), body(&committed(compute)), "run engines/cuda/kernels/make_ptx.sh");
        }
    }
    assert!(compile(&nvrtc, "this is no kernel", "compute_75").is_err(), "NVRTC compiles anything");
    if !ours {
        eprintln!(
            "NOT TESTED: that the PTX is the same: this NVRTC is {:?}, it was made by 11.8",
            version(&nvrtc)
        );
    }
}
