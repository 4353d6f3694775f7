//! A camera whose GPU decoder cannot be opened is decoded by the CPU at its next opening, and one warning says so.

mod program;

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Condvar, Mutex};
use std::time::Duration;

use tracing_subscriber::layer::SubscriberExt;
use watchpost::camera::Reason;
use watchpost::config::{CameraOptions, DecoderChoice, Locator};
use watchpost::source::{Arrived, Fault, GstSource, Pixels, Receiver, Source};
use watchpost_cuda::Gpu;
use watchpost_standins::{Cuda, enter, names};

/// What came first: a frame (is it on the GPU?) or a fault.
#[derive(Default)]
struct First {
    seen: Mutex<Option<Result<bool, Fault>>>,
    changed: Condvar,
}

impl First {
    fn put(&self, seen: Result<bool, Fault>) {
        self.seen.lock().unwrap().get_or_insert(seen);
        self.changed.notify_all();
    }
}

impl Receiver for First {
    fn frame(&self, arrived: Arrived) {
        self.put(Ok(matches!(arrived.frame.pixels(), Pixels::Device(_))));
    }

    fn fault(&self, fault: Fault) {
        self.put(Err(fault));
    }
}

/// Counts warnings on all threads.
struct Warnings(Arc<AtomicUsize>);

impl<S: tracing::Subscriber> tracing_subscriber::Layer<S> for Warnings {
    fn on_event(&self, event: &tracing::Event<'_>, _: tracing_subscriber::layer::Context<'_, S>) {
        if *event.metadata().level() == tracing::Level::WARN {
            self.0.fetch_add(1, Ordering::SeqCst);
        }
    }
}

fn open(source: &GstSource, generation: u64) -> Result<bool, Fault> {
    let first = Arc::new(First::default());
    let _opening = source.open(generation, first.clone())?;
    let seen = first.seen.lock().unwrap();
    let (seen, _) =
        first.changed.wait_timeout_while(seen, Duration::from_secs(20), |seen| seen.is_none()).unwrap();
    seen.clone().expect("a frame or a fault within 20 s")
}

#[test]
fn the_cpu_takes_over_and_stays_and_is_announced_once() {
    enter();
    let Some(footage) = program::shared("footage") else { return };
    let warnings = Arc::new(AtomicUsize::new(0));
    tracing::subscriber::set_global_default(tracing_subscriber::registry().with(Warnings(warnings.clone())))
        .unwrap();
    watchpost_pipelines::init().unwrap();
    let (cuda, gpu) = (Cuda::here(), Gpu::open(0).unwrap());
    let camera = |decoder| {
        let locator = Locator::File { path: footage.join("car-detection.mp4") };
        let source =
            GstSource::new(&CameraOptions { decoder, ..CameraOptions::new("gate", locator) }).unwrap();
        source.use_gpu(Some(&gpu));
        source
    };
    let before = cuda.held();

    let healthy = camera(DecoderChoice::Auto);
    assert_eq!(open(&healthy, 1), Ok(true), "on the GPU");
    assert_eq!(warnings.load(Ordering::SeqCst), 0);

    cuda.set(names::ORDER_NO_DECODER, 1000);
    let source = camera(DecoderChoice::Auto);
    let fault = open(&source, 1).unwrap_err();
    assert_eq!(fault.reason, Reason::Unsupported, "{fault:?}");
    assert!(fault.detail.contains("nvh264dec"), "{fault:?}");
    for generation in 2..5 {
        assert_eq!(open(&source, generation), Ok(false), "on the CPU");
    }
    cuda.set(names::ORDER_NO_DECODER, 0);
    assert_eq!(open(&source, 5), Ok(false), "what did not work once is not tried again");
    assert_eq!(warnings.load(Ordering::SeqCst), 1);
    // The other camera keeps the GPU.
    assert_eq!(open(&healthy, 2), Ok(true));

    cuda.set(names::ORDER_NO_DECODER, 1000);
    let by_name = camera(DecoderChoice::Hardware);
    for generation in 1..3 {
        assert_eq!(open(&by_name, generation).unwrap_err().reason, Reason::Unsupported);
    }
    cuda.set(names::ORDER_NO_DECODER, 0);
    assert_eq!(open(&by_name, 3), Ok(true));
    assert_eq!(warnings.load(Ordering::SeqCst), 1);

    // Without the GPU the same camera needs none.
    healthy.use_gpu(None);
    assert_eq!(open(&healthy, 3), Ok(false));
    assert_eq!(warnings.load(Ordering::SeqCst), 1);
    assert_eq!(cuda.held(), before, "{}", cuda.report());
}
