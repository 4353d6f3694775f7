//! Coded pictures that are kept are decoded later to what they would have been, in order, or thrown away whole.

mod common;

use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use common::{luma_hash, make, now};
use watchpost_pipelines::{
    Event, Frame, Judgement, PictureKind, Pipeline, Receiver, SourceKind, Spec, open_coded,
};

/// Judges by the number of the picture, and remembers what came.
struct Judge {
    judge: fn(usize, PictureKind) -> Judgement,
    seen: Mutex<Seen>,
}

#[derive(Default)]
struct Seen {
    arrived: usize,
    kept: usize,
    skipped: usize,
    caught_up_at: Vec<usize>,
    /// Time and a hash of each decoded picture, and how many had arrived.
    decoded: Vec<(u64, u64, usize)>,
    kept_most: usize,
    over: bool,
    /// From this one on judging takes a while.
    slow_from: Option<usize>,
}

/// Pictures that a decoder takes before it shows the first.
const IN_DECODER_MAX: usize = 4;

impl Receiver for Judge {
    fn frame(&self, frame: Frame) {
        let hash = luma_hash(&frame.picture().expect("in system memory"));
        let mut seen = self.seen.lock().unwrap();
        let arrived = seen.arrived;
        seen.decoded.push((frame.pts_ns().expect("a time"), hash, arrived));
    }

    fn event(&self, event: Event) {
        if matches!(event, Event::Eos | Event::Error(_)) {
            assert_eq!(event, Event::Eos);
            self.seen.lock().unwrap().over = true;
        }
    }

    fn judge(&self, kind: PictureKind, size_bytes: usize) -> Judgement {
        assert!(size_bytes > 0);
        let mut seen = self.seen.lock().unwrap();
        seen.kept_most = seen.kept_most.max(open_coded());
        seen.arrived += 1;
        let number = seen.arrived - 1;
        let is_slow = seen.slow_from.is_some_and(|from| seen.arrived >= from);
        drop(seen);
        if is_slow {
            std::thread::park_timeout(Duration::from_millis(5));
        }
        (self.judge)(number, kind)
    }

    /// Frames are never welcome: only what has to be given away to catch up is.
    fn is_ready(&self) -> bool {
        false
    }

    fn kept(&self, mark: Option<u64>) {
        assert!(mark.is_some());
        self.seen.lock().unwrap().kept += 1;
    }

    fn caught_up(&self) {
        let mut seen = self.seen.lock().unwrap();
        let arrived = seen.arrived;
        seen.caught_up_at.push(arrived);
    }

    fn skipped(&self, _mark: Option<u64>) {
        self.seen.lock().unwrap().skipped += 1;
    }
}

fn told(
    path: &Path,
    kept_bytes_max: usize,
    judge: fn(usize, PictureKind) -> Judgement,
) -> (Spec, Arc<Judge>) {
    let kind = SourceKind::File { path: path.to_owned() };
    let spec = Spec { realtime: false, kept_bytes_max, ..Spec::new(kind) };
    (spec, Arc::new(Judge { judge, seen: Mutex::default() }))
}

fn play(path: &Path, kept_bytes_max: usize, judge: fn(usize, PictureKind) -> Judgement) -> Seen {
    let (spec, receiver) = told(path, kept_bytes_max, judge);
    let pipeline = Pipeline::start(&spec, "judge", receiver.clone()).expect("it starts");
    let deadline = now() + Duration::from_secs(60);
    while !receiver.seen.lock().unwrap().over {
        assert!(now() < deadline, "no end");
        std::thread::park_timeout(Duration::from_millis(5));
    }
    pipeline.stop();
    assert_eq!(open_coded(), 0, "nothing is kept of a pipeline that has stopped");
    let seen = std::mem::take(&mut *receiver.seen.lock().unwrap());
    assert!(seen.decoded.is_sorted_by_key(|&(pts, ..)| pts), "in order");
    assert_eq!(seen.decoded.len() + seen.skipped, seen.arrived, "each has one end");
    seen
}

/// 240 pictures of 30 a second, a keyframe every 60.
fn clip(folder: &Path, name: &str, encode: &str) -> PathBuf {
    let path = folder.join(name);
    let source = "videotestsrc num-buffers=240 pattern=ball ! video/x-raw,width=320,height=240,framerate=30/1,format=I420";
    make(&format!("{source} ! {encode}"), &path);
    path
}

fn hashes(seen: &Seen) -> Vec<(u64, u64)> {
    seen.decoded.iter().map(|&(pts, hash, _)| (pts, hash)).collect()
}

const ROOM: usize = 4 << 20;
/// The clip whose pictures are not coded in the order in which they are shown.
const REORDERED: &str = "b.ts";

/// One test: all of them count what is kept in this process.
#[test]
fn what_is_kept_is_decoded_later_to_the_bit_or_thrown_away_whole() {
    let folder = tempfile::tempdir().unwrap();
    for (name, encode) in [
        ("ippp.mp4", "x264enc tune=zerolatency key-int-max=60 option-string=scenecut=0 ! h264parse ! mp4mux"),
        (
            REORDERED,
            "x264enc bframes=2 b-adapt=false key-int-max=60 option-string=scenecut=0:open-gop=0 ! h264parse ! mpegtsmux",
        ),
        (
            "h265.mkv",
            "x265enc key-int-max=60 option-string=bframes=0:scenecut=0:open-gop=0 ! h265parse ! matroskamux",
        ),
    ] {
        let path = clip(folder.path(), name, encode);
        let all = play(&path, 0, |_, _| Judgement::Decode);
        assert_eq!((all.decoded.len(), all.kept, all.skipped), (240, 0, 0), "{name}");
        late_is_the_same(name, &path, &all);
        never_woken_is_keyframes(name, &path, &all);
        forgotten_is_thrown_away(name, &path);
        stopped_is_counted(name, &path);
        without_room_nothing_is_broken(name, &path, &all);
    }
}

/// Asleep for a GOP and a half, then awake: the whole GOP in which it woke is decoded.
fn late_is_the_same(name: &str, path: &Path, all: &Seen) {
    let late = play(path, ROOM, |number, _| if number < 100 { Judgement::Keep } else { Judgement::Decode });
    // One keyframe, then all from the second on.
    let whole = hashes(all).into_iter().enumerate();
    let expected: Vec<_> =
        whole.filter(|(number, _)| *number == 0 || *number >= 60).map(|(_, one)| one).collect();
    let shown = hashes(&late);
    assert!(shown.iter().all(|one| expected.contains(one)), "{name}");
    // Where pictures are reordered the first ones after a keyframe have brought it out of the decoder, unshown.
    let unshown: Vec<_> = expected.iter().filter(|one| !shown.contains(one)).collect();
    let unshown_max = if name == REORDERED { 4 } else { 0 };
    assert!(unshown.len() <= unshown_max, "{name}: {unshown:?}");
    assert!(unshown.iter().all(|(pts_ns, _)| (expected[1].0..expected[10].0).contains(pts_ns)), "{name}");
    assert_eq!(late.caught_up_at.len(), 1, "{name}: {:?}", late.caught_up_at);
    // 40 pictures are behind: live again after less than so many more.
    assert!((101..=145).contains(&late.caught_up_at[0]), "{name}: {:?}", late.caught_up_at);
    assert!((40..=101).contains(&late.kept_most), "{name}: {}", late.kept_most);
}

fn never_woken_is_keyframes(name: &str, path: &Path, all: &Seen) {
    let asleep = play(path, ROOM, |_, _| Judgement::Keep);
    // What the last keyframe left is thrown away with the end.
    assert_eq!(asleep.decoded.len(), 4, "{name}");
    assert!(hashes(&asleep).iter().all(|one| hashes(all).contains(one)), "{name}");
    assert_eq!(asleep.caught_up_at.len(), 0, "{name}");
    let unshown_max = if name == REORDERED { 4 * 4 } else { 0 };
    assert!((236 - unshown_max..=236).contains(&asleep.kept), "{name}: {}", asleep.kept);
    // Each keyframe is seen when it comes, not with the next one.
    assert!(
        asleep.decoded.iter().zip([0, 60, 120, 180]).all(|(&(.., arrived), key)| arrived <= key + 8),
        "{name}"
    );
}

/// Kept, then not wanted: nothing is decoded before the next keyframe.
fn forgotten_is_thrown_away(name: &str, path: &Path) {
    let seen = play(path, ROOM, |number, kind| match number {
        0..30 => Judgement::Keep,
        30..40 if kind == PictureKind::Key => Judgement::Decode,
        30..40 => Judgement::Leave,
        _ => Judgement::Decode,
    });
    assert_eq!(seen.decoded.len(), 1 + 180, "{name}");
}

/// A pipeline that is stopped while pictures are kept, or on their way into the decoder, says of each that it is lost.
fn stopped_is_counted(name: &str, path: &Path) {
    let judges: [fn(usize, PictureKind) -> Judgement; 2] =
        [|_, _| Judgement::Keep, |number, _| if number < 50 { Judgement::Keep } else { Judgement::Decode }];
    for judge in judges {
        let stopped = (0..20).map(|_| stop_at_55(path, judge)).find(|seen| !seen.over);
        let seen = stopped.expect("the file is never at its end before it is stopped");
        let ended = seen.skipped + seen.decoded.len() + IN_DECODER_MAX;
        let counts = (seen.kept, seen.decoded.len(), seen.skipped);
        assert!(seen.kept >= 5 && ended >= seen.kept, "{name}: kept, decoded, lost: {counts:?}");
    }
}

/// It may be over before it is stopped.
fn stop_at_55(path: &Path, judge: fn(usize, PictureKind) -> Judgement) -> Seen {
    let (spec, receiver) = told(path, ROOM, judge);
    receiver.seen.lock().unwrap().slow_from = Some(55);
    let pipeline = Pipeline::start(&spec, "judge", receiver.clone()).expect("it starts");
    let deadline = now() + Duration::from_secs(60);
    while receiver.seen.lock().unwrap().arrived < 55 {
        assert!(now() < deadline, "nothing came");
        std::thread::park_timeout(Duration::from_millis(1));
    }
    pipeline.stop();
    assert_eq!(open_coded(), 0);
    std::mem::take(&mut *receiver.seen.lock().unwrap())
}

/// What is too much is given up whole, not half.
fn without_room_nothing_is_broken(name: &str, path: &Path, all: &Seen) {
    let seen = play(path, 4000, |number, _| if number < 100 { Judgement::Keep } else { Judgement::Decode });
    assert!(seen.decoded.len() >= 121, "{name}: {}", seen.decoded.len());
    assert!(hashes(&seen).iter().all(|one| hashes(all).contains(one)), "{name}");
}
