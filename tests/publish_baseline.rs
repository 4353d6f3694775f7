//! What the outputs cost: memory that stays flat, descriptors and threads that come back.

mod publish_support;

use std::io::{Read, Write};
use std::net::{Shutdown, TcpStream};
use std::os::fd::OwnedFd;
use std::os::unix::net::UnixStream;
use std::path::PathBuf;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use publish_support::{
    PATIENCE, account, eventually, objects, record, registry, snapshot, start, stdout, tcp, unix,
    wait_for_readers,
};
use watchpost::clock;
use watchpost::metrics::process_usage;
use watchpost::publish::Publisher;

/// These tests look at the whole process: one at a time.
static ALONE: Mutex<()> = Mutex::new(());

#[test]
fn a_reader_that_never_reads_costs_nothing_and_nobody_and_hears_exactly_what_it_lost() {
    let _alone = ALONE.lock().unwrap_or_else(PoisonError::into_inner);
    const RECORDS: u64 = 100_000;
    let directory = tempfile::tempdir().expect("a directory");
    let path = directory.path().join("s.sock");
    let outputs = [unix("local", &path)];
    let metrics = registry(&outputs);
    let (publisher, _closed) = start(&outputs, &metrics);
    let mut slow = UnixStream::connect(&path).expect("listens");
    let mut quick = UnixStream::connect(&path).expect("listens");
    wait_for_readers(&metrics, "local", 2);

    let lines = Arc::new(AtomicU64::new(0));
    let counted = Arc::clone(&lines);
    let quick = std::thread::spawn(move || {
        let (mut piece, mut lost) = (vec![0; 65_536], false);
        loop {
            let bytes = quick.read(&mut piece).expect("reads");
            if bytes == 0 {
                return lost;
            }
            lost |= piece[..bytes].windows(13).any(|window| window == b"\"type\":\"lost\"");
            counted
                .fetch_add(piece[..bytes].iter().filter(|b| **b == b'\n').count() as u64, Ordering::Relaxed);
        }
    });
    let objects = objects();
    let mut warm_rss_bytes = 0;
    for seq in 0..RECORDS {
        // A moderate pace: the quick reader is never further behind than the ring is long.
        if seq % 256 == 0 {
            eventually("the quick reader", || seq - lines.load(Ordering::Relaxed) < 512);
        }
        if seq == 5000 {
            warm_rss_bytes = process_usage().rss_bytes;
        }
        publisher.detections(&record(seq, &objects));
    }
    let grown_bytes = process_usage().rss_bytes.saturating_sub(warm_rss_bytes);
    eprintln!("grown by {grown_bytes} bytes over {} records", RECORDS - 5000);
    assert!(grown_bytes < 2 << 20, "grown by {grown_bytes} bytes");

    let slow = std::thread::spawn(move || {
        let mut received = Vec::new();
        slow.read_to_end(&mut received).expect("reads");
        received
    });
    assert!(publisher.shutdown(clock::now() + PATIENCE));
    assert!(!quick.join().expect("no panic"), "the quick reader lost something");
    assert_eq!(lines.load(Ordering::Relaxed), RECORDS);
    let (records, lost) = account(&slow.join().expect("no panic"));
    assert_eq!(records + lost, RECORDS);
    assert!(lost > RECORDS / 2, "{lost}");
    assert_eq!(snapshot(&metrics, "local").lost, lost);
}

/// Four cameras at 15 frames a second, for an hour.
const HOUR: u64 = 4 * 15 * 3600;

#[test]
fn every_output_blocked_for_an_hour_of_records_costs_no_memory_and_every_record_is_counted() {
    let _alone = ALONE.lock().unwrap_or_else(PoisonError::into_inner);
    let directory = tempfile::tempdir().expect("a directory");
    let path = directory.path().join("s.sock");
    let outputs = [unix("local", &path), tcp("net"), stdout("console")];
    let metrics = registry(&outputs);
    let (reader, writer) = std::io::pipe().expect("a pipe");
    let writer = OwnedFd::from(writer);
    let stdout = || writer.try_clone();
    let publisher = Publisher::start_on(stdout, &outputs, &metrics, |_, _| {}).expect("they open");
    let _local = UnixStream::connect(&path).expect("listens");
    let _net = TcpStream::connect(publisher.local_addr("net").expect("an address")).expect("listens");
    wait_for_readers(&metrics, "local", 1);
    wait_for_readers(&metrics, "net", 1);
    let objects = objects();
    let mut warm_rss_bytes = 0;
    for seq in 0..HOUR {
        if seq == HOUR / 10 {
            warm_rss_bytes = process_usage().rss_bytes;
        }
        publisher.detections(&record(seq, &objects));
    }
    let grown_bytes = process_usage().rss_bytes.saturating_sub(warm_rss_bytes);
    eprintln!("grown by {grown_bytes} bytes over {} records that nobody read", HOUR - HOUR / 10);
    assert!(grown_bytes < 1 << 20, "grown by {grown_bytes} bytes");
    for output in &outputs {
        let counted = snapshot(&metrics, &output.name);
        assert_eq!(counted.published, HOUR, "{}", output.name);
    }
    drop(reader);
}

#[test]
fn fifty_starts_and_shutdowns_leave_no_descriptor_thread_or_file_behind() {
    let _alone = ALONE.lock().unwrap_or_else(PoisonError::into_inner);
    let directory = tempfile::tempdir().expect("a directory");
    let path = directory.path().join("s.sock");
    let outputs = [unix("local", &path), tcp("net")];
    let cycle = || {
        let metrics = registry(&outputs);
        let (publisher, _closed) = start(&outputs, &metrics);
        let _reader = UnixStream::connect(&path).expect("listens");
        wait_for_readers(&metrics, "local", 1);
        publisher.detections(&record(0, &objects()));
        assert!(publisher.shutdown(clock::now() + PATIENCE));
    };
    cycle();
    let (publisher, _closed) = start(&outputs, &registry(&outputs));
    eventually("the threads can be seen", || publish_threads().len() == 2);
    drop(publisher);
    let before = process_usage();
    (0..50).for_each(|_| cycle());
    // Only our own threads: the test runner starts and ends others. A joined thread may be in /proc for
    // another moment.
    eventually("the threads are gone", || publish_threads().is_empty());
    assert_eq!(process_usage().fd_count, before.fd_count);
    assert_eq!(std::fs::read_dir(directory.path()).expect("reads").count(), 0);
}

/// Of each thread named `publish-…`, the nanoseconds that it has been on a CPU.
fn publish_threads() -> Vec<u64> {
    let tasks = std::fs::read_dir("/proc/self/task").expect("reads").flatten();
    let used_ns = |task: PathBuf| -> Option<u64> {
        let name = std::fs::read_to_string(task.join("comm")).ok()?;
        let used = std::fs::read_to_string(task.join("schedstat")).ok()?;
        name.starts_with("publish-").then(|| used.split(' ').next()?.parse().ok())?
    };
    tasks.filter_map(|task| used_ns(task.path())).collect()
}

fn cpu_time() -> Duration {
    Duration::from_nanos(publish_threads().iter().sum())
}

#[test]
fn threads_with_nothing_to_do_use_no_cpu_whatever_state_their_readers_are_in() {
    let _alone = ALONE.lock().unwrap_or_else(PoisonError::into_inner);
    const WAIT: Duration = Duration::from_millis(400);
    let directory = tempfile::tempdir().expect("a directory");
    let path = directory.path().join("s.sock");
    let outputs = [unix("local", &path), tcp("net")];
    let metrics = registry(&outputs);
    let (publisher, _closed) = start(&outputs, &metrics);
    let connect = || UnixStream::connect(&path).expect("listens");
    let (_blocked, half_closed, mut sends) = (connect(), connect(), connect());
    half_closed.shutdown(Shutdown::Write).expect("half closed");
    sends.write_all(b"hello").expect("sends");
    wait_for_readers(&metrics, "local", 3);
    let objects = objects();
    (0..2000).for_each(|seq| publisher.detections(&record(seq, &objects)));
    let settle = || {
        let _ = crossbeam_channel::never::<()>().recv_timeout(WAIT);
    };
    // What was published is written out first, however long that takes here.
    eventually("the threads come to rest", || {
        let before = cpu_time();
        settle();
        cpu_time() - before < WAIT / 50
    });
    let before = cpu_time();
    settle();
    let idle = cpu_time() - before;
    assert!(idle < WAIT / 50, "{idle:?} of {WAIT:?} while idle");

    // Also while a shutdown waits for readers that do not read, and somebody knocks.
    std::thread::scope(|scope| {
        scope.spawn(|| assert!(publisher.shutdown(clock::now() + WAIT * 3)));
        settle();
        let before = cpu_time();
        let _knocks = connect();
        settle();
        let closing = cpu_time() - before;
        assert!(closing < WAIT / 50, "{closing:?} of {WAIT:?} while closing");
    });
}
