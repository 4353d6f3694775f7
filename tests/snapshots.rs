//! The best picture of each track, through the whole daemon: what is in it, how many there are, and a disk without room.

#[path = "program/disk.rs"]
mod disk;
mod program;

use std::collections::{BTreeMap, BTreeSet};
use std::fs::{self, File};
use std::io::BufReader;
use std::path::{Path, PathBuf};

use disk::Disk;
use program::{Running, contents, eventually, next_record, watchpost};
use rustix::process::Signal;
use serde_json::Value;

/// Narrow strips up the whole picture, close enough together that no car stands between two of them.
fn strips() -> String {
    let strip = |number: u32| {
        let left = 0.09 * f64::from(number);
        let right = left + 0.015;
        format!("[[{left}, 0], [{right}, 0], [{right}, 1], [{left}, 1]]")
    };
    format!("privacy_masks = [{}]\n", (0..11).map(strip).collect::<Vec<_>>().join(", "))
}

/// Cameras that have pictures saved of cars, which are wide; `keys` are those of the second.
fn config(folder: &Path, snapshots: &str, keys: &str) -> String {
    let scene = "url = \"test://scene?seed=3&fps=10&width=640&height=360\"\ntrack = true\nsnapshots = true\nclasses = [\"car\"]\n";
    format!(
        "[detector]\nmodel = \"demo\"\nbackend = \"builtin\"\nthreads = 1\n[debug]\nsocket = \"{0}/debug.sock\"\n\
         [snapshots]\ndir = \"{0}/pictures\"\n{snapshots}\n[defaults]\nmax_frame_age = \"10s\"\n\
         [camera.open]\n{scene}\n[camera.other]\n{scene}{keys}",
        folder.display()
    )
}

struct Saved {
    folder: tempfile::TempDir,
}

impl Saved {
    fn new() -> Self {
        Self { folder: tempfile::tempdir().expect("a folder") }
    }

    fn pictures(&self) -> PathBuf {
        self.folder.path().join("pictures")
    }

    fn write(&self, snapshots: &str, keys: &str) {
        let new = self.folder.path().join("config.toml.new");
        fs::write(&new, config(self.folder.path(), snapshots, keys)).expect("written");
        fs::rename(new, self.folder.path().join("config.toml")).expect("renamed");
    }

    fn start(&self, snapshots: &str, keys: &str) -> Running {
        self.write(snapshots, keys);
        Running::start(watchpost(self.folder.path()).args(["run", "-c", "config.toml"]))
    }

    /// How often pictures of a camera had this outcome.
    fn count(&self, camera: &str, outcome: &str) -> u64 {
        let mut command = watchpost(self.folder.path());
        let ended = program::run(command.args(["debug", "--json", "--socket", "./debug.sock"]));
        let state: Value = serde_json::from_str(&ended.stdout).unwrap_or_default();
        let key = format!("watchpost_snapshots_total{{camera=\"{camera}\",outcome=\"{outcome}\"}}");
        state["counters"][key].as_u64().unwrap_or(0)
    }

    /// The names of the pictures that are there.
    fn names(&self) -> BTreeSet<String> {
        let entries = fs::read_dir(self.pictures()).into_iter().flatten().flatten();
        let names = entries.map(|entry| entry.file_name().to_string_lossy().into_owned());
        names.filter(|name| name.ends_with(".png")).collect()
    }
}

/// Whether a picture has a column without any light; `None` if it has just been removed.
fn has_black_column(path: &Path) -> Option<bool> {
    let mut reader =
        png::Decoder::new(BufReader::new(File::open(path).ok()?)).read_info().expect("a picture");
    let mut bytes = vec![0; reader.output_buffer_size().expect("a size")];
    let info = reader.next_frame(&mut bytes).expect("a whole picture");
    assert_eq!((info.color_type, info.bit_depth), (png::ColorType::Rgb, png::BitDepth::Eight));
    let (width, height) = (info.width as usize, info.height as usize);
    assert!(width >= 8 && height >= 8, "{}: {width}x{height}", path.display());
    let pixel = |x: usize, y: usize| &bytes[3 * (y * width + x)..3 * (y * width + x) + 3];
    Some((0..width).any(|x| (0..height).all(|y| pixel(x, y).iter().all(|&value| value < 8))))
}

const FEW: usize = 5;

#[test]
fn the_best_pictures_are_kept_with_their_masks_and_no_more_than_were_asked_for() {
    let saved = Saved::new();
    let daemon = saved.start(&format!("max_files = {FEW}\nmin_free = \"0B\""), &strips());
    let mut looks: BTreeMap<String, bool> = BTreeMap::new();
    let of = |looks: &BTreeMap<String, bool>, camera: &str| {
        looks.iter().filter(|(name, _)| name.starts_with(camera)).map(|(_, black)| *black).collect::<Vec<_>>()
    };
    eventually("pictures come and go", || {
        let names = saved.names();
        // The newest is there before the oldest goes.
        assert!(names.len() <= FEW + 1, "{names:?}");
        for name in names {
            if let Some(black) = has_black_column(&saved.pictures().join(&name)) {
                looks.insert(name, black);
            }
        }
        looks.len() > 2 * FEW && ["open-", "other-"].iter().all(|camera| of(&looks, camera).len() >= 3)
    });
    assert!(of(&looks, "other-").iter().all(|black| *black), "a picture without its masks: {looks:?}");
    assert!(of(&looks, "open-").iter().all(|black| !black), "strips where none were asked for: {looks:?}");
    assert_eq!(daemon.stop().code, Some(0));
    // What was on its way is written, and nothing is half there.
    assert!(contents(&saved.pictures()).keys().all(|path| path.extension().is_some_and(|e| e == "png")));
    let before = saved.names();
    assert!(before.len() <= FEW, "{before:?}");

    // Another process takes them over; files of others are never touched.
    fs::write(saved.pictures().join("diary.txt"), "mine").expect("written");
    let daemon = saved.start("max_files = 2\nmin_free = \"0B\"", "");
    eventually("a new picture", || !saved.names().is_subset(&before));
    eventually("the old ones make room", || saved.names().len() <= 3);
    assert_eq!(daemon.stop().code, Some(0));
    let after = saved.names();
    assert!(after.len() <= 2 && !after.is_subset(&before), "{before:?} {after:?}");
    assert_eq!(fs::read(saved.pictures().join("diary.txt")).expect("still there"), b"mine");
}

#[test]
fn without_the_room_that_others_need_nothing_is_saved_and_detection_goes_on() {
    let saved = Saved::new();
    let mut daemon = saved.start("min_free = \"1000000GiB\"", "");
    let lines = daemon.lines();
    eventually("two pictures were not saved", || saved.count("open", "failed") >= 2);
    assert_eq!((saved.names().len(), saved.count("open", "written")), (0, 0));
    lines.try_iter().for_each(drop);
    next_record(&lines, "detections");
    // A reload makes it good.
    saved.write("min_free = \"0B\"", "");
    daemon.signal(Signal::HUP);
    eventually("a picture is saved", || !saved.names().is_empty());
    let ended = daemon.stop();
    ended.expect("run", 0, &["snapshots are not saved: the disk has", "snapshots.min_free is", "make room"]);
    assert_eq!(ended.stderr.matches("snapshots are not saved").count(), 1, "{}", ended.stderr);
}

#[test]
fn a_disk_that_is_full_costs_pictures_and_nothing_else() {
    let saved = Saved::new();
    let Some(disk) = Disk::mount(saved.pictures(), "size=1m") else { return };
    let filler = disk.0.join("filler");
    fs::write(&filler, vec![0; 1 << 20]).expect("it fits");
    let mut daemon = saved.start("min_free = \"0B\"", "");
    let lines = daemon.lines();
    eventually("two pictures were not saved", || saved.count("other", "failed") >= 2);
    lines.try_iter().for_each(drop);
    next_record(&lines, "detections");
    assert_eq!(contents(&disk.0).len(), 1, "half a picture stays");
    fs::remove_file(filler).expect("removed");
    eventually("pictures are saved", || saved.count("other", "written") >= 2);
    let ended = daemon.stop();
    ended.expect("run", 0, &["the disk is full; make room", "snapshots are saved again"]);
}
