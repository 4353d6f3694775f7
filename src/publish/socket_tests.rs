//! Tests of one reader's side of the socket server, on a socket with as small a buffer as the kernel allows.

use std::os::unix::net::UnixStream as StdStream;
use std::sync::OnceLock;
use std::sync::atomic::AtomicBool;

use proptest::prelude::*;
use serde_json::Value;

use super::*;
use crate::metrics::OutputMetrics;
use crate::publish::Ring;

fn output(capacity_bytes: usize) -> Output {
    Output {
        name: "local".into(),
        ring: Ring::new(capacity_bytes, || {}),
        metrics: Arc::new(OutputMetrics::new("local")),
        closed: AtomicBool::new(false),
        panicked: AtomicBool::new(false),
        stop_by: OnceLock::new(),
        is_stdout: false,
    }
}

fn reader(output: &Output) -> (Reader, StdStream) {
    let (ours, theirs) = StdStream::pair().expect("a pair of sockets");
    sockopt::set_socket_send_buffer_size(&ours, 1).expect("the kernel makes it its smallest");
    ours.set_nonblocking(true).expect("non-blocking");
    theirs.set_nonblocking(true).expect("non-blocking");
    let outbox = Outbox::new(&output.ring);
    let stream = Stream::Unix(UnixStream::from_std(ours));
    (Reader { stream, outbox, writable: true, readable: true, gone: false }, theirs)
}

#[derive(Debug, Clone)]
enum Step {
    Push(usize),
    Pump,
    Take(usize),
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        4 => (0usize..3000).prop_map(Step::Push),
        2 => Just(Step::Pump),
        1 => (1usize..20_000).prop_map(Step::Take),
    ]
}

fn take(stream: &mut StdStream, received: &mut Vec<u8>, max_bytes: usize) -> usize {
    let mut piece = vec![0; max_bytes];
    let bytes = stream.read(&mut piece).unwrap_or(0);
    received.extend_from_slice(&piece[..bytes]);
    bytes
}

/// Every line parses; ids go up by one, except over a `lost` record, which says by how much.
fn check(received: &[u8], pushed: u64) -> Result<u64, TestCaseError> {
    let (mut expected, mut lost) = (0, 0);
    prop_assert!(received.is_empty() || received.ends_with(b"\n"));
    for line in received.split(|byte| *byte == b'\n').filter(|line| !line.is_empty()) {
        let value: Value = serde_json::from_slice(line).expect("every line is whole");
        if value["type"] == "lost" {
            let records = value["records"].as_u64().expect("a number");
            prop_assert!(records > 0);
            lost += records;
            expected += records;
        } else {
            prop_assert_eq!(value["id"].as_u64(), Some(expected));
            expected += 1;
        }
    }
    prop_assert_eq!(expected, pushed, "received and lost are what was pushed");
    Ok(lost)
}

proptest! {
    #[test]
    fn lines_stay_whole_and_losses_are_told_exactly_whatever_the_reader_does(
        capacity in 200usize..20_000,
        steps in proptest::collection::vec(step(), 0..150),
    ) {
        let output = output(capacity);
        let (mut reader, mut theirs) = reader(&output);
        let (mut received, mut pushed) = (Vec::new(), 0u64);
        for step in steps {
            match step {
                Step::Push(len) => {
                    let line = format!("{{\"id\":{pushed},\"pad\":\"{}\"}}\n", "x".repeat(len));
                    output.ring.push(line.as_bytes());
                    pushed += 1;
                }
                Step::Pump => {
                    reader.writable = true;
                    reader.pump(&output).expect("the other side is there");
                }
                Step::Take(bytes) => {
                    take(&mut theirs, &mut received, bytes);
                }
            }
        }
        loop {
            reader.writable = true;
            let left = reader.pump(&output).expect("the other side is there");
            if take(&mut theirs, &mut received, 1 << 16) == 0 && left == Left::Nothing {
                break;
            }
        }
        let lost = check(&received, pushed)?;
        let snapshot = output.metrics.snapshot();
        prop_assert_eq!(snapshot.lost, lost);
    }
}

#[test]
fn a_blocked_reader_blocks_nothing_and_a_line_longer_than_the_staging_arrives_whole() {
    let output = output(1 << 20);
    let (mut reader, mut theirs) = reader(&output);
    let line = format!("{{\"id\":0,\"pad\":\"{}\"}}\n", "x".repeat(300_000));
    assert!(output.ring.push(line.as_bytes()));
    assert_eq!(reader.pump(&output).expect("there"), Left::Blocked);
    let mut received = Vec::new();
    while take(&mut theirs, &mut received, 1 << 16) > 0 {
        reader.writable = true;
        reader.pump(&output).expect("there");
    }
    assert_eq!(received, line.as_bytes());
    let staged = reader.outbox.staging_capacity_bytes();
    assert!(staged <= super::super::STAGING_BYTES, "{staged} bytes are kept after the long line");
}

#[test]
fn what_a_reader_sends_is_thrown_away_in_bounded_pieces() {
    let output = output(1000);
    let (mut reader, mut theirs) = reader(&output);
    let sent = theirs.write(&[0; 100_000]).expect("some of it fits");
    assert!(sent > PIECES_PER_TURN * DISCARD_BYTES, "{sent}");
    assert_eq!(reader.pump(&output).expect("there"), Left::More, "others have their turn in between");
    let mut turns = 1;
    while reader.pump(&output).expect("there") == Left::More {
        turns += 1;
    }
    assert_eq!(turns, sent / (PIECES_PER_TURN * DISCARD_BYTES));
    theirs.shutdown(Shutdown::Write).expect("half closed");
    reader.readable = true;
    assert_eq!(reader.pump(&output).expect("still served"), Left::Nothing);
    output.ring.push(b"{\"id\":0}\n");
    reader.pump(&output).expect("still served");
    let mut received = Vec::new();
    take(&mut theirs, &mut received, 100);
    assert_eq!(received, b"{\"id\":0}\n");
}

#[test]
fn a_reader_that_has_gone_is_an_error_and_not_a_signal() {
    let output = output(1000);
    let (mut reader, theirs) = reader(&output);
    drop(theirs);
    output.ring.push(b"{\"id\":0}\n");
    assert!(reader.pump(&output).is_err());
}
