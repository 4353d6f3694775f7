//! Tracking: time per frame, one thread, for 10, 100 and 1,000 objects that move, are missed and come back.
//!
//! - spread: as many objects as fit side by side; few boxes overlap.
//! - packed: all in a twentieth of the picture, every box overlapping many; classes make no difference.
//! - sparse: one frame a second, where boxes are widened before they are compared.

use std::hint::black_box;
use std::time::Duration;

use criterion::{BatchSize, BenchmarkId, Criterion, criterion_group, criterion_main};
use watchpost::track::{Ids, Moment, Options, Tracked, Tracker, Workspace};

/// Frames that are tracked, there and back again: nobody ever jumps.
const FRAMES: usize = 60;
const WIDTH: f32 = 3840.0;
const HEIGHT: f32 = 2160.0;

/// 0..1, the same in every run.
struct Random(u32);

impl Random {
    fn next(&mut self) -> f32 {
        self.0 = self.0.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        (self.0 >> 8) as f32 / (1 << 24) as f32
    }
}

fn frames(count: usize, share: f32) -> Vec<Vec<Tracked>> {
    let mut random = Random(7);
    let start: Vec<[f32; 4]> = (0..count)
        .map(|_| {
            let (x, y) = (random.next() * WIDTH * share, random.next() * HEIGHT * share);
            [x, y, random.next() * 8.0 - 4.0, random.next() * 8.0 - 4.0]
        })
        .collect();
    let frame = |number: usize| {
        let mut objects = Vec::new();
        for &[x, y, speed_x, speed_y] in &start {
            if random.next() < 0.05 {
                continue;
            }
            let score = if random.next() < 0.1 { 0.2 } else { 0.5 + random.next() * 0.5 };
            let (x, y) =
                (x + speed_x * number as f32 + random.next(), y + speed_y * number as f32 + random.next());
            objects.push(Tracked { class_id: 0, score, bbox: [x, y, x + 40.0, y + 90.0], track_id: None });
        }
        objects
    };
    (0..FRAMES).map(frame).collect()
}

fn track(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("track");
    for (kind, share, interval_ms) in [("spread", 1.0, 66), ("packed", 0.22, 66), ("sparse", 1.0, 1000)] {
        for count in [10, 100, 1000] {
            let frames = frames(count, share);
            let mut tracker = Tracker::new(Options::new(0.35, 1000), Ids::default());
            let mut workspace = Workspace::new(1000);
            let (mut number, mut ms) = (0, 0);
            group.bench_function(BenchmarkId::new(kind, count), |bencher| {
                bencher.iter_batched_ref(
                    || {
                        number = (number + 1) % (2 * FRAMES - 2);
                        frames[number.min(2 * FRAMES - 2 - number)].clone()
                    },
                    |objects| {
                        ms += interval_ms;
                        let at = Duration::from_millis(ms);
                        let moment = Moment { at, generation: 1, width: 3840, height: 2160 };
                        tracker.update(&mut workspace, moment, black_box(objects));
                    },
                    BatchSize::SmallInput,
                );
            });
        }
    }
}

criterion_group! {
    name = benches;
    config = Criterion::default().warm_up_time(Duration::from_millis(500)).measurement_time(Duration::from_secs(2));
    targets = track
}
criterion_main!(benches);
