//! Which pictures are chosen, and that they show what the model saw.

use std::path::Path;

use super::*;
use crate::config::Locator;
use crate::metrics::Registry;
use crate::model::Fit;

const INPUT: InputRecipe = InputRecipe {
    width: 64,
    height: 64,
    channels: ChannelOrder::Bgr,
    fit: Fit::LetterboxCentre,
    pad: 114,
    scale: [1.0 / 255.0, 0.5, 2.0],
    offset: [0.0, -3.0, 1.0],
};

fn start(dir: &Path) -> (Snapshots, Arc<CameraMetrics>) {
    start_among(dir, 100, &Writers::default())
}

fn start_among(dir: &Path, max_files: usize, writers: &Writers) -> (Snapshots, Arc<CameraMetrics>) {
    let registry = Registry::new(["gate"], [], crate::clock::now());
    let metrics = registry.camera("gate").unwrap();
    let mut camera = CameraOptions::new("gate", Locator::Csi { sensor_index: 0 });
    (camera.track, camera.snapshots) = (true, true);
    let dir = Some(dir.to_owned());
    let options = SnapshotOptions { dir, max_files, max_bytes: u64::MAX, min_free_bytes: 0 };
    let cameras = [(2, &camera, Arc::clone(&metrics))];
    (Snapshots::start(&options, &INPUT, &cameras, writers).unwrap().unwrap(), metrics)
}

/// A slot that shows a picture of one color, 128 by 64 in the source.
fn slot(rgb: [u8; 3]) -> (SlotMemory, Geometry) {
    let planes = [rgb[2], rgb[1], rgb[0]];
    let tensor: Vec<f32> = (0..3)
        .flat_map(|plane| vec![f32::from(planes[plane]) * INPUT.scale[plane] + INPUT.offset[plane]; 64 * 64])
        .collect();
    (SlotMemory::Host(tensor.into()), Geometry::new(&INPUT, 128, 64))
}

fn wait_for(metrics: &CameraMetrics, written: u64) {
    let deadline = crate::clock::now() + Duration::from_secs(60);
    while metrics.snapshot_count(SnapshotOutcome::Written) < written {
        assert!(crate::clock::now() < deadline, "no picture is written");
        std::thread::yield_now();
    }
}

#[test]
fn the_best_picture_of_a_track_is_saved_and_shows_what_the_model_saw() {
    let temp = tempfile::tempdir().unwrap();
    let (mut snapshots, metrics) = start(temp.path());
    let begin = crate::clock::now();
    let mut at_s = 0;
    let mut look = |rgb, id, score, side: f32| {
        let (memory, geometry) = slot(rgb);
        let object =
            Object { track_id: id, ..Object::new("p", 0, score, [20.0, 10.0, 20.0 + side, 10.0 + side]) };
        at_s += 1;
        let moment = Moment { now: begin + Duration::from_secs(at_s), wall: SystemTime::UNIX_EPOCH };
        snapshots.consider(2, moment, &memory, &geometry, &[object]);
        // Cameras that did not ask for it.
        snapshots.consider(0, moment, &memory, &geometry, &[object]);
        snapshots.consider(7, moment, &memory, &geometry, &[object]);
    };
    look([10, 20, 30], Some(5), 0.5, 20.0);
    wait_for(&metrics, 1);
    // Hardly better, worse, and nobody in particular.
    look([200, 20, 30], Some(5), 0.52, 20.0);
    look([200, 20, 30], Some(5), 0.4, 10.0);
    look([200, 20, 30], None, 0.9, 40.0);
    look([40, 50, 60], Some(5), 0.9, 40.0);
    wait_for(&metrics, 2);
    look([70, 80, 90], Some(6), 0.4, 20.0);
    wait_for(&metrics, 3);
    let show = |id: u64| {
        let path = temp.path().join(format!("gate-19700101T000000Z-{id}.png"));
        let file = std::io::BufReader::new(std::fs::File::open(path).unwrap());
        let mut reader = png::Decoder::new(file).read_info().unwrap();
        let mut pixels = vec![0; reader.output_buffer_size().unwrap()];
        let info = reader.next_frame(&mut pixels).unwrap();
        (info.width, info.height, pixels[..3].to_vec())
    };
    // Half the size of the source, with a margin: (40 + 2 * 4.8) / 2.
    let (width, height, color) = show(5);
    assert_eq!(color, [40, 50, 60]);
    assert!((24..=27).contains(&width) && (24..=27).contains(&height), "{width} {height}");
    assert_eq!(show(6).2, [70, 80, 90]);
    assert_eq!(std::fs::read_dir(temp.path()).unwrap().count(), 2);
    assert_eq!(metrics.snapshot_count(SnapshotOutcome::Written), 3);
}

#[test]
fn a_camera_has_pictures_saved_no_more_often_than_it_may() {
    let temp = tempfile::tempdir().unwrap();
    let (mut snapshots, metrics) = start(temp.path());
    let now = crate::clock::now();
    let (memory, geometry) = slot([9; 3]);
    for id in 0..100 {
        let object = |bbox| Object { track_id: Some(id), ..Object::new("p", 0, 0.9, bbox) };
        let objects = [object([-1e9, -5.0, 1e9, 1e9]), object([f32::NAN, 0.0, 1.0, f32::INFINITY])];
        let moment = Moment { now: now + Duration::from_millis(id), wall: SystemTime::UNIX_EPOCH };
        snapshots.consider(2, moment, &memory, &geometry, &objects);
    }
    wait_for(&metrics, 1);
    assert_eq!(std::fs::read_dir(temp.path()).unwrap().count(), 1);
}

#[test]
fn a_thread_that_writes_too_slowly_costs_pictures_and_nothing_else() {
    let temp = tempfile::tempdir().unwrap();
    let (mut snapshots, metrics) = start(temp.path());
    // All pictures are under way.
    let away: Vec<_> = std::iter::from_fn(|| snapshots.free.try_recv().ok()).collect();
    assert_eq!(away.len(), PICTURES);
    let (memory, geometry) = slot([9; 3]);
    let object = Object { track_id: Some(1), ..Object::new("p", 0, 0.9, [20.0, 10.0, 40.0, 30.0]) };
    let moment = Moment { now: crate::clock::now(), wall: SystemTime::UNIX_EPOCH };
    snapshots.consider(2, moment, &memory, &geometry, &[object]);
    assert_eq!(metrics.snapshot_count(SnapshotOutcome::Skipped), 1);
    assert_eq!(snapshots.cameras[2].as_ref().unwrap().tracks.len(), 0, "the next frame tries again");
}

#[test]
fn who_writes_after_a_reload_waits_for_the_pictures_of_before_and_counts_them() {
    let temp = tempfile::tempdir().unwrap();
    let begin = crate::clock::now();
    let look = |snapshots: &mut Snapshots, id: u64| {
        let (memory, geometry) = slot([9; 3]);
        let object = Object { track_id: Some(id), ..Object::new("p", 0, 0.9, [20.0, 10.0, 40.0, 30.0]) };
        let moment = Moment { now: begin + Duration::from_secs(id), wall: SystemTime::UNIX_EPOCH };
        snapshots.consider(2, moment, &memory, &geometry, &[object]);
    };
    let writers = Writers::default();
    // Somebody whose disk is slow.
    let (slow, _) = writers.follow(temp.path());
    let (mut old, of_old) = start_among(temp.path(), 2, &writers);
    (1..=3).for_each(|id| look(&mut old, id));
    // A configuration that is refused waits for nobody, nor does another folder.
    drop(start_among(temp.path(), 2, &writers));
    let (mut elsewhere, of_elsewhere) = start_among(&temp.path().join("elsewhere"), 2, &writers);
    look(&mut elsewhere, 1);
    wait_for(&of_elsewhere, 1);
    drop(old);
    let (mut new, of_new) = start_among(temp.path(), 2, &writers);
    look(&mut new, 4);
    assert_eq!(std::fs::read_dir(temp.path()).unwrap().count(), 1, "the other folder");
    drop(slow);
    wait_for(&of_new, 1);
    assert_eq!(of_old.snapshot_count(SnapshotOutcome::Written), 3);
    let mut names: Vec<_> = std::fs::read_dir(temp.path()).unwrap().map(|e| e.unwrap().file_name()).collect();
    names.sort();
    assert_eq!(names, ["elsewhere", "gate-19700101T000000Z-3.png", "gate-19700101T000000Z-4.png"]);
    drop((new, elsewhere));
    for _ in 0..100 {
        drop(start_among(temp.path(), 2, &writers));
    }
    let deadline = crate::clock::now() + Duration::from_secs(60);
    while !writers.follow(temp.path()).1.is_empty() {
        assert!(crate::clock::now() < deadline, "who has ended is forgotten");
        std::thread::yield_now();
    }
}
