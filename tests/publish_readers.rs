//! Readers of a socket: many, slow, rude, gone.

mod publish_support;

use std::io::{Read, Write};
use std::net::{Shutdown, TcpStream};
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::thread::JoinHandle;

use publish_support::{
    PATIENCE, account, eventually, objects, record, registry, snapshot, start, tcp, unix, wait_for_readers,
};
use watchpost::clock;
use watchpost::publish::Publisher;

fn connect(path: &Path) -> UnixStream {
    let stream = UnixStream::connect(path).expect("the socket listens");
    stream.set_read_timeout(Some(PATIENCE)).expect("a timeout");
    stream
}

fn read_to_end(mut stream: impl Read + Send + 'static) -> JoinHandle<Vec<u8>> {
    std::thread::spawn(move || {
        let mut received = Vec::new();
        stream.read_to_end(&mut received).expect("the stream ends in order");
        received
    })
}

fn publish(publisher: &Publisher, seqs: std::ops::Range<u64>) {
    let objects = objects();
    seqs.for_each(|seq| publisher.detections(&record(seq, &objects)));
}

#[test]
fn a_hundred_readers_get_the_same_whole_lines_and_the_next_is_refused() {
    let directory = tempfile::tempdir().expect("a directory");
    let path = directory.path().join("s.sock");
    let mut outputs = [unix("local", &path), tcp("net")];
    outputs.iter_mut().for_each(|output| output.max_readers = 100);
    let metrics = registry(&outputs);
    let (publisher, _closed) = start(&outputs, &metrics);
    let addr = publisher.local_addr("net").expect("a TCP output has an address");

    let mut threads: Vec<_> = (0..100).map(|_| read_to_end(connect(&path))).collect();
    threads.extend((0..100).map(|_| read_to_end(TcpStream::connect(addr).expect("listens"))));
    wait_for_readers(&metrics, "local", 100);
    wait_for_readers(&metrics, "net", 100);
    let refused = [
        read_to_end(connect(&path)).join().expect("no panic"),
        read_to_end(TcpStream::connect(addr).expect("listens")).join().expect("no panic"),
    ];
    for (line, name) in refused.iter().zip(["local", "net"]) {
        let value: serde_json::Value = serde_json::from_slice(line).expect("one line");
        assert_eq!((&value["type"], &value["output"]), (&"refused".into(), &name.into()));
        assert_eq!(snapshot(&metrics, name).refused_readers, 1);
    }

    publish(&publisher, 0..500);
    assert!(publisher.shutdown(clock::now() + PATIENCE));
    let mut received = threads.into_iter().map(|thread| thread.join().expect("no panic"));
    let first = received.next().expect("a hundred");
    assert_eq!(account(&first), (500, 0));
    assert_eq!(received.filter(|other| *other == first).count(), 199, "all are identical");
    assert!(!path.exists(), "the socket file is removed");
}

#[test]
fn a_reader_gets_lines_from_when_it_came_and_has_its_place_back_when_it_goes() {
    let directory = tempfile::tempdir().expect("a directory");
    let path = directory.path().join("s.sock");
    let outputs = [unix("local", &path)];
    let metrics = registry(&outputs);
    let (publisher, _closed) = start(&outputs, &metrics);
    publish(&publisher, 0..10);
    let late = connect(&path);
    wait_for_readers(&metrics, "local", 1);
    let gone = connect(&path);
    wait_for_readers(&metrics, "local", 2);
    drop(gone);
    // Noticed without anything being published.
    wait_for_readers(&metrics, "local", 1);
    publish(&publisher, 10..12);
    publisher.shutdown(clock::now() + PATIENCE);
    let received = read_to_end(late).join().expect("no panic");
    let text = String::from_utf8(received).expect("UTF-8");
    assert_eq!(text.lines().count(), 2);
    assert!(text.starts_with("{\"schema\"") && text.contains("\"seq\":10,") && text.contains("\"seq\":11,"));
}

#[test]
fn a_reader_that_vanishes_in_the_middle_of_a_line_disturbs_nobody() {
    let directory = tempfile::tempdir().expect("a directory");
    let path = directory.path().join("s.sock");
    let outputs = [unix("local", &path)];
    let metrics = registry(&outputs);
    let (publisher, _closed) = start(&outputs, &metrics);
    let stays = read_to_end(connect(&path));
    wait_for_readers(&metrics, "local", 1);
    let mut pushed = 0;
    for _ in 0..20 {
        let mut rude = connect(&path);
        wait_for_readers(&metrics, "local", 2);
        publish(&publisher, pushed..pushed + 300);
        pushed += 300;
        rude.read_exact(&mut [0; 100]).expect("the beginning of a line");
        drop(rude);
        wait_for_readers(&metrics, "local", 1);
    }
    assert!(publisher.shutdown(clock::now() + PATIENCE));
    let (records, lost) = account(&stays.join().expect("no panic"));
    assert_eq!(records + lost, pushed);
}

#[test]
fn what_readers_send_is_ignored_and_ending_their_side_does_not_end_ours() {
    let directory = tempfile::tempdir().expect("a directory");
    let path = directory.path().join("s.sock");
    let outputs = [unix("local", &path), tcp("net")];
    let metrics = registry(&outputs);
    let (publisher, _closed) = start(&outputs, &metrics);
    let mut chatty = connect(&path);
    let mut chatty_tcp = TcpStream::connect(publisher.local_addr("net").expect("TCP")).expect("listens");
    wait_for_readers(&metrics, "local", 1);
    wait_for_readers(&metrics, "net", 1);
    for _ in 0..100 {
        chatty.write_all(&[b'x'; 20_000]).expect("somebody reads it");
        chatty_tcp.write_all(&[b'x'; 20_000]).expect("somebody reads it");
    }
    chatty.shutdown(Shutdown::Write).expect("half closed");
    chatty_tcp.shutdown(Shutdown::Write).expect("half closed");
    publish(&publisher, 0..50);
    assert!(publisher.shutdown(clock::now() + PATIENCE));
    assert_eq!(account(&read_to_end(chatty).join().expect("no panic")), (50, 0));
    assert_eq!(account(&read_to_end(chatty_tcp).join().expect("no panic")), (50, 0));
}

#[test]
fn records_of_several_threads_are_whole_and_in_one_order_on_every_output() {
    let directory = tempfile::tempdir().expect("a directory");
    let path = directory.path().join("s.sock");
    let outputs = [unix("local", &path), tcp("net")];
    let metrics = registry(&outputs);
    let (publisher, _closed) = start(&outputs, &metrics);
    let net = TcpStream::connect(publisher.local_addr("net").expect("TCP")).expect("listens");
    let readers = [read_to_end(connect(&path)), read_to_end(net)];
    wait_for_readers(&metrics, "local", 1);
    wait_for_readers(&metrics, "net", 1);
    std::thread::scope(|scope| {
        for _ in 0..3 {
            scope.spawn(|| publish(&publisher, 0..100));
        }
    });
    assert!(publisher.shutdown(clock::now() + PATIENCE));
    let [local, net] = readers.map(|reader| reader.join().expect("no panic"));
    assert_eq!(local, net);
    let lines = local.split(|byte| *byte == b'\n').filter(|line| !line.is_empty());
    let parsed = lines.map(|line| serde_json::from_slice::<serde_json::Value>(line).expect("whole"));
    assert_eq!(parsed.count(), 300);
}

#[test]
fn a_shutdown_does_not_wait_beyond_its_deadline_for_a_reader_that_does_not_read() {
    let directory = tempfile::tempdir().expect("a directory");
    let path = directory.path().join("s.sock");
    let outputs = [unix("local", &path)];
    let metrics = registry(&outputs);
    let (publisher, _closed) = start(&outputs, &metrics);
    let never_reads = connect(&path);
    wait_for_readers(&metrics, "local", 1);
    publish(&publisher, 0..2000);
    let begin = clock::now();
    let wait = std::time::Duration::from_millis(200);
    assert!(publisher.shutdown(begin + wait), "the thread has ended");
    let took = clock::now() - begin;
    assert!(took >= wait && took < wait + PATIENCE / 4, "{took:?}");
    assert!(!path.exists());
    drop(never_reads);
    // A publisher that is over takes records without harm.
    publish(&publisher, 0..10);
    eventually("nothing is connected", || UnixStream::connect(&path).is_err());
}
