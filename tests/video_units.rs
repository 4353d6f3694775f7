//! A camera whose video unit does not decode is decoded by the CPU from its next opening on, one warning says so, and the
//! unit is not tried again; `detect` does so at once. The unit's decoder is one of the tests' own.

#[path = "../pipelines/tests/common/decoder.rs"]
mod decoder;
mod program;

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Condvar, Mutex};
use std::time::Duration;

use decoder::{Behaviour, register_unit, set};
use tracing_subscriber::layer::SubscriberExt;
use watchpost::camera::Reason;
use watchpost::config::{CameraOptions, DecoderChoice, Locator};
use watchpost::engine::builtin::BuiltinEngine;
use watchpost::frame::PrivacyMask;
use watchpost::model;
use watchpost::offline::{self, Choice, Input};
use watchpost::source::{Arrived, Fault, GstSource, Layout, Pixels, Receiver, Source};

/// What an opening gave: who decoded (the unit gives NV12, the CPU does not), and what ended it.
#[derive(Debug, Clone, Default)]
struct Seen {
    by_unit: Option<bool>,
    fault: Option<Fault>,
}

#[derive(Default)]
struct Watcher {
    seen: Mutex<Seen>,
    changed: Condvar,
}

impl Watcher {
    fn note(&self, note: impl FnOnce(&mut Seen)) {
        note(&mut self.seen.lock().unwrap());
        self.changed.notify_all();
    }
}

impl Receiver for Watcher {
    fn frame(&self, arrived: Arrived) {
        let Pixels::Host(picture) = arrived.frame.pixels() else { panic!("there is no GPU") };
        let by_unit = matches!(picture.layout, Layout::Nv12 { .. });
        self.note(|seen| seen.by_unit = Some(by_unit));
    }

    fn fault(&self, fault: Fault) {
        self.note(|seen| seen.fault = Some(fault));
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

/// Opens until `enough`.
fn open(source: &GstSource, generation: u64, enough: impl Fn(&Seen) -> bool) -> Seen {
    let watcher = Arc::new(Watcher::default());
    let _opening = match source.open(generation, watcher.clone()) {
        Ok(opening) => opening,
        Err(fault) => return Seen { by_unit: None, fault: Some(fault) },
    };
    let waiting = watcher.seen.lock().unwrap();
    let (seen, waited) =
        watcher.changed.wait_timeout_while(waiting, Duration::from_secs(60), |seen| !enough(seen)).unwrap();
    assert!(!waited.timed_out(), "{seen:?}");
    seen.clone()
}

fn frame_or_fault(seen: &Seen) -> bool {
    seen.by_unit.is_some() || seen.fault.is_some()
}

#[test]
fn the_cpu_takes_over_from_a_video_unit_and_stays_and_is_announced_once() {
    let Some(footage) = program::shared("footage") else { return };
    let video = footage.join("car-detection.mp4");
    let count = Arc::new(AtomicUsize::new(0));
    let warnings = || count.load(Ordering::SeqCst);
    tracing::subscriber::set_global_default(tracing_subscriber::registry().with(Warnings(count.clone())))
        .unwrap();
    set(Behaviour::Works);
    register_unit("vah264dec");
    let camera = |decoder| {
        let locator = Locator::File { path: video.clone() };
        GstSource::new(&CameraOptions { decoder, ..CameraOptions::new("gate", locator) }).unwrap()
    };

    let healthy = camera(DecoderChoice::Auto);
    assert_eq!(open(&healthy, 1, frame_or_fault).by_unit, Some(true));
    assert_eq!(warnings(), 0);

    set(Behaviour::FailsAtTheFirst);
    let source = camera(DecoderChoice::Auto);
    let fault = open(&source, 1, frame_or_fault).fault.expect("it fails");
    assert_eq!(fault.reason, Reason::Unsupported, "{fault:?}");
    assert!(fault.detail.contains("vah264dec"), "{fault:?}");
    assert_eq!(open(&source, 2, frame_or_fault).by_unit, Some(false), "on the CPU");
    set(Behaviour::Works);
    assert_eq!(open(&source, 3, frame_or_fault).by_unit, Some(false), "what did not work is not tried again");
    assert_eq!(warnings(), 1);
    assert_eq!(open(&healthy, 2, frame_or_fault).by_unit, Some(true), "the other camera keeps the unit");

    // One that works for a while and fails, again and again.
    set(Behaviour::FailsLater);
    let source = camera(DecoderChoice::Auto);
    for generation in 1..4 {
        assert_eq!(warnings(), 1, "once or twice is no reason");
        let seen = open(&source, generation, |seen| seen.fault.is_some());
        assert_eq!((seen.by_unit, seen.fault.unwrap().reason), (Some(true), Reason::SourceError));
    }
    assert_eq!(open(&source, 4, frame_or_fault).by_unit, Some(false));
    assert_eq!(warnings(), 2);

    set(Behaviour::GivesNothing);
    let by_name = camera(DecoderChoice::Hardware);
    for generation in 1..3 {
        let fault = open(&by_name, generation, frame_or_fault).fault.expect("it fails");
        assert_eq!(fault.reason, Reason::Unsupported);
    }
    assert_eq!(warnings(), 2);

    // A run over files has no next opening.
    let spec = by_name.spec().clone();
    let read = |decoder| {
        let spec = watchpost_pipelines::Spec { decoder, realtime: false, ..spec.clone() };
        let inputs = [Input { name: "car".to_owned(), spec }];
        let manifest = model::find("demo", &[]).unwrap();
        let mut engine = BuiltinEngine::load(&manifest, 1).unwrap();
        let choice =
            Choice { every: 1, max_frames: Some(3), realtime: false, keep_pictures: false, stop: None };
        let mask = PrivacyMask::default();
        offline::run(&inputs, &manifest.input, choice, mask, &mut engine, &mut |_, _, _| true).unwrap()
    };
    let totals = read(watchpost_pipelines::DecoderChoice::Auto);
    assert_eq!((totals.frames, totals.faults.len()), (3, 0), "{totals:?}");
    assert_eq!(warnings(), 3);
    let totals = read(watchpost_pipelines::DecoderChoice::Hardware);
    assert_eq!((totals.frames, totals.faults.len()), (0, 1), "{totals:?}");
}
