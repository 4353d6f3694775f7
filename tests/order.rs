//! A reader of the records can keep track of every camera: none publishes detections before it has said that
//! it streams, or after it has said that it does not, however fast the engine is.

mod fakes;
mod support;

use std::io::{BufRead, BufReader};
use std::os::unix::net::UnixStream;
use std::time::Duration;

use support::{PATIENCE, Record, assert_consistent};
use watchpost::clock;
use watchpost::supervisor::{Supervisor, Verdict};

const CAMERAS: usize = 8;
const ROUNDS: usize = 15;

#[test]
fn detections_come_only_between_streaming_and_closing() {
    for _ in 0..ROUNDS {
        let folder = tempfile::tempdir().expect("a folder");
        let engine = fakes::FakeEngine::new(Duration::ZERO, || {});
        let (parts, _sent) = fakes::parts(CAMERAS, Duration::from_millis(3), engine, folder.path());
        let supervisor = Supervisor::start(parts).expect("starts");
        let socket = UnixStream::connect(folder.path().join("records.sock")).expect("the socket is there");
        socket.set_read_timeout(Some(PATIENCE)).expect("a timeout");
        let (control, registry) = (supervisor.control(), supervisor.registry());
        support::wait_for("the reader is known", PATIENCE, || {
            (registry.snapshot(clock::now()).outputs[0].readers == 1).then_some(())
        });
        let running = std::thread::spawn(move || supervisor.run());
        let mut lines = BufReader::new(socket).lines().map_while(Result::ok);
        let mut records = Vec::new();
        let mut streaming = 0;
        let mut detections = 0;
        while streaming < CAMERAS || detections <= CAMERAS {
            let record = Record::parse(&lines.next().expect("records until the end"), clock::now());
            streaming += usize::from(record.state() == Some("streaming"));
            detections += usize::from(!record.is_state());
            records.push(record);
        }
        support::pause(Duration::from_millis(30));
        control.stop("the round is over");
        records.extend(lines.map(|line| Record::parse(&line, clock::now())));
        assert_eq!(running.join().expect("no panic"), Verdict::Stopped);
        assert_consistent(&records);
        let stopped = records.iter().filter(|record| record.state() == Some("stopped")).count();
        assert_eq!(stopped, CAMERAS, "the story is told to its end");
    }
}
