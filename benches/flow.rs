//! What flow control costs: a slot's round trip, an admission, a batch.

use std::hint::black_box;
use std::time::Duration;

use criterion::{Criterion, criterion_group, criterion_main};
use watchpost::batch::BatchFormer;
use watchpost::clock;
use watchpost::frame::{Pool, Turnstile};
use watchpost::wake::doorbell;

fn pool(c: &mut Criterion) {
    let (wake, _bell) = doorbell();
    let pool = Pool::new(2, 3 * 640 * 640, wake);
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
