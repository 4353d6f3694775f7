//! What flow control costs: a slot's round trip, an admission, a batch.

use std::hint::black_box;
use std::sync::Arc;
use std::time::Duration;

use criterion::{Criterion, criterion_group, criterion_main};
use watchpost::batch::BatchFormer;
use watchpost::clock;
use watchpost::frame::{Place, Pool, SlotForm, Turnstile};
use watchpost::model::{ChannelOrder, Fit, InputRecipe};
use watchpost::wake::doorbell;

fn pool(c: &mut Criterion) {
    let (wake, _bell) = doorbell();
    let input = InputRecipe {
        width: 640,
        height: 640,
        channels: ChannelOrder::Rgb,
        fit: Fit::LetterboxCentre,
        pad: 114,
        scale: [1.0; 3],
        offset: [0.0; 3],
    };
    let form = Arc::new(SlotForm { epoch: 1, input, place: Place::Host, gpu: None });
    let pool = Pool::new(2, &form, wake).expect("host memory");
    c.bench_function("pool/round trip", |b| b.iter(|| drop(black_box(pool.take()))));

    let mut group = c.benchmark_group("turnstile/admission");
    for cameras in [1, 8, 64] {
        let wakes = (0..cameras).map(|_| doorbell().0).collect();
        let turnstile = Turnstile::new(1, wakes);
        group.bench_function(format!("{cameras} cameras"), |b| {
            b.iter(|| drop(black_box(turnstile.ask(cameras - 1, clock::now()))));
        });
    }
}

fn batch(c: &mut Criterion) {
    let mut group = c.benchmark_group("batch former/frame");
    for size in [1, 8] {
        let mut former = BatchFormer::new(size, Duration::from_millis(10));
        let now = clock::now();
        group.bench_function(format!("batches of {size}"), |b| {
            b.iter(|| {
                former.push(black_box(1u64), now);
                if former.is_due(now) {
                    black_box(former.items());
                    former.clear();
                }
            });
        });
    }
}

criterion_group!(benches, pool, batch);
criterion_main!(benches);
