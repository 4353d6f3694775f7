//! Filters and events: time per frame, one thread, for 10, 100 and 1,000 objects.
//!
//! Eight zones (two include, two ignore, four that tell) of 12 corners and two lines; objects that walk through them.

use std::hint::black_box;
use std::time::Duration;

use criterion::{Criterion, criterion_group, criterion_main};
use watchpost::config::{Anchor, CameraOptions, LineOptions, Locator, ZoneKind, ZoneOptions};
use watchpost::filter::{Events, Filter};
use watchpost::shape::{Polygon, Segment};
use watchpost::track::{Moment, Options, Tracked};

const SIZE: [u32; 2] = [1920, 1080];

/// A polygon of 12 corners around a middle.
fn round([x, y]: [f32; 2], radius: f32) -> Polygon {
    let corner = |index: u8| {
        let angle = f32::from(index) / 12.0 * std::f32::consts::TAU;
        [x + radius * angle.cos(), y + radius * angle.sin()]
    };
    Polygon::new(&(0..12).map(corner).collect::<Vec<_>>()).expect("a polygon")
}

fn camera() -> CameraOptions {
    let mut camera = CameraOptions::new("gate", Locator::Csi { sensor_index: 0 });
    let kinds = [ZoneKind::Include, ZoneKind::Ignore, ZoneKind::Watch, ZoneKind::Watch];
    let anchors = [Anchor::Foot, Anchor::Foot, Anchor::Centre, Anchor::Overlap(0.5)];
    let zone = |index: usize| ZoneOptions {
        name: format!("zone{index}"),
        polygon: round(
            [0.5, 0.5],
            if kinds[index % 4] == ZoneKind::Ignore { 0.05 } else { 0.3 + 0.02 * index as f32 },
        ),
        kind: kinds[index % 4],
        anchor: anchors[index % 4],
        classes: None,
        dwell: Some(Duration::from_secs(1)),
        settle: Duration::from_millis(200),
    };
    camera.zones = (0..8).map(zone).collect();
    let line = |(name, y): (&str, f32)| LineOptions {
        name: name.to_owned(),
        segment: Segment { from: [0.1, y], to: [0.9, y] },
        anchor: Anchor::Foot,
        classes: None,
        directions: ["in".to_owned(), "out".to_owned()],
    };
    camera.lines = [("a", 0.4), ("b", 0.6)].map(line).to_vec();
    camera
}

/// Frames of one round.
const FRAMES: usize = 300;

/// Objects that go round in circles of their own.
fn objects(count: usize, frame: usize) -> Vec<Tracked> {
    let object = |index: usize| {
        let phase = frame as f32 / FRAMES as f32 * std::f32::consts::TAU + index as f32;
        let spread = (index as f32 * 0.37).fract();
        let (x, y) = (960.0 + 800.0 * spread * phase.cos(), 540.0 + 400.0 * spread * phase.sin());
        let bbox = [x - 20.0, y - 60.0, x + 20.0, y + 60.0];
        Tracked { class_id: (index % 3) as u32, score: 0.9, bbox, track_id: Some(index as u64 + 1) }
    };
    (0..count).map(object).collect()
}

fn filter(criterion: &mut Criterion) {
    let labels = ["person", "car", "dog"].map(str::to_owned);
    let camera = camera();
    let mut group = criterion.benchmark_group("filter/8_zones_2_lines");
    for count in [10, 100, 1000] {
        let filter = Filter::of_camera(&camera, &labels, 0.35).expect("known labels");
        let mut events = Events::new(&camera, &labels, Options::new(0.35, count)).expect("known labels");
        let frames: Vec<Vec<Tracked>> = (0..FRAMES).map(|frame| objects(count, frame)).collect();
        let mut frame = 0;
        let mut told = 0_u64;
        group.bench_function(format!("{count}_objects"), |bencher| {
            bencher.iter(|| {
                frame += 1;
                let at = Duration::from_millis(40 * frame as u64);
                let moment = Moment { at, generation: 1, width: SIZE[0], height: SIZE[1] };
                let objects = black_box(&frames[frame % FRAMES]).iter().copied();
                let published = objects.filter(|object| filter.passes(object, SIZE));
                events.update(moment, published, &mut |event| told += event.count);
                told
            });
        });
    }
    group.finish();
}

criterion_group! {
    name = benches;
    config = Criterion::default().warm_up_time(Duration::from_millis(300)).measurement_time(Duration::from_secs(2));
    targets = filter
}
criterion_main!(benches);
