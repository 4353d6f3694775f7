//! Cost of publishing one record of ten objects: writing the line, putting it into a ring, and the whole
//! of `Publisher::detections` with one and with three outputs that have a reader each.

#[path = "../tests/publish_support/mod.rs"]
mod publish_support;

use std::hint::black_box;
use std::io::Read;
use std::os::unix::net::UnixStream;

use criterion::{Criterion, Throughput, criterion_group, criterion_main};
use publish_support::{objects, record, registry, start, unix, wait_for_readers};
use watchpost::publish::Ring;

fn lines(criterion: &mut Criterion) {
    let objects = objects();
    let mut line = Vec::new();
    record(1204, &objects).write_line(&mut line);
    let mut group = criterion.benchmark_group("publish");
    group.throughput(Throughput::Bytes(line.len() as u64));
    let mut buf = Vec::with_capacity(4096);
    group.bench_function("write_line of 10 objects", |bencher| {
        bencher.iter(|| {
            buf.clear();
            black_box(&record(1204, black_box(&objects))).write_line(&mut buf);
        });
    });
    let ring = Ring::new(1 << 20, || {});
    group.bench_function("push into a ring", |bencher| bencher.iter(|| ring.push(black_box(&line))));
    group.finish();
}

fn outputs(criterion: &mut Criterion) {
    let directory = tempfile::tempdir().expect("a directory");
    let objects = objects();
    for (count, with_readers) in [(1, false), (3, false), (1, true), (3, true)] {
        let paths: Vec<_> = (0..count).map(|i| directory.path().join(format!("{i}.sock"))).collect();
        let outputs: Vec<_> =
            paths.iter().enumerate().map(|(i, path)| unix(&format!("out{i}"), path)).collect();
        let metrics = registry(&outputs);
        let (publisher, _closed) = start(&outputs, &metrics);
        for (path, output) in paths.iter().zip(&outputs).filter(|_| with_readers) {
            let mut reader = UnixStream::connect(path).expect("listens");
            std::thread::spawn(move || {
                let mut piece = [0; 65_536];
                while reader.read(&mut piece).is_ok_and(|bytes| bytes > 0) {}
            });
            wait_for_readers(&metrics, &output.name, 1);
        }
        let readers = if with_readers { "a reader each" } else { "no reader" };
        criterion.bench_function(&format!("publish/detections to {count} sockets, {readers}"), |bencher| {
            bencher.iter(|| publisher.detections(black_box(&record(1204, &objects))));
        });
    }
}

criterion_group!(benches, lines, outputs);
criterion_main!(benches);
