//! Coded pictures that the receiver does not want are not decoded, and the others are what they were.

mod common;

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use common::{luma_hash, make, now};
use watchpost_pipelines::{Event, Frame, PictureKind, Pipeline, Receiver, SourceKind, Spec};

/// Wants some kinds, and remembers what came.
#[derive(Default)]
struct Choosy {
    wanted: Vec<PictureKind>,
    seen: Mutex<Seen>,
}

#[derive(Default)]
struct Seen {
    coded: Vec<PictureKind>,
    skipped: usize,
    /// Of each decoded picture a hash, by its time.
    decoded: BTreeMap<u64, u64>,
    /// How many had been decoded when each key picture came.
    decoded_before_keys: Vec<usize>,
    events: Vec<Event>,
}

impl Receiver for Choosy {
    fn frame(&self, frame: Frame) {
        let hash = luma_hash(&frame.picture().expect("in system memory"));
        let pts = frame.pts_ns().expect("a time");
        assert_eq!(self.seen.lock().unwrap().decoded.insert(pts, hash), None, "twice at {pts}");
    }

    fn event(&self, event: Event) {
        self.seen.lock().unwrap().events.push(event);
    }

    fn wants(&self, kind: PictureKind) -> bool {
        let mut seen = self.seen.lock().unwrap();
        seen.coded.push(kind);
        if kind == PictureKind::Key {
            let count = seen.decoded.len();
            seen.decoded_before_keys.push(count);
        }
        self.wanted.contains(&kind)
    }

    fn skipped(&self, mark: Option<u64>) {
        assert!(mark.is_some());
        self.seen.lock().unwrap().skipped += 1;
    }
}

fn play(path: &Path, wanted: &[PictureKind]) -> Seen {
    let spec = Spec { realtime: false, ..Spec::new(SourceKind::File { path: path.to_owned() }) };
    let receiver = Arc::new(Choosy { wanted: wanted.to_vec(), ..Choosy::default() });
    let pipeline = Pipeline::start(&spec, "choosy", receiver.clone()).expect("it starts");
    let deadline = now() + Duration::from_secs(60);
    while receiver.seen.lock().unwrap().events.iter().all(|event| matches!(event, Event::SourceInfo(_))) {
        assert!(now() < deadline, "no end");
        std::thread::park_timeout(Duration::from_millis(5));
    }
    pipeline.stop();
    let seen = std::mem::take(&mut *receiver.seen.lock().unwrap());
    assert!(seen.events.contains(&Event::Eos), "{:?}", seen.events);
    seen
}

fn clip(folder: &Path, name: &str, encode: &str) -> PathBuf {
    let path = folder.join(name);
    let source = "videotestsrc num-buffers=90 pattern=ball ! video/x-raw,width=320,height=240,framerate=30/1,format=I420";
    make(&format!("{source} ! {encode}"), &path);
    path
}

fn count(kinds: &[PictureKind], kind: PictureKind) -> usize {
    kinds.iter().filter(|&&one| one == kind).count()
}

#[test]
fn what_nobody_needs_is_left_out_and_the_others_are_the_same_to_the_bit() {
    use PictureKind::{Disposable, Key, Reference};
    let folder = tempfile::tempdir().unwrap();
    for (name, encode) in [
        ("h264.mp4", "x264enc bframes=2 b-adapt=false key-int-max=30 ! h264parse ! mp4mux"),
        ("h264.ts", "x264enc bframes=2 b-adapt=false key-int-max=30 ! h264parse ! mpegtsmux"),
        (
            "h265.mkv",
            "x265enc key-int-max=30 option-string=bframes=2:b-adapt=0:b-pyramid=0 ! h265parse ! matroskamux",
        ),
    ] {
        let path = clip(folder.path(), name, encode);
        let all = play(&path, &[Key, Reference, Disposable]);
        assert_eq!((all.decoded.len(), all.skipped), (90, 0), "{name}");
        let disposable = count(&all.coded, Disposable);
        assert!((25..=65).contains(&disposable), "{name}: {disposable} B-frames that nobody needs");
        let references = play(&path, &[Key, Reference]);
        assert_eq!(references.decoded.len(), 90 - disposable, "{name}");
        assert_eq!(references.skipped, disposable, "{name}");
        for (pts, hash) in &references.decoded {
            assert_eq!(all.decoded.get(pts), Some(hash), "{name}: at {pts} ns");
        }
        let keys = play(&path, &[Key]);
        assert_eq!(keys.decoded.len(), count(&all.coded, Key), "{name}");
        assert_eq!(keys.decoded.len() + keys.skipped, 90, "{name}");
        assert!(keys.decoded.iter().all(|(pts, hash)| all.decoded.get(pts) == Some(hash)), "{name}");
        // Reordering decoders would hold each of them back until the next ones.
        assert_eq!(keys.decoded_before_keys, (0..keys.decoded.len()).collect::<Vec<_>>(), "{name}");
    }
}

#[test]
fn of_streams_whose_every_picture_is_needed_only_keyframes_can_be_left_alone() {
    use PictureKind::{Disposable, Key, Reference};
    let folder = tempfile::tempdir().unwrap();
    for (name, encode, keys) in [
        ("ippp.mp4", "x264enc tune=zerolatency key-int-max=30 ! h264parse ! mp4mux", 3),
        ("jpeg.avi", "jpegenc ! avimux", 90),
    ] {
        let path = clip(folder.path(), name, encode);
        let seen = play(&path, &[Key, Reference]);
        assert_eq!((seen.decoded.len(), count(&seen.coded, Disposable)), (90, 0), "{name}");
        assert_eq!(play(&path, &[Key]).decoded.len(), keys, "{name}");
    }
}
