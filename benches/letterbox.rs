//! Letterbox: milliseconds per frame, one thread, with the scalar reference as baseline.
//!
//! Each measurement writes into four tensors in turn, as slots rotate, so that the caches are not kinder here
//! than on the frame path.

use criterion::{Criterion, Throughput, criterion_group, criterion_main};
use std::hint::black_box;
use watchpost::frame::{HostTensor, Layout, Letterbox, Matrix, Picture, Plane, Range, letterbox_reference};
use watchpost::model::{ChannelOrder, Fit, InputRecipe};

/// Tensors written in turn.
const SLOTS: usize = 4;

#[derive(Clone, Copy, PartialEq)]
enum Format {
    Nv12,
    I420,
}

fn ultralytics(size: usize) -> InputRecipe {
    InputRecipe {
        width: size,
        height: size,
        channels: ChannelOrder::Rgb,
        fit: Fit::LetterboxCentre,
        pad: 114,
        scale: [1.0 / 255.0; 3],
        offset: [0.0; 3],
    }
}

fn yolox(size: usize) -> InputRecipe {
    InputRecipe {
        channels: ChannelOrder::Bgr,
        fit: Fit::LetterboxTopLeft,
        scale: [1.0; 3],
        ..ultralytics(size)
    }
}

/// Samples without structure; the letterbox's work does not depend on them.
fn samples(len: usize) -> Vec<u8> {
    let mut state = 0x2545_f491u32;
    std::iter::repeat_with(|| {
        state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        (state >> 24) as u8
    })
    .take(len)
    .collect()
}

fn picture(format: Format, width: usize, height: usize, data: &[u8]) -> Picture<'_> {
    let (luma, chroma) = data.split_at(width * height);
    let y = Plane { data: luma, stride_bytes: width };
    let layout = match format {
        Format::Nv12 => Layout::Nv12 { y, uv: Plane { data: chroma, stride_bytes: width } },
        Format::I420 => {
            let (u, v) = chroma.split_at(width * height / 4);
            let plane = |data| Plane { data, stride_bytes: width / 2 };
            Layout::Planar { y, u: plane(u), v: plane(v), sub_x: 1, sub_y: 1 }
        }
    };
    Picture {
        width: width as u32,
        height: height as u32,
        layout,
        matrix: Matrix::Bt709,
        range: Range::Limited,
    }
}

fn letterbox(criterion: &mut Criterion) {
    let cases = [
        ("1080p_nv12_to_640_centre", Format::Nv12, 1920, 1080, ultralytics(640)),
        ("1080p_i420_to_640_centre", Format::I420, 1920, 1080, ultralytics(640)),
        ("1080p_nv12_to_416_top_left", Format::Nv12, 1920, 1080, yolox(416)),
        ("720p_i420_to_416_top_left", Format::I420, 1280, 720, yolox(416)),
        ("720p_i420_to_640_centre", Format::I420, 1280, 720, ultralytics(640)),
        ("2160p_nv12_to_640_centre", Format::Nv12, 3840, 2160, ultralytics(640)),
        ("480p_i420_to_640_centre", Format::I420, 640, 480, ultralytics(640)),
    ];
    for (name, format, width, height, recipe) in cases {
        let data = samples(width * height * 3 / 2);
        let picture = picture(format, width, height, &data);
        let mut slots: Vec<_> = (0..SLOTS).map(|_| HostTensor::new(recipe.len())).collect();
        let mut turn = 0;
        let mut group = criterion.benchmark_group(format!("letterbox/{name}"));
        group.throughput(Throughput::Elements(1));
        let mut letterbox = Letterbox::new(&recipe);
        group.bench_function("fast", |bencher| {
            bencher.iter(|| {
                turn = (turn + 1) % SLOTS;
                letterbox.run_in_slot(black_box(&picture), &mut slots[turn]).expect("a whole picture")
            });
        });
        group.sample_size(10);
        group.bench_function("reference", |bencher| {
            bencher.iter(|| {
                turn = (turn + 1) % SLOTS;
                letterbox_reference(&recipe, black_box(&picture), &mut slots[turn]).expect("a whole picture")
            });
        });
        group.finish();
    }
}

criterion_group! {
    name = benches;
    config = Criterion::default().warm_up_time(std::time::Duration::from_millis(300)).measurement_time(std::time::Duration::from_secs(2));
    targets = letterbox
}
criterion_main!(benches);
