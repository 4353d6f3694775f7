//! Cameras behind GStreamer: the adapter between the daemon's words and `watchpost-pipelines`.

use std::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, SystemTime};

use watchpost_pipelines as pipelines;
use watchpost_pipelines::Gpu;

use super::{Arrived, Decoded, Fault, Lookup, Opening, Receiver, Source, Stage, TsSource};
use crate::camera::Reason;
use crate::clock;
use crate::config::{CameraOptions, Decode, DecoderChoice, Locator, Transport};
use crate::descriptors::Room;

/// A pipeline that says a frame is older than this has confused its clocks; the frame counts as new.
const PLAUSIBLE_AGE: Duration = Duration::from_secs(30);

/// A camera's clock that is further from ours tells nothing: it was never set, or its reports are nonsense.
const PLAUSIBLE_CLOCK: Duration = Duration::from_secs(24 * 3600);

fn is_plausible(captured: SystemTime, wall: SystemTime) -> bool {
    let apart = wall.duration_since(captured).or_else(|_| captured.duration_since(wall));
    apart.is_ok_and(|apart| apart <= PLAUSIBLE_CLOCK)
}

/// A camera that GStreamer opens.
#[derive(Debug)]
pub struct GstSource {
    name: String,
    spec: pipelines::Spec,
    ts_source: TsSource,
    /// A live source never ends in order: its EOS is a fault. A file's is not.
    live: bool,
    /// Whose memory the frames of the next opening may be in.
    gpu: Mutex<Option<Gpu>>,
    fallback: Arc<Fallback>,
    /// Present where the camera is known by its name.
    lookup: Option<Lookup>,
}

/// What a camera remembers of hardware decoders from opening to opening.
#[derive(Debug, Default)]
struct Fallback {
    /// One was there and did not work: the CPU decodes from now on.
    on_cpu: AtomicBool,
    /// That the CPU decodes although a GPU was to has been said.
    warned: AtomicBool,
    /// Openings in a row that hardware decoded and that soon ended because it failed.
    broke_down_count: AtomicU32,
}

/// A hardware decoder that has worked may fail once, as drivers do when a GPU is reset; after so many short openings
/// that end so it is not opened again.
const MOST_BREAKDOWNS: u32 = 3;

/// An opening is short if it gave fewer frames.
const SHORT_OPENING_FRAMES: u64 = 3000;

impl Fallback {
    /// Remembers a decoder that did not work, and says so once.
    fn remember(&self, camera: &str, failure: &pipelines::Failure) {
        if failure.class == pipelines::FailureClass::HardwareDecoder
            && !self.on_cpu.swap(true, Ordering::AcqRel)
        {
            self.warn(camera, &failure.message);
        }
    }

    /// A hardware decoder gave `frames_count` frames and then failed.
    fn broke_down(&self, camera: &str, frames_count: u64, failure: &pipelines::Failure) {
        if frames_count >= SHORT_OPENING_FRAMES {
            self.broke_down_count.store(0, Ordering::Release);
        }
        let count = self.broke_down_count.fetch_add(1, Ordering::AcqRel) + 1;
        if count >= MOST_BREAKDOWNS && !self.on_cpu.swap(true, Ordering::AcqRel) {
            self.warn(camera, &format!("its hardware decoder has failed {count} times: {}", failure.message));
        }
    }

    fn warn(&self, camera: &str, why: &str) {
        if !self.warned.swap(true, Ordering::AcqRel) {
            tracing::warn!(camera, "the CPU decodes this camera: {why}");
        }
    }
}

impl GstSource {
    /// The source of a camera; `None` for one that is not GStreamer's (`test://`).
    pub fn new(camera: &CameraOptions) -> Option<Self> {
        let mut spec = pipelines::Spec::new(kind(&camera.locator)?);
        spec.credentials = camera.username.as_ref().map(|username| pipelines::Credentials {
            username: username.clone(),
            password: camera.password.as_ref().map(|p| p.expose().to_owned()).unwrap_or_default(),
        });
        spec.transport = match camera.transport {
            Transport::Tcp => pipelines::Transport::Tcp,
            Transport::Udp => pipelines::Transport::Udp,
        };
        spec.tls_verify = camera.tls_verify;
        spec.tls_ca_file = camera.tls_ca_file.clone();
        spec.latency = camera.latency;
        spec.decoder = match camera.decoder {
            DecoderChoice::Auto => pipelines::DecoderChoice::Auto,
            DecoderChoice::Software => pipelines::DecoderChoice::Software,
            DecoderChoice::Hardware => pipelines::DecoderChoice::Hardware,
        };
        spec.decode_threads = camera.decode_threads;
        spec.template = camera.template.clone();
        spec.kept_bytes_max = match camera.decode {
            Decode::Lazy => usize::try_from(camera.lazy_buffer_bytes).unwrap_or(usize::MAX),
            _ => 0,
        };
        let ts_source = match camera.locator {
            Locator::V4l2 { .. } => TsSource::V4l2,
            Locator::File { .. } => TsSource::File,
            _ => TsSource::Arrival,
        };
        let live = !matches!(camera.locator, Locator::File { .. });
        let (gpu, fallback) = (Mutex::default(), Arc::default());
        let lookup = lookup(camera);
        Some(Self { name: camera.name.clone(), spec, ts_source, live, gpu, fallback, lookup })
    }

    /// What the next opening opens.
    pub fn next_spec(&self) -> pipelines::Spec {
        let mut spec = self.spec.clone();
        spec.gpu = self.gpu.lock().unwrap_or_else(PoisonError::into_inner).clone();
        if self.fallback.on_cpu.load(Ordering::Acquire) {
            spec.decoder = pipelines::DecoderChoice::Software;
        }
        spec
    }

    /// With an address in place of the name, where that is better and can be. A certificate that is to be verified
    /// is that of a name.
    fn kind_at_address(&self, generation: u64) -> Option<pipelines::SourceKind> {
        let pipelines::SourceKind::Rtsp { url } = &self.spec.kind else { return None };
        if self.spec.tls_verify && url.starts_with("rtsps:") {
            return None;
        }
        let address = self.lookup.as_ref()?.address(generation)?;
        Some(pipelines::SourceKind::Rtsp { url: pipelines::with_address(url, address) })
    }

    /// Who listens to an opening of `spec`.
    fn inlet(&self, spec: &pipelines::Spec, receiver: Arc<dyn Receiver>, room: &Arc<Room>) -> Inlet {
        // Who asked for hardware by name gets a fault, not something else.
        let falls_back = spec.decoder == pipelines::DecoderChoice::Auto;
        Inlet {
            receiver,
            room: Arc::clone(room),
            camera: self.name.clone(),
            ts_source: self.ts_source,
            live: self.live,
            fallback: falls_back.then(|| Arc::clone(&self.fallback)),
            on_hardware: AtomicBool::new(false),
            frames_count: AtomicU64::new(0),
            warned: AtomicBool::new(false),
        }
    }

    /// What is opened, for `probe` and `detect`.
    pub fn spec(&self) -> &pipelines::Spec {
        &self.spec
    }
}

/// Who writes a template of his own may connect to something else than the URL says.
fn lookup(camera: &CameraOptions) -> Option<Lookup> {
    let Locator::Rtsp { url } = &camera.locator else { return None };
    if camera.template.is_some() {
        return None;
    }
    pipelines::host_name(url)?;
    let url = url.clone();
    Some(Lookup::new(&camera.name, move || pipelines::resolve(&url).map_err(fault)))
}

fn kind(locator: &Locator) -> Option<pipelines::SourceKind> {
    Some(match locator {
        Locator::Rtsp { url } => pipelines::SourceKind::Rtsp { url: url.clone() },
        Locator::V4l2 { device } => pipelines::SourceKind::V4l2 { device: device.clone() },
        Locator::Csi { sensor_index } => pipelines::SourceKind::Csi { sensor_index: *sensor_index },
        Locator::File { path } => pipelines::SourceKind::File { path: path.clone() },
        Locator::Scene { .. } => return None,
    })
}

impl Source for GstSource {
    fn open(&self, generation: u64, receiver: Arc<dyn Receiver>) -> Result<Box<dyn Opening>, Fault> {
        let room = Room::for_camera()
            .map_err(|shortage| Fault { reason: Reason::Internal, detail: shortage.to_string() })?;
        let room = Arc::new(room);
        let name = format!("{}-{generation}", self.name);
        let mut spec = self.next_spec();
        if let Some(kind) = self.kind_at_address(generation) {
            spec.kind = kind;
        }
        let inlet = self.inlet(&spec, receiver, &room);
        let fallback = inlet.fallback.clone();
        match pipelines::Pipeline::start(&spec, &name, Arc::new(inlet)) {
            Ok(pipeline) => Ok(Box::new(Running { _pipeline: pipeline, _room: room })),
            Err(error) => {
                let failure = error.into_failure();
                if let Some(fallback) = fallback {
                    fallback.remember(&self.name, &failure);
                }
                Err(fault(failure))
            }
        }
    }

    fn lookup(&self) -> Option<&Lookup> {
        self.lookup.as_ref()
    }

    fn use_gpu(&self, gpu: Option<&Gpu>) {
        *self.gpu.lock().unwrap_or_else(PoisonError::into_inner) = gpu.cloned();
    }
}

/// Dropping the pipeline stops it.
struct Running {
    _pipeline: pipelines::Pipeline,
    /// Promised until the first frame, or the end.
    _room: Arc<Room>,
}

impl Opening for Running {}

/// Translates what a pipeline says; decides nothing.
struct Inlet {
    receiver: Arc<dyn Receiver>,
    room: Arc<Room>,
    camera: String,
    ts_source: TsSource,
    live: bool,
    /// Present where the CPU may take over from a GPU.
    fallback: Option<Arc<Fallback>>,
    /// Hardware decodes this opening.
    on_hardware: AtomicBool,
    frames_count: AtomicU64,
    /// That the stream breaks its protocol has been said.
    warned: AtomicBool,
}

impl pipelines::Receiver for Inlet {
    fn frame(&self, frame: pipelines::Frame) {
        self.room.is_taken();
        self.frames_count.fetch_add(1, Ordering::Relaxed);
        let now = clock::now();
        let wall = clock::wall();
        let age = frame.age().filter(|&age| age < PLAUSIBLE_AGE && self.live).unwrap_or_default();
        let at = now.checked_sub(age).unwrap_or(now);
        let since_arrival = frame.since_arrival().filter(|&since| since < PLAUSIBLE_AGE && self.live);
        let received_at = since_arrival.and_then(|since| now.checked_sub(since)).unwrap_or(at);
        let captured = frame.capture_unix_ns().and_then(|ns| u64::try_from(ns).ok());
        let captured = captured.map(|ns| SystemTime::UNIX_EPOCH + Duration::from_nanos(ns));
        let (wall, ts_source) = match captured.filter(|&captured| is_plausible(captured, wall)) {
            Some(captured) => (captured, TsSource::RtcpSr),
            None => (wall.checked_sub(age).unwrap_or(wall), self.ts_source),
        };
        self.receiver.frame(Arrived { frame: Decoded::Gst(frame), at, received_at, wall, ts_source });
    }

    fn wants(&self, kind: pipelines::PictureKind) -> bool {
        self.receiver.wants(clock::now(), kind)
    }

    fn judge(&self, kind: pipelines::PictureKind, size_bytes: usize) -> pipelines::Judgement {
        self.receiver.judge(clock::now(), kind, size_bytes)
    }

    fn is_ready(&self) -> bool {
        self.receiver.is_ready()
    }

    fn kept(&self, mark: Option<u64>) {
        self.receiver.kept(clock::now(), mark);
    }

    fn caught_up(&self) {
        self.receiver.caught_up();
    }

    fn leaves_out(&self) -> bool {
        self.receiver.leaves_out()
    }

    fn skipped(&self, mark: Option<u64>) {
        self.receiver.skipped(clock::now(), mark);
    }

    fn stage(&self, stage: pipelines::Stage) {
        self.receiver.stage(match stage {
            pipelines::Stage::Connecting => Stage::Connecting,
            pipelines::Stage::Asking => Stage::Asking,
            pipelines::Stage::Awaiting => Stage::Awaiting,
        });
    }

    fn event(&self, event: pipelines::Event) {
        match event {
            pipelines::Event::Eos if self.live => {
                let detail = "the camera ended the stream".to_owned();
                self.receiver.fault(Fault { reason: Reason::Eos, detail });
            }
            pipelines::Event::Eos => {
                let detail = "the file was read to its end".to_owned();
                self.receiver.fault(Fault { reason: Reason::Ended, detail });
            }
            pipelines::Event::Error(failure) => {
                if let Some(fallback) = &self.fallback {
                    fallback.remember(&self.camera, &failure);
                    let is_decoding = failure.class == pipelines::FailureClass::Decode;
                    if is_decoding && self.on_hardware.load(Ordering::Relaxed) {
                        let frames_count = self.frames_count.load(Ordering::Relaxed);
                        fallback.broke_down(&self.camera, frames_count, &failure);
                    }
                }
                self.receiver.fault(fault(failure));
            }
            // Said once an opening: packets that are dropped are seen nowhere else.
            pipelines::Event::Warning(failure) if failure.class == pipelines::FailureClass::Protocol => {
                if !self.warned.swap(true, Ordering::AcqRel) {
                    tracing::warn!(camera = self.camera, "{failure}");
                }
            }
            pipelines::Event::Warning(failure) => {
                tracing::debug!(camera = self.camera, "{failure}");
            }
            pipelines::Event::SourceInfo(info) => {
                self.on_hardware.store(info.hardware, Ordering::Relaxed);
                if let (Some(fallback), Some(why)) = (&self.fallback, &info.why_not_hardware) {
                    fallback.warn(&self.camera, why);
                }
                tracing::info!(
                    camera = self.camera,
                    codec = info.codec.as_deref().unwrap_or("raw"),
                    decoder = info.decoder.as_deref().unwrap_or("none"),
                    memory = %info.memory,
                    "stream found"
                );
            }
        }
    }
}

/// A failure in the daemon's words.
pub(crate) fn fault(failure: pipelines::Failure) -> Fault {
    use pipelines::FailureClass as Class;
    let reason = match failure.class {
        Class::Unreachable | Class::Refused | Class::Certificate | Class::Timeout => Reason::ConnectFailed,
        Class::Unauthorized | Class::Permission => Reason::Unauthorized,
        // A source without pictures is no fault of this box.
        Class::NotFound | Class::NoVideo => Reason::NotFound,
        Class::UnsupportedCodec
        | Class::MissingElement { .. }
        | Class::HardwareDecoder
        | Class::PictureTooLarge => Reason::Unsupported,
        Class::Closed => Reason::Eos,
        Class::Busy | Class::Protocol | Class::Decode | Class::Other => Reason::SourceError,
    };
    Fault { reason, detail: failure.message }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::AtomicUsize;

    use watchpost_pipelines::Receiver as _;

    use super::*;

    #[derive(Default)]
    struct Faults(Mutex<Vec<Fault>>);

    impl Receiver for Faults {
        fn frame(&self, _arrived: Arrived) {}

        fn fault(&self, fault: Fault) {
            self.0.lock().unwrap().push(fault);
        }
    }

    /// Counts warnings.
    struct Warnings(Arc<AtomicUsize>);

    impl<S: tracing::Subscriber> tracing_subscriber::Layer<S> for Warnings {
        fn on_event(&self, event: &tracing::Event<'_>, _: tracing_subscriber::layer::Context<'_, S>) {
            if *event.metadata().level() == tracing::Level::WARN {
                self.0.fetch_add(1, Ordering::Relaxed);
            }
        }
    }

    fn source(decoder: DecoderChoice) -> GstSource {
        let locator = Locator::Rtsp { url: "rtsp://10.0.0.12/".to_owned() };
        GstSource::new(&CameraOptions { decoder, ..CameraOptions::new("gate", locator) }).unwrap()
    }

    /// Lets an opening of `source` fail.
    fn fail(source: &GstSource, class: pipelines::FailureClass) -> Reason {
        let faults = Arc::new(Faults::default());
        let room = Arc::new(Room::for_camera().unwrap());
        let inlet = source.inlet(&source.next_spec(), faults.clone(), &room);
        inlet.event(pipelines::Event::Error(pipelines::Failure { class, message: "no session".to_owned() }));
        faults.0.lock().unwrap()[0].reason
    }

    #[test]
    fn a_camera_s_clock_is_believed_within_a_day() {
        let now = SystemTime::UNIX_EPOCH + Duration::from_secs(1_800_000_000);
        let hour = Duration::from_secs(3600);
        assert!(
            is_plausible(now, now)
                && is_plausible(now - hour * 23, now)
                && is_plausible(now + hour * 23, now)
        );
        assert!(!is_plausible(now - hour * 25, now) && !is_plausible(now + hour * 25, now));
        assert!(!is_plausible(SystemTime::UNIX_EPOCH, now));
    }

    #[test]
    fn after_a_gpu_that_fails_the_cpu_decodes_and_one_warning_says_so() {
        use tracing_subscriber::layer::SubscriberExt;
        let warnings = Arc::new(AtomicUsize::new(0));
        let subscriber = tracing_subscriber::registry().with(Warnings(Arc::clone(&warnings)));
        tracing::subscriber::with_default(subscriber, || {
            let source = source(DecoderChoice::Auto);
            assert_eq!(fail(&source, pipelines::FailureClass::Timeout), Reason::ConnectFailed);
            assert_eq!(source.next_spec().decoder, pipelines::DecoderChoice::Auto);
            assert_eq!(warnings.load(Ordering::Relaxed), 0);
            assert_eq!(fail(&source, pipelines::FailureClass::HardwareDecoder), Reason::Unsupported);
            assert_eq!(source.next_spec().decoder, pipelines::DecoderChoice::Software);
            fail(&source, pipelines::FailureClass::HardwareDecoder);
            assert_eq!(warnings.load(Ordering::Relaxed), 1);
        });
    }

    #[test]
    fn who_asks_for_hardware_gets_hardware_or_a_fault() {
        let source = source(DecoderChoice::Hardware);
        assert_eq!(fail(&source, pipelines::FailureClass::HardwareDecoder), Reason::Unsupported);
        assert_eq!(source.next_spec().decoder, pipelines::DecoderChoice::Hardware);
    }
}
