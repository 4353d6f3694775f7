//! Daemons that leak on purpose: the shipped program in everything but where its cameras' openings end.

use std::os::fd::IntoRawFd;
use std::sync::Arc;

use watchpost::config::CameraOptions;
use watchpost::source::{Arrived, Fault, Opening, Receiver, Source};

/// Which leak a process of this program springs, as the daemon that it then is.
pub const VARIABLE: &str = "SOAK_LEAK";

/// What one leak of memory amounts to. It is touched.
const LEAK_BYTES: usize = 200 << 10;

/// What every opening leaves behind.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Leak {
    Nothing,
    /// A decoded picture.
    Frame,
    Descriptor,
    Thread,
    /// A GStreamer pipeline with all it has.
    Pipeline,
    Memory,
}

impl Leak {
    /// Those that the check has to find.
    pub const ALL: [Self; 5] = [Self::Frame, Self::Descriptor, Self::Thread, Self::Pipeline, Self::Memory];

    pub fn name(self) -> &'static str {
        match self {
            Self::Nothing => "nothing",
            Self::Frame => "frame",
            Self::Descriptor => "descriptor",
            Self::Thread => "thread",
            Self::Pipeline => "pipeline",
            Self::Memory => "memory",
        }
    }

    /// The check that has to fail for it.
    pub fn found_as(self) -> &'static str {
        match self {
            Self::Nothing => "",
            Self::Frame => "frames",
            Self::Descriptor => "descriptors",
            Self::Thread => "threads",
            Self::Pipeline => "pipelines",
            Self::Memory => "memory at rest",
        }
    }

    fn from_environment() -> Self {
        let wanted = std::env::var(VARIABLE).unwrap_or_default();
        Self::ALL.into_iter().find(|leak| leak.name() == wanted).unwrap_or(Self::Nothing)
    }

    fn spring(self) {
        match self {
            Self::Nothing | Self::Pipeline | Self::Frame => {}
            Self::Descriptor => {
                let file = std::fs::File::open("/dev/null").expect("it is always there");
                let _nobody_closes_it = file.into_raw_fd();
            }
            Self::Thread => drop(std::thread::spawn(|| {
                loop {
                    std::thread::park();
                }
            })),
            Self::Memory => {
                Box::leak(vec![1u8; LEAK_BYTES].into_boxed_slice());
            }
        }
    }
}

/// What the daemon makes of a camera, with a hole in it.
pub fn source(camera: &CameraOptions) -> Arc<dyn Source> {
    Arc::new(LeakySource { inner: watchpost::cli::source(camera), leak: Leak::from_environment() })
}

struct LeakySource {
    inner: Arc<dyn Source>,
    leak: Leak,
}

struct LeakyOpening {
    inner: Option<Box<dyn Opening>>,
    leak: Leak,
}

impl Opening for LeakyOpening {}

impl Source for LeakySource {
    fn open(&self, generation: u64, receiver: Arc<dyn Receiver>) -> Result<Box<dyn Opening>, Fault> {
        let keeps = std::sync::atomic::AtomicBool::new(self.leak == Leak::Frame);
        let receiver = Arc::new(Keeping { inner: receiver, keeps });
        let inner = Some(self.inner.open(generation, receiver)?);
        Ok(Box::new(LeakyOpening { inner, leak: self.leak }))
    }
}

impl Drop for LeakyOpening {
    fn drop(&mut self) {
        self.leak.spring();
        if self.leak == Leak::Pipeline
            && let Some(inner) = self.inner.take()
        {
            Box::leak(inner);
        }
    }
}

/// Keeps the first frame of an opening for ever.
struct Keeping {
    inner: Arc<dyn Receiver>,
    keeps: std::sync::atomic::AtomicBool,
}

impl Receiver for Keeping {
    fn frame(&self, arrived: Arrived) {
        if self.keeps.swap(false, std::sync::atomic::Ordering::Relaxed) {
            Box::leak(Box::new(arrived));
            return;
        }
        self.inner.frame(arrived);
    }

    fn fault(&self, fault: Fault) {
        self.inner.fault(fault);
    }

    fn keyframes_only(&self) -> bool {
        self.inner.keyframes_only()
    }

    fn skipped(&self, at: std::time::Instant, mark: Option<u64>) {
        self.inner.skipped(at, mark);
    }
}
