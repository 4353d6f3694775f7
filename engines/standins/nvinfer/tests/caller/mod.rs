//! A caller of TensorRT, as a binding is one: objects through their virtual tables, by slots of the declarations.

#![allow(dead_code, reason = "each test file uses its own part")]

#[path = "../../shim/declarations.rs"]
pub mod declarations;
#[path = "../../../../builtin/tests/onnx_writer/mod.rs"]
pub mod onnx_writer;
pub mod steps;

use std::collections::BTreeMap;
use std::ffi::{CStr, CString, c_char, c_void};
use std::path::Path;
use std::sync::{Mutex, MutexGuard, PoisonError};

pub type Raw = *mut c_void;

const V_CLASSES: [&str; 9] = [
    "VHostMemory",
    "VRuntime",
    "VCudaEngine",
    "VExecutionContext",
    "VBuilder",
    "VBuilderConfig",
    "VNetworkDefinition",
    "VOptimizationProfile",
    "VTimingCache",
];

#[repr(C)]
#[derive(Debug, Clone, Copy)]
pub struct Dims {
    pub count: i32,
    pub sizes: [i64; 8],
}

impl Dims {
    pub fn new(shape: &[i64]) -> Self {
        let mut sizes = [0; 8];
        sizes[..shape.len()].copy_from_slice(shape);
        Self { count: shape.len() as i32, sizes }
    }

    pub fn shape(&self) -> Vec<i64> {
        self.sizes[..usize::try_from(self.count).unwrap_or(0)].to_vec()
    }
}

static LINES: Mutex<Vec<(i32, String)>> = Mutex::new(Vec::new());

extern "C" fn log(_this: Raw, severity: i32, text: *const c_char) {
    // SAFETY: a library logs C strings.
    let text = unsafe { CStr::from_ptr(text) }.to_string_lossy().into_owned();
    LINES.lock().unwrap_or_else(PoisonError::into_inner).push((severity, text));
}

extern "C" fn nothing(_this: Raw) {}

extern "C" fn language(_this: Raw) -> i32 {
    0
}

#[repr(C)]
struct Info {
    kind: *const c_char,
    major: i32,
    minor: i32,
}

extern "C" fn info(_this: Raw) -> Info {
    Info { kind: c"ILogger".as_ptr(), major: 1, minor: 0 }
}

extern "C" fn other_info(_this: Raw) -> Info {
    Info { kind: c"IErrorRecorder".as_ptr(), major: 1, minor: 0 }
}

#[repr(C)]
struct Ten(extern "C" fn(Raw, i32, *const c_char), extern "C" fn(Raw), extern "C" fn(Raw));
#[repr(C)]
struct Eleven(
    extern "C" fn(Raw) -> i32,
    extern "C" fn(Raw) -> Info,
    extern "C" fn(Raw),
    extern "C" fn(Raw),
    extern "C" fn(Raw, i32, *const c_char),
);

static TEN: &Ten = &Ten(log, nothing, nothing);
static ELEVEN: &Eleven = &Eleven(language, info, nothing, nothing, log);
static ELEVEN_OTHER: &Eleven = &Eleven(language, other_info, nothing, nothing, log);

/// An `ILogger`: its first word is its table.
fn logger(major: u32) -> Raw {
    match major {
        10 => (&raw const TEN).cast_mut().cast(),
        _ => (&raw const ELEVEN).cast_mut().cast(),
    }
}

/// What version 11 must not take for a logger.
pub fn no_logger() -> Raw {
    (&raw const ELEVEN_OTHER).cast_mut().cast()
}

fn open(path: &Path) -> libloading::Library {
    // SAFETY: our own library.
    unsafe { libloading::Library::new(path) }.unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

/// One major: its libraries and the slots of its classes.
pub struct TensorRt {
    pub major: u32,
    library: libloading::Library,
    parser: libloading::Library,
    slots: BTreeMap<(String, String), usize>,
    _alone: MutexGuard<'static, ()>,
}

/// Settings and counters are the process's: one test at a time.
static ALONE: Mutex<()> = Mutex::new(());

impl TensorRt {
    /// Opens both libraries, with these settings and no others.
    pub fn new(major: u32, settings: &str) -> Self {
        let alone = ALONE.lock().unwrap_or_else(PoisonError::into_inner);
        let own = Path::new(env!("CARGO_MANIFEST_DIR")).join("shim/own");
        let mut slots = BTreeMap::new();
        let mut add = |header: &str, classes: &[&str], first: usize| {
            let text = std::fs::read_to_string(own.join(format!("{header}{major}.h"))).expect("declarations");
            for class in classes {
                for method in declarations::methods(&text, class, first).expect("declared") {
                    slots.entry(((*class).to_owned(), method.name)).or_insert(method.slot);
                }
            }
        };
        add("nvinfer", &V_CLASSES, 2);
        add("nvonnxparser", &["IParser", "IParserError"], 0);
        let folder = watchpost_standins::tensorrt(major);
        let library = open(&folder.join(format!("libnvinfer.so.{major}")));
        let parser = open(&folder.join(format!("libnvonnxparser.so.{major}")));
        let own = Self { major, library, parser, slots, _alone: alone };
        own.configure(None);
        own.configure(Some(settings));
        LINES.lock().unwrap_or_else(PoisonError::into_inner).clear();
        own
    }

    pub fn configure(&self, settings: Option<&str>) {
        let text = settings.map(|text| CString::new(text).expect("no zero"));
        // SAFETY: the function's type; the text lives until it returns.
        unsafe {
            let configure: unsafe extern "C" fn(*const c_char) = self.symbol("standin_nvinfer_configure");
            configure(text.as_ref().map_or(std::ptr::null(), |text| text.as_ptr()));
        }
    }

    pub fn count(&self, name: &str) -> i64 {
        let name = CString::new(name).expect("no zero");
        // SAFETY: the function's type.
        unsafe {
            let count: unsafe extern "C" fn(*const c_char) -> i64 = self.symbol("standin_nvinfer_count");
            count(name.as_ptr())
        }
    }

    pub fn order(&self, name: &str, value: i64) {
        let name = CString::new(name).expect("no zero");
        // SAFETY: the function's type.
        unsafe {
            let order: unsafe extern "C" fn(*const c_char, i64) = self.symbol("standin_nvinfer_order");
            order(name.as_ptr(), value);
        }
    }

    /// Everything that must be zero when all has been given back.
    pub fn live(&self) -> Vec<(&'static str, i64)> {
        let names = [
            "nvinfer.live_runtimes",
            "nvinfer.live_engines",
            "nvinfer.live_contexts",
            "nvinfer.live_host_memories",
            "nvinfer.live_builders",
            "nvinfer.live_builder_configs",
            "nvinfer.live_networks",
            "nvinfer.live_onnx_parsers",
            "nvinfer.live_timing_caches",
            "nvinfer.in_flight",
        ];
        names.into_iter().map(|name| (name, self.count(name))).filter(|(_, count)| *count != 0).collect()
    }

    /// Which declarations the library was compiled with.
    pub fn headers(&self) -> String {
        // SAFETY: the function's type; the text is static.
        unsafe {
            let headers: unsafe extern "C" fn() -> *const c_char = self.symbol("standin_nvinfer_headers");
            CStr::from_ptr(headers()).to_string_lossy().into_owned()
        }
    }

    /// # Safety
    /// `F` is the function's type.
    pub unsafe fn symbol<F: Copy>(&self, name: &str) -> F {
        // SAFETY: as the caller promises.
        unsafe { *self.library.get::<F>(name.as_bytes()).expect("exported") }
    }

    pub fn number(&self, function: &str) -> i32 {
        // SAFETY: the version functions take nothing and return an int.
        unsafe { self.symbol::<unsafe extern "C" fn() -> i32>(function)() }
    }

    /// Calls `createInfer…_INTERNAL` with the major's version and logger.
    pub fn create(&self, function: &str) -> Raw {
        self.create_with(function, logger(self.major), i32::try_from(self.major * 10_000).expect("small"))
    }

    pub fn create_with(&self, function: &str, logger: Raw, version: i32) -> Raw {
        // SAFETY: the function's type.
        unsafe { self.symbol::<unsafe extern "C" fn(Raw, i32) -> Raw>(function)(logger, version) }
    }

    pub fn create_parser(&self, network: &Object) -> Object<'_> {
        // SAFETY: the function's type.
        let raw = unsafe {
            let create: unsafe extern "C" fn(Raw, Raw, i32) -> Raw =
                *self.parser.get(b"createNvOnnxParser_INTERNAL").expect("exported");
            create(network.raw, logger(self.major), 100)
        };
        Object::new(self, "IParser", raw).expect("a parser")
    }

    pub fn slot(&self, class: &str, method: &str) -> usize {
        let key = (class.to_owned(), method.to_owned());
        *self.slots.get(&key).unwrap_or_else(|| panic!("{class} has no {method} in {}", self.major))
    }

    pub fn runtime(&self) -> Object<'_> {
        Object::new(self, "VRuntime", self.create("createInferRuntime_INTERNAL")).expect("a runtime")
    }

    pub fn builder(&self) -> Object<'_> {
        Object::new(self, "VBuilder", self.create("createInferBuilder_INTERNAL")).expect("a builder")
    }
}

/// What has been logged, and what of it are errors.
pub fn logged() -> Vec<(i32, String)> {
    LINES.lock().unwrap_or_else(PoisonError::into_inner).clone()
}

/// The last error that was logged.
pub fn last_error() -> String {
    logged().into_iter().rev().find(|(severity, _)| *severity <= 1).map_or_else(String::new, |(_, text)| text)
}

/// An object of the library's; deletes itself through its table.
pub struct Object<'a> {
    trt: &'a TensorRt,
    class: &'static str,
    pub raw: Raw,
    /// An `IOptimizationProfile` and an `IParserError` belong to others.
    pub owned: bool,
}

impl<'a> Object<'a> {
    pub fn new(trt: &'a TensorRt, class: &'static str, raw: Raw) -> Option<Self> {
        (raw as usize > 4096).then(|| Self { trt, class, raw, owned: true })
    }

    pub fn other(&self, class: &'static str, raw: Raw) -> Option<Object<'a>> {
        Object::new(self.trt, class, raw)
    }

    fn is_public_table(&self) -> bool {
        self.class.starts_with('I')
    }

    /// What a method is called on, and the method.
    ///
    /// # Safety
    /// `F` is the type of the method in that class.
    pub unsafe fn method<F: Copy>(&self, name: &str) -> (Raw, F) {
        let slot = self.trt.slot(self.class, name);
        // SAFETY: a public object is a table and the V-object; a table has its slots. Parsers have public tables.
        unsafe {
            let this = if self.is_public_table() { self.raw } else { *self.raw.cast::<Raw>().add(1) };
            let table = *this.cast::<*const *const c_void>();
            (this, std::mem::transmute_copy(&*table.add(slot)))
        }
    }
}

impl Drop for Object<'_> {
    fn drop(&mut self) {
        if !self.owned {
            return;
        }
        let slot = if self.is_public_table() { self.trt.slot(self.class, "") + 1 } else { 1 };
        // SAFETY: the deleting destructor of the object's own table, called once.
        unsafe {
            let table = *self.raw.cast::<*const extern "C" fn(Raw)>();
            (*table.add(slot))(self.raw);
        }
    }
}

/// A method with its arguments in a tuple.
pub trait Call<Arguments> {
    type Result;

    /// # Safety
    /// As the method's own.
    unsafe fn call(self, this: Raw, arguments: Arguments) -> Self::Result;
}

macro_rules! calls {
    ($(($($name:ident: $type:ident),*),)*) => {$(
        impl<R, $($type),*> Call<($($type,)*)> for unsafe extern "C" fn(Raw, $($type),*) -> R {
            type Result = R;

            unsafe fn call(self, this: Raw, ($($name,)*): ($($type,)*)) -> R {
                // SAFETY: as the caller promises.
                unsafe { self(this, $($name),*) }
            }
        }
    )*};
}

calls! {
    (),
    (a: A),
    (a: A, b: B),
    (a: A, b: B, c: C),
}

/// `call!(object, "enqueueV3", stream => Raw; bool)`: values with their types, and the type of the result, which must be
/// those of the method's declaration.
#[macro_export]
macro_rules! call {
    ($object:expr, $method:expr $(, $value:expr => $type:ty)* ; $result:ty) => {{
        type Function = unsafe extern "C" fn($crate::caller::Raw $(, $type)*) -> $result;
        let (object, method): (&$crate::caller::Object<'_>, &str) = (&$object, $method);
        let values: ($($type,)*) = ($($value,)*);
        // SAFETY: the types are those of the method's declaration: see above.
        unsafe {
            let (this, function) = object.method::<Function>(method);
            $crate::caller::Call::call(function, this, values)
        }
    }};
}
