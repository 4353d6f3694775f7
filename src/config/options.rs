//! What a validated configuration says. Every room takes its own part of it; nobody parses text again.

use std::fmt;
use std::path::PathBuf;
use std::time::Duration;

use super::engine_options::{EngineMode, OpenVinoDevice};
use super::group::Group;
use super::locator::Locator;
use super::secret::Secret;
use super::zone_options::{BoxLimits, LineOptions, ZoneOptions};
use crate::affinity::CpuSet;
use crate::shape::Polygon;

/// A setting that is either left to us or fixed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Auto<T> {
    /// Sized to the box.
    Auto,
    /// As the user said.
    Fixed(T),
}

impl<T: fmt::Display> fmt::Display for Auto<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Auto => f.write_str("auto"),
            Self::Fixed(value) => value.fmt(f),
        }
    }
}

/// The whole configuration.
#[derive(Debug, Clone, PartialEq)]
pub struct Config {
    /// The one detector all cameras share.
    pub detector: DetectorOptions,
    /// Sorted by name. May be empty only for sub-commands that bring their own.
    pub cameras: Vec<CameraOptions>,
    /// Sorted by name.
    pub outputs: Vec<OutputOptions>,
    /// When to shed load and when to leave.
    pub memory: MemoryOptions,
    /// Where the best pictures of tracks are kept, and how many.
    pub snapshots: SnapshotOptions,
    /// Deadlines and limits of the supervisor.
    pub supervisor: SupervisorOptions,
    /// The Unix socket that `watchpost debug` asks; `None` turns it off.
    pub debug_socket: Option<PathBuf>,
}

/// `backend = …`
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Backend {
    /// The best this box has.
    Auto,
    /// NVIDIA TensorRT.
    Tensorrt,
    /// Intel OpenVINO.
    Openvino,
    /// ONNX Runtime.
    Onnxruntime,
    /// The engine compiled in.
    Builtin,
}

impl Backend {
    /// As they are written in the configuration and on the command line.
    pub const NAMES: [(&str, Self); 5] = [
        ("auto", Self::Auto),
        ("tensorrt", Self::Tensorrt),
        ("openvino", Self::Openvino),
        ("onnxruntime", Self::Onnxruntime),
        ("builtin", Self::Builtin),
    ];
}

/// `provider = …`: where ONNX Runtime computes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum OnnxProvider {
    /// On the GPU where its CUDA provider loads, else on the CPU.
    Auto,
    /// On the CPU.
    Cpu,
    /// On the GPU, with cuDNN.
    Cuda,
    /// On the GPU, with TensorRT.
    Tensorrt,
}

/// `decode = …`: which coded pictures are decoded at all.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Decode {
    /// Those that `detect_fps` needs: only keyframes, or only pictures that others need, where they come often enough.
    Auto,
    /// All.
    All,
    /// Those that others need.
    Reference,
    /// Those that need no other.
    Keyframes,
    /// While nothing moves those that need no other; what follows them is kept, and decoded when something moves.
    Lazy,
}

/// `precision = …`
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Precision {
    /// FP16 on TensorRT, what loses nothing elsewhere.
    Auto,
    /// 32-bit float.
    Fp32,
    /// 16-bit float.
    Fp16,
    /// bfloat16.
    Bf16,
    /// 8-bit integer.
    Int8,
}

impl Precision {
    /// As they are written in the configuration and on the command line.
    pub const NAMES: [(&str, Self); 5] = [
        ("auto", Self::Auto),
        ("fp32", Self::Fp32),
        ("fp16", Self::Fp16),
        ("bf16", Self::Bf16),
        ("int8", Self::Int8),
    ];

    /// As it is written.
    pub fn as_str(self) -> &'static str {
        Self::NAMES.iter().find(|(_, one)| *one == self).map_or("auto", |(name, _)| name)
    }
}

/// `[detector]`. [`DetectorOptions::new`] has the defaults.
#[derive(Debug, Clone, PartialEq)]
pub struct DetectorOptions {
    /// A manifest's name, or the path of an .onnx file.
    pub model: String,
    /// Which engine.
    pub backend: Backend,
    /// Where ONNX Runtime computes.
    pub provider: OnnxProvider,
    /// Where OpenVINO computes.
    pub device: OpenVinoDevice,
    /// Which arithmetic.
    pub precision: Precision,
    /// Frames in one inference, 1..=64.
    pub max_batch_size: Auto<usize>,
    /// How long the first frame of a batch waits for company.
    pub max_batch_delay: Duration,
    /// Objects below this are dropped, 0..=1.
    pub score_threshold: f32,
    /// IoU above which two boxes of one class are one object, 0..=1.
    pub iou_threshold: f32,
    /// Most objects in one frame, 1..=10000.
    pub max_objects: usize,
    /// What OpenVINO is tuned for.
    pub mode: EngineMode,
    /// Frames that OpenVINO infers at a time in [`EngineMode::Throughput`].
    pub streams: Auto<usize>,
    /// Threads of one inference.
    pub threads: Auto<usize>,
    /// CPUs that the engine's threads may run on; `None`: all that the process may.
    pub cpus: Option<CpuSet>,
    /// What built engines may take on disk; those used longest ago go first.
    pub engine_cache_limit_bytes: u64,
}

/// `engine_cache_limit` where nothing is set: some twenty engines of small detectors.
pub const ENGINE_CACHE_LIMIT_BYTES: u64 = 4 << 30;

impl DetectorOptions {
    /// A model with the defaults of every other key.
    pub fn new(model: impl Into<String>) -> Self {
        Self {
            model: model.into(),
            backend: Backend::Auto,
            provider: OnnxProvider::Auto,
            device: OpenVinoDevice::Cpu,
            precision: Precision::Auto,
            max_batch_size: Auto::Auto,
            max_batch_delay: Duration::from_millis(10),
            score_threshold: 0.35,
            iou_threshold: 0.45,
            max_objects: 300,
            mode: EngineMode::Latency,
            streams: Auto::Auto,
            threads: Auto::Auto,
            cpus: None,
            engine_cache_limit_bytes: ENGINE_CACHE_LIMIT_BYTES,
        }
    }
}

/// RTSP lower transport.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Transport {
    /// Interleaved in the RTSP connection.
    Tcp,
    /// RTP over UDP.
    Udp,
}

/// Who decodes a camera's pictures.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum DecoderChoice {
    /// The GPU or video unit where that works, else the CPU.
    Auto,
    /// The CPU.
    Software,
    /// The GPU or video unit; a camera that it cannot serve fails.
    Hardware,
}

/// `[camera.NAME]` with `[defaults]` beneath it.
#[derive(Debug, Clone, PartialEq)]
pub struct CameraOptions {
    /// 1..=32 of `a-z A-Z 0-9 _ -`, beginning with a letter or digit.
    pub name: String,
    /// Where the pictures come from.
    pub locator: Locator,
    /// RTSP user.
    pub username: Option<String>,
    /// RTSP password, from password_credential, password_env, password_file, or the URL.
    pub password: Option<Secret>,
    /// RTSP lower transport; TCP by default.
    pub transport: Transport,
    /// Check the certificate of `rtsps://`; true by default.
    pub tls_verify: bool,
    /// PEM file with the authority to trust for `rtsps://`.
    pub tls_ca_file: Option<PathBuf>,
    /// Jitter buffer of the RTSP session; 200 ms by default.
    pub latency: Duration,
    /// First decoded frame after at most this; 10 s by default.
    pub open_timeout: Duration,
    /// No decoded frame with a new timestamp for this long is a stall; 5 s by default.
    pub stall_timeout: Duration,
    /// Identical pictures for this long are a stall, although the camera goes on sending; `None`: pictures
    /// are not compared.
    pub freeze_timeout: Option<Duration>,
    /// A frame older than this at preprocessing is not worth inferring; 1 s by default.
    pub max_frame_age: Duration,
    /// At most this many detections a second; `None`: every frame the engine has time for.
    pub detect_fps: Option<f64>,
    /// Only these labels are published; `None`: all.
    pub classes: Option<Vec<String>>,
    /// Overrides the detector's threshold.
    pub score_threshold: Option<f32>,
    /// Overrides both for single labels.
    pub score_thresholds: Vec<(String, f32)>,
    /// How large and how slim boxes may be.
    pub boxes: BoxLimits,
    /// Black before anything looks at the pictures.
    pub privacy_masks: Vec<Polygon>,
    /// Sorted by name.
    pub zones: Vec<ZoneOptions>,
    /// Sorted by name.
    pub lines: Vec<LineOptions>,
    /// Objects get a number that stays with them; false by default.
    pub track: bool,
    /// An object that was not seen for longer gets another number when it comes back; 2 s by default.
    pub track_keep: Duration,
    /// Objects keep their numbers over an interruption of the stream that is no longer than this; `None`: over none.
    pub track_across_restart: Option<Duration>,
    /// The best picture of each track is saved; false by default.
    pub snapshots: bool,
    /// Frame slots, 1..=16; 2 by default.
    pub slots: usize,
    /// Which coded pictures are decoded; `Auto` by default.
    pub decode: Decode,
    /// Most bytes of coded pictures that are kept with `Decode::Lazy`; 4 MiB by default.
    pub lazy_buffer_bytes: u64,
    /// Frames in which nothing moves are not inferred; false by default.
    pub motion_gate: bool,
    /// The camera counts as in motion for so long after the last motion; 10 s by default.
    pub motion_hold: Duration,
    /// One frame in so long is inferred although nothing moves; 5 s by default.
    pub motion_refresh: Duration,
    /// Who decodes; `Auto` by default.
    pub decoder: DecoderChoice,
    /// Threads of the software decoder, 1..=16; 1 by default.
    pub decode_threads: usize,
    /// Higher is shed later; 0 by default.
    pub priority: i32,
    /// Replaces the launch template of this source kind.
    pub template: Option<String>,
    /// `file://` begins again at its end; false by default: EOS ends the camera in order.
    pub repeat: bool,
    /// Read the frame number that the test camera draws into its pictures.
    pub read_stamp: bool,
}

impl CameraOptions {
    /// A camera with the defaults of every other key.
    pub fn new(name: impl Into<String>, locator: Locator) -> Self {
        Self {
            name: name.into(),
            locator,
            username: None,
            password: None,
            transport: Transport::Tcp,
            tls_verify: true,
            tls_ca_file: None,
            latency: Duration::from_millis(200),
            open_timeout: Duration::from_secs(10),
            stall_timeout: Duration::from_secs(5),
            freeze_timeout: None,
            max_frame_age: Duration::from_secs(1),
            detect_fps: None,
            classes: None,
            score_threshold: None,
            score_thresholds: Vec::new(),
            boxes: BoxLimits::default(),
            privacy_masks: Vec::new(),
            zones: Vec::new(),
            lines: Vec::new(),
            track: false,
            track_keep: Duration::from_secs(2),
            track_across_restart: None,
            snapshots: false,
            slots: 2,
            decode: Decode::Auto,
            lazy_buffer_bytes: 4 << 20,
            motion_gate: false,
            motion_hold: Duration::from_secs(10),
            motion_refresh: Duration::from_secs(5),
            decoder: DecoderChoice::Auto,
            decode_threads: 1,
            priority: 0,
            template: None,
            repeat: false,
            read_stamp: false,
        }
    }
}

/// Where records go.
#[derive(Debug, Clone, PartialEq)]
pub enum OutputKind {
    /// JSON Lines on standard output.
    Stdout,
    /// A Unix stream socket that many readers may connect to.
    Unix {
        /// Path of the socket.
        path: PathBuf,
        /// Permissions of the socket file; 0o660 by default.
        mode: u32,
        /// Group of the socket file; the process's own by default.
        group: Option<Group>,
    },
    /// A TCP socket that many readers may connect to.
    Tcp {
        /// `127.0.0.1:port` unless the user says otherwise.
        listen: std::net::SocketAddr,
    },
}

/// `[output.NAME]`
#[derive(Debug, Clone, PartialEq)]
pub struct OutputOptions {
    /// Same alphabet as a camera's name.
    pub name: String,
    /// Kind and address.
    pub kind: OutputKind,
    /// Lines are kept in a ring of this size until readers have them; 1 MiB by default.
    pub buffer_bytes: usize,
    /// Readers at one time (sockets); 64 by default.
    pub max_readers: usize,
}

impl OutputOptions {
    /// An output with the defaults of every other key.
    pub fn new(name: impl Into<String>, kind: OutputKind) -> Self {
        Self { name: name.into(), kind, buffer_bytes: 1 << 20, max_readers: 64 }
    }
}

/// `[snapshots]`
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SnapshotOptions {
    /// The folder; `None`: no picture is saved.
    pub dir: Option<PathBuf>,
    /// The oldest go when there are more; 1000 by default.
    pub max_files: usize,
    /// The oldest go when they are larger together; 200 MiB by default.
    pub max_bytes: u64,
    /// Nothing is saved while the disk has less room than this; 500 MiB by default.
    pub min_free_bytes: u64,
}

impl Default for SnapshotOptions {
    fn default() -> Self {
        Self { dir: None, max_files: 1000, max_bytes: 200 << 20, min_free_bytes: 500 << 20 }
    }
}

/// `[memory]`; no limits by default.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct MemoryOptions {
    /// Shed load above this.
    pub soft_limit_bytes: Option<u64>,
    /// Leave with 75 above this.
    pub hard_limit_bytes: Option<u64>,
}

/// `[supervisor]`
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct SupervisorOptions {
    /// A pipeline that has not reached NULL after this is wedged; 3 s by default.
    pub teardown_timeout: Duration,
    /// More wedged cameras than this end the process with 75; 2 by default.
    pub max_wedged: usize,
    /// An inference that takes longer hangs, and the process leaves with 75; 60 s by default.
    pub inference_timeout: Duration,
    /// First wait after a failure; 0.5 s by default.
    pub backoff_min: Duration,
    /// Longest wait after failures; 30 s by default.
    pub backoff_max: Duration,
    /// Healthy streaming that makes failures forgotten; 30 s by default.
    pub healthy_after: Duration,
    /// CPUs of all threads that are not the engine's: cameras, decoders, outputs. `None`: all that the process may.
    pub camera_cpus: Option<CpuSet>,
}

impl Default for SupervisorOptions {
    fn default() -> Self {
        Self {
            teardown_timeout: Duration::from_secs(3),
            max_wedged: 2,
            inference_timeout: Duration::from_secs(60),
            backoff_min: Duration::from_millis(500),
            backoff_max: Duration::from_secs(30),
            healthy_after: Duration::from_secs(30),
            camera_cpus: None,
        }
    }
}
