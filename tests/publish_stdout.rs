//! Standard output: a pipe that is read, slow, blocked, closed; a full disk.

mod publish_support;

use std::io::{PipeReader, Read, pipe};
use std::os::fd::OwnedFd;
use std::sync::Mutex;
use std::time::Duration;

use crossbeam_channel::bounded;
use publish_support::{
    Closed, PATIENCE, account, eventually, objects, record, registry, snapshot, stdout, tcp,
};
use watchpost::clock;
use watchpost::config::OutputOptions;
use watchpost::metrics::Registry;
use watchpost::publish::Publisher;

fn start_on(fd: OwnedFd, outputs: &[OutputOptions], metrics: &Registry) -> (Publisher, Closed) {
    let (sender, closed) = bounded(16);
    let on_closed = move |output: &str, reason: &str| {
        let _ = sender.try_send((output.to_owned(), reason.to_owned()));
    };
    let fd = Mutex::new(Some(fd));
    let take = || Ok(fd.lock().expect("not poisoned").take().expect("one stdout"));
    (Publisher::start_on(take, outputs, metrics, on_closed).expect("opens"), closed)
}

fn on_pipe(outputs: &[OutputOptions], metrics: &Registry) -> (Publisher, Closed, PipeReader) {
    let (reader, writer) = pipe().expect("a pipe");
    let (publisher, closed) = start_on(writer.into(), outputs, metrics);
    (publisher, closed, reader)
}

fn publish(publisher: &Publisher, seqs: std::ops::Range<u64>) {
    let objects = objects();
    seqs.for_each(|seq| publisher.detections(&record(seq, &objects)));
}

#[test]
fn a_pipe_gets_every_line_and_stays_as_blocking_as_it_was() {
    let outputs = [stdout("console")];
    let metrics = registry(&outputs);
    let (mut reader, writer) = pipe().expect("a pipe");
    let ours = writer.try_clone().expect("a second descriptor of the same pipe");
    let (publisher, closed) = start_on(writer.into(), &outputs, &metrics);
    let received = std::thread::spawn(move || {
        let mut received = Vec::new();
        reader.read_to_end(&mut received).expect("reads");
        received
    });
    publish(&publisher, 0..500);
    assert!(publisher.shutdown(clock::now() + PATIENCE));
    let flags = rustix::fs::fcntl_getfl(&ours).expect("flags");
    assert!(!flags.contains(rustix::fs::OFlags::NONBLOCK));
    drop(ours);
    assert_eq!(account(&received.join().expect("no panic")), (500, 0));
    assert!(closed.try_recv().is_err(), "an ordered end is not a closed output");
}

#[test]
fn a_closed_stdout_is_noticed_without_a_record_told_once_and_the_others_go_on() {
    let outputs = [stdout("console"), tcp("net")];
    let metrics = registry(&outputs);
    let (publisher, closed, reader) = on_pipe(&outputs, &metrics);
    let addr = publisher.local_addr("net").expect("TCP");
    let mut net = std::net::TcpStream::connect(addr).expect("listens");
    eventually("the reader is there", || snapshot(&metrics, "net").readers == 1);
    publish(&publisher, 0..5);
    assert!(!publisher.closed_stdout());
    drop(reader);
    let (output, reason) = closed.recv_timeout(PATIENCE).expect("the callback is called");
    assert_eq!(output, "console");
    assert!(reason.contains("nobody reads"), "{reason}");
    assert!(publisher.closed_stdout() && !publisher.closed_all());
    let before = snapshot(&metrics, "console").published;
    publish(&publisher, 5..20);
    assert_eq!(snapshot(&metrics, "console").published, before);
    assert!(publisher.shutdown(clock::now() + PATIENCE));
    let mut received = Vec::new();
    net.read_to_end(&mut received).expect("reads");
    assert_eq!(account(&received), (20, 0));
    assert!(closed.try_recv().is_err(), "told once");
}

#[test]
fn a_pipe_that_nobody_reads_does_not_hold_up_publishing_or_the_shutdown() {
    let outputs = [stdout("console")];
    let metrics = registry(&outputs);
    let (publisher, _closed, reader) = on_pipe(&outputs, &metrics);
    // A pipe that has something in it: a larger write than it has room for would block.
    publish(&publisher, 0..1);
    eventually("the pipe has it", || rustix::io::ioctl_fionread(&reader).expect("a pipe") > 0);
    publish(&publisher, 0..5000);
    let begin = clock::now();
    let wait = Duration::from_millis(200);
    assert!(publisher.shutdown(begin + wait), "its thread has ended, it was never in a blocking write");
    let took = clock::now() - begin;
    assert!(took >= wait && took < wait + PATIENCE / 4, "{took:?}");
    drop(reader);
}

#[test]
fn a_slow_stdout_is_told_what_it_lost() {
    let mut outputs = [stdout("console")];
    outputs[0].buffer_bytes = 100_000;
    let metrics = registry(&outputs);
    let (publisher, _closed, mut reader) = on_pipe(&outputs, &metrics);
    publish(&publisher, 0..3000);
    let received = std::thread::spawn(move || {
        let mut received = Vec::new();
        reader.read_to_end(&mut received).expect("reads");
        received
    });
    assert!(publisher.shutdown(clock::now() + PATIENCE));
    let (records, lost) = account(&received.join().expect("no panic"));
    assert!(lost > 1000, "{lost}");
    assert_eq!(records + lost, 3000);
    assert_eq!(snapshot(&metrics, "console").lost, lost);
}

#[test]
fn a_full_disk_is_tried_again_and_is_not_the_end() {
    let outputs = [stdout("console")];
    let metrics = registry(&outputs);
    let full = std::fs::OpenOptions::new().write(true).open("/dev/full").expect("Linux has it");
    let (publisher, closed) = start_on(full.into(), &outputs, &metrics);
    publish(&publisher, 0..10);
    assert!(closed.recv_timeout(Duration::from_millis(50)).is_err());
    assert!(!publisher.closed_stdout());
    assert!(publisher.shutdown(clock::now() + Duration::from_millis(50)));
}

#[test]
fn a_descriptor_that_cannot_be_written_is_closed_with_the_reason() {
    let outputs = [stdout("console")];
    let metrics = registry(&outputs);
    let read_only = std::fs::File::open("/dev/null").expect("opens");
    let (publisher, closed) = start_on(read_only.into(), &outputs, &metrics);
    publish(&publisher, 0..1);
    let (_, reason) = closed.recv_timeout(PATIENCE).expect("told");
    assert!(reason.contains("cannot be written"), "{reason}");
    assert!(publisher.closed_all());
}
