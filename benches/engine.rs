//! One inference of the built-in engine on real models: `cargo bench --bench engine`.
//! Needs the shared models (WATCHPOST_SHARED, default `../shared`); says so when they are not there.

use std::hint::black_box;
use std::path::{Path, PathBuf};

use criterion::{Criterion, criterion_group, criterion_main};
use watchpost::engine::Engine;
use watchpost::engine::builtin::BuiltinEngine;
use watchpost::frame::SlotMemory;
use watchpost::model;

fn engine(criterion: &mut Criterion) {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let shared = std::env::var_os("WATCHPOST_SHARED").map_or_else(|| root.join("../shared"), PathBuf::from);
    let mut group = criterion.benchmark_group("builtin");
    group.sample_size(20);
    for name in ["yolox_nano", "yolov8n"] {
        let path = shared.join(format!("models/{name}.onnx"));
        if !path.is_file() {
            eprintln!("NOT MEASURED: {} is not there; set WATCHPOST_SHARED", path.display());
            continue;
        }
        let manifest = model::find(&path.to_string_lossy(), &[]).expect("a shared model is a detector");
        let input = SlotMemory::Host(vec![0.5; manifest.input.len()].into());
        for threads in [1, 2] {
            let mut engine = BuiltinEngine::load(&manifest, threads).expect("a shared model loads");
            group.bench_function(format!("{name}/{threads} threads"), |bencher| {
                bencher.iter(|| {
                    let mut first = 0.0;
                    engine.infer(&[&input], &mut |_, outputs| first = outputs[0].data[0]).expect("it runs");
                    black_box(first)
                });
            });
        }
    }
    group.finish();
}

criterion_group!(benches, engine);
criterion_main!(benches);
