//! A process whose CUDA and TensorRT are the stand-ins, and what tests in it share.
#![allow(dead_code, reason = "each test file uses its own part")]

#[path = "../../../builtin/tests/onnx_writer/mod.rs"]
pub mod onnx_writer;

use std::ffi::{CString, c_char};
use std::fs;
use std::os::unix::fs::symlink;
use std::path::Path;
use std::sync::{Mutex, MutexGuard, PoisonError};

use onnx_writer::{Dim, F16, F32, Onnx, node, tensor};
use tempfile::TempDir;
use watchpost_cuda::{Gpu, Letterboxer, Recipe, SlotTensor};
use watchpost_standins::Cuda;
use watchpost_tensorrt::{BuildOptions, Library, LoadOptions, Runner, TensorRtError, build};

/// Majors that every test runs on.
pub const MAJORS: [u32; 2] = [10, 11];
/// Width and height of the tests' pictures.
pub const SIZE: (u32, u32) = (8, 4);
/// Values of one frame.
pub const LEN: usize = 3 * 8 * 4;

/// Objects that the library has handed out.
const LIVE: [&str; 9] = [
    "nvinfer.live_runtimes",
    "nvinfer.live_engines",
    "nvinfer.live_contexts",
    "nvinfer.live_host_memories",
    "nvinfer.live_builders",
    "nvinfer.live_builder_configs",
    "nvinfer.live_networks",
    "nvinfer.live_onnx_parsers",
    "nvinfer.live_timing_caches",
];

/// Settings, faults and counters are those of the process: one test at a time.
static ONE_AT_A_TIME: Mutex<()> = Mutex::new(());

/// One test's hold on the stand-ins: at the end, everything must have been given back and nothing have been misused.
pub struct Bench {
    pub major: u32,
    pub library: Library,
    pub gpu: Gpu,
    pub cuda: Cuda,
    pub folder: TempDir,
    infer: libloading::Library,
}

/// Runs a test for each major on fresh settings, and sees that nothing is left.
pub fn on_both(test: impl Fn(&Bench)) {
    watchpost_standins::enter();
    let _one: MutexGuard<'_, ()> = ONE_AT_A_TIME.lock().unwrap_or_else(PoisonError::into_inner);
    for major in MAJORS {
        let bench = Bench::new(major, "");
        test(&bench);
        bench.finish();
    }
}

/// A folder of its own with the library, its parser and `trtexec` under their real names: what is opened by another path
/// is asked for its version anew.
pub fn folder(major: u32) -> TempDir {
    let folder = tempfile::tempdir().expect("a folder");
    for entry in fs::read_dir(watchpost_standins::tensorrt(major)).expect("the stand-ins") {
        let path = entry.expect("an entry").path();
        symlink(&path, folder.path().join(path.file_name().expect("a name"))).expect("a link");
    }
    folder
}

/// Runs `test` with the settings' lock held, for tests that open libraries themselves.
pub fn alone(test: impl FnOnce()) {
    watchpost_standins::enter();
    let _one: MutexGuard<'_, ()> = ONE_AT_A_TIME.lock().unwrap_or_else(PoisonError::into_inner);
    test();
}

/// Tells a library its settings; `None`: the defaults.
pub fn configure(library: &libloading::Library, settings: Option<&str>) {
    let text = settings.map(|settings| CString::new(settings).expect("no zero"));
    // SAFETY: the stand-in's function of this name has this type; null is allowed.
    unsafe {
        let configure = library.get::<unsafe extern "C" fn(*const c_char)>(b"standin_nvinfer_configure\0");
        configure.expect("a stand-in")(text.as_ref().map_or(std::ptr::null(), |text| text.as_ptr()));
    }
}

/// Loads a file without our gate, to set it up first.
pub fn raw(path: &Path) -> libloading::Library {
    // SAFETY: loading the stand-in runs none of its code.
    unsafe { libloading::Library::new(path) }.expect("the stand-in loads")
}

impl Bench {
    pub fn new(major: u32, settings: &str) -> Self {
        let folder = folder(major);
        let path = folder.path().join(format!("libnvinfer.so.{major}"));
        let infer = raw(&path);
        configure(&infer, None);
        configure(&infer, Some(settings));
        let cuda = Cuda::here();
        cuda.reset();
        let library = Library::open(&path).expect("the stand-in passes the gate");
        let gpu = Gpu::open(0).expect("the stand-in GPU");
        Self { major, library, gpu, cuda, folder, infer }
    }

    pub fn configure(&self, settings: &str) {
        configure(&self.infer, Some(settings));
    }

    pub fn count(&self, name: &str) -> i64 {
        let name = CString::new(name).expect("no zero");
        // SAFETY: as in `configure`.
        unsafe {
            let count =
                self.infer.get::<unsafe extern "C" fn(*const c_char) -> i64>(b"standin_nvinfer_count\0");
            count.expect("a stand-in")(name.as_ptr())
        }
    }

    /// Nothing of ours is left on the GPU or in the library, and nothing was misused.
    pub fn finish(self) {
        self.check();
        let Self { gpu, cuda, .. } = self;
        drop(gpu);
        assert_eq!(cuda.held(), Vec::<String>::new(), "{}", cuda.report());
    }

    pub fn check(&self) {
        let major = self.major;
        assert!(self.gpu.ledger().is_empty(), "TensorRT {major}: {:?}", self.gpu.ledger());
        for name in LIVE {
            assert_eq!(self.count(name), 0, "TensorRT {major}: {name}");
        }
        assert_eq!(self.count("nvinfer.violations"), 0, "TensorRT {major}: its standard error says which");
        assert_eq!(self.cuda.counter(watchpost_standins::names::VIOLATIONS), 0, "{}", self.cuda.report());
    }

    pub fn build(&self, onnx: &[u8], options: &BuildOptions<'_>) -> Result<Vec<u8>, TensorRtError> {
        build(&self.library, &self.gpu, onnx, options, &mut |_| {}).map(|built| built.plan)
    }

    /// A plan of a model with an open batch of up to `most`.
    pub fn plan(&self, onnx: &Onnx, most: usize) -> Vec<u8> {
        let options = BuildOptions { max_batch: Some(most), ..BuildOptions::default() };
        self.build(&onnx.encode(), &options).expect("it is built")
    }

    pub fn load(&self, plan: &[u8], options: LoadOptions) -> Result<Runner, TensorRtError> {
        Runner::load(&self.library, &self.gpu, plan, options)
    }

    /// Slots with a value each, from 1 on: see [`Bench::slot`].
    pub fn slots(&self, runner: &Runner, count: usize) -> Vec<SlotTensor> {
        (0..count).map(|index| self.slot(runner, index as f32 + 1.0)).collect()
    }

    /// A slot that ends with `value` and begins with ten times that; the first channel is the largest everywhere.
    pub fn slot(&self, runner: &Runner, value: f32) -> SlotTensor {
        let recipe =
            Recipe { width: SIZE.0, height: SIZE.1, pad: 0.0, scale: [1.0; 3], offset: [0.0; 3], bgr: false };
        let mut letterboxer = Letterboxer::new(&self.gpu, recipe).expect("a letterboxer");
        let mut slot = SlotTensor::new(&self.gpu, runner.slot_element(), LEN).expect("a slot");
        let staging = letterboxer.staging().expect("staging");
        for (channel, values) in staging.chunks_exact_mut(LEN / 3).enumerate() {
            values.fill(value + (2 - channel) as f32);
        }
        staging[0] = 10.0 * value;
        letterboxer.upload(&mut slot).expect("an upload");
        slot
    }
}

fn shape(batch: Dim) -> [Dim; 4] {
    [batch, Dim::N(3), Dim::N(SIZE.1.into()), Dim::N(SIZE.0.into())]
}

/// What comes out is twice what goes in, `[batch, 3, 4, 8]`.
pub fn doubling(batch: Dim) -> Onnx {
    Onnx::doubling(&shape(batch))
}

/// The same in 16-bit floats.
pub fn doubling_half(batch: Dim) -> Onnx {
    Onnx {
        inputs: vec![tensor("images", F16, &shape(batch))],
        outputs: vec![tensor("doubled", F16, &shape(batch))],
        nodes: vec![node("Add", &["images", "images"], &["doubled"])],
        ..Onnx::default()
    }
}

/// Two outputs: the input doubled, and where along the channels the largest value is, in 64-bit integers.
pub fn two_outputs(batch: Dim) -> Onnx {
    let mut onnx = doubling(batch);
    onnx.outputs.push(tensor(
        "channel",
        onnx_writer::I64,
        &[batch, Dim::N(SIZE.1.into()), Dim::N(SIZE.0.into())],
    ));
    let attributes = [onnx_writer::int_attribute("axis", 1), onnx_writer::int_attribute("keepdims", 0)];
    onnx.nodes.push(onnx_writer::node_with("ArgMax", &["doubled"], &["channel"], &attributes));
    onnx
}

/// Two inputs.
pub fn two_inputs() -> Onnx {
    let mut onnx = doubling(Dim::N(1));
    onnx.inputs.push(tensor("sizes", F32, &[Dim::N(1)]));
    onnx.nodes.push(node("Add", &["sizes", "two"], &["unused"]));
    onnx
}
