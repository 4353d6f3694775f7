//! Head decode and NMS: microseconds per frame, one thread.
//!
//! - typical: 8 objects, a few boxes each; what a camera sees most of the day.
//! - crowded: 200 objects, 5 boxes each.
//! - dense: every box of the head passes the threshold; the worst that a model can do.

use criterion::{Criterion, criterion_group, criterion_main};
use std::hint::black_box;
use std::time::Duration;
use watchpost::decode::{Decoder, Limits};
use watchpost::engine::TensorView;
use watchpost::model::{ChannelOrder, Fit, HeadRecipe, InputRecipe};

const LABELS: usize = 80;

/// One box that the model says: centre, size and score.
struct Said {
    x: f32,
    y: f32,
    size: f32,
    class_id: usize,
    score: f32,
}

fn recipe(size: usize) -> InputRecipe {
    InputRecipe {
        width: size,
        height: size,
        channels: ChannelOrder::Rgb,
        fit: Fit::LetterboxCentre,
        pad: 114,
        scale: [1.0; 3],
        offset: [0.0; 3],
    }
}

/// 0..1, the same in every run.
struct Random(u32);

impl Random {
    fn next(&mut self) -> f32 {
        self.0 = self.0.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        (self.0 >> 8) as f32 / (1 << 24) as f32
    }
}

/// `object_count` objects, `copies` boxes of each, at different places of the head.
fn objects(object_count: usize, copies: usize, size: usize) -> Vec<Said> {
    let mut random = Random(7);
    let mut said = Vec::new();
    for _ in 0..object_count {
        let (x, y) = (random.next() * size as f32, random.next() * size as f32);
        let (extent, class_id) = (20.0 + random.next() * 60.0, (random.next() * LABELS as f32) as usize);
        for _ in 0..copies {
            let (x, y) = (x + random.next() * 4.0, y + random.next() * 4.0);
            said.push(Said { x, y, size: extent, class_id, score: 0.4 + 0.6 * random.next() });
        }
    }
    said
}

/// Which boxes pass the threshold.
fn cases(box_count: usize, size: usize) -> Vec<(&'static str, Vec<Said>)> {
    vec![
        ("typical", objects(8, 5, size)),
        ("crowded", objects(200, 5, size)),
        ("dense", objects(box_count, 1, size)),
    ]
}

/// Small scores everywhere, as a sigmoid leaves them.
fn background(len: usize) -> Vec<f32> {
    let mut random = Random(1);
    std::iter::repeat_with(|| random.next() * 0.01).take(len).collect()
}

/// `[1, 3549, 85]`: the boxes spread over the head, whose grid offsets are undone.
fn yolox_output(said: &[Said], size: usize) -> Vec<f32> {
    let mut cells = Vec::new();
    for stride in [8, 16, 32] {
        let side = size / stride;
        cells
            .extend((0..side * side).map(|cell| (stride as f32, (cell % side) as f32, (cell / side) as f32)));
    }
    let mut data = background(cells.len() * (5 + LABELS));
    let step = cells.len() / said.len();
    for (index, said) in said.iter().enumerate() {
        let (stride, column, line) = cells[index * step];
        let row = &mut data[index * step * (5 + LABELS)..][..5 + LABELS];
        row[..5].copy_from_slice(&[
            said.x / stride - column,
            said.y / stride - line,
            (said.size / stride).ln(),
            (said.size / stride).ln(),
            0.99,
        ]);
        row[5 + said.class_id] = said.score;
    }
    data
}

/// `[1, 84, 8400]`.
fn yolov8_output(said: &[Said], box_count: usize) -> Vec<f32> {
    let mut data = background((4 + LABELS) * box_count);
    let step = box_count / said.len();
    for (index, said) in said.iter().enumerate() {
        let column = index * step;
        for (row, value) in [said.x, said.y, said.size, said.size].into_iter().enumerate() {
            data[row * box_count + column] = value;
        }
        data[(4 + said.class_id) * box_count + column] = said.score;
    }
    data
}

fn decode(criterion: &mut Criterion) {
    let yolox = HeadRecipe::Yolox { strides: vec![8, 16, 32] };
    for (name, head, size, box_count) in
        [("yolox_416", yolox, 416, 3549), ("yolov8_640", HeadRecipe::YOLOV8, 640, 8400)]
    {
        let mut group = criterion.benchmark_group(format!("decode/{name}"));
        for (case, said) in cases(box_count, size) {
            let (shape, data) = match head {
                HeadRecipe::Yolox { .. } => ([1, box_count, 5 + LABELS], yolox_output(&said, size)),
                _ => ([1, 4 + LABELS, box_count], yolov8_output(&said, box_count)),
            };
            let outputs = [TensorView { name: "output", shape: &shape, data: &data }];
            let limits = Limits::default();
            let mut decoder = Decoder::new(&head, &recipe(size), LABELS, limits);
            let mut detections = Vec::with_capacity(limits.max_objects);
            group.bench_function(case, |bencher| {
                bencher.iter(|| {
                    decoder.decode(black_box(&outputs), &mut detections).expect("the head's shape");
                    detections.len()
                });
            });
        }
        group.finish();
    }
}

criterion_group! {
    name = benches;
    config = Criterion::default().warm_up_time(Duration::from_millis(300)).measurement_time(Duration::from_secs(2));
    targets = decode
}
criterion_main!(benches);
