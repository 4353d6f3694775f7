//! Tests of the ring.

use std::collections::VecDeque;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use proptest::prelude::*;

use super::*;

fn ring(capacity_bytes: usize) -> Ring {
    Ring::new(capacity_bytes, || {})
}

fn read(ring: &Ring, cursor: &mut Cursor) -> (ReadOutcome, String) {
    let mut out = Vec::new();
    let outcome = ring.read(cursor, &mut out, 1 << 20);
    (outcome, String::from_utf8(out).expect("what was pushed"))
}

#[test]
fn a_reader_gets_what_is_pushed_after_it_came() {
    let ring = ring(100);
    ring.push(b"before\n");
    let mut cursor = ring.cursor();
    assert_eq!(read(&ring, &mut cursor), (ReadOutcome::Nothing, String::new()));
    ring.push(b"one\n");
    ring.push(b"two\n");
    assert_eq!(read(&ring, &mut cursor), (ReadOutcome::Lines(2), "one\ntwo\n".into()));
    assert_eq!(read(&ring, &mut cursor).0, ReadOutcome::Nothing);
}

#[test]
fn an_overtaken_reader_is_told_first_and_then_goes_on_with_the_oldest_line_left() {
    let ring = ring(8);
    let mut cursor = ring.cursor();
    for line in [b"aa\n", b"bb\n", b"cc\n", b"dd\n"] {
        assert!(ring.push(line));
    }
    assert_eq!(read(&ring, &mut cursor), (ReadOutcome::Lost(2), String::new()));
    assert_eq!(read(&ring, &mut cursor), (ReadOutcome::Lines(2), "cc\ndd\n".into()));
}

#[test]
fn a_line_longer_than_the_ring_is_lost_at_its_place_and_no_other_with_it() {
    let ring = ring(8);
    let mut cursor = ring.cursor();
    assert!(ring.push(b"aa\n"));
    assert!(!ring.push(b"123456789\n"));
    assert!(ring.push(b"bb\n"));
    assert_eq!(read(&ring, &mut cursor), (ReadOutcome::Lines(1), "aa\n".into()));
    assert_eq!(read(&ring, &mut cursor).0, ReadOutcome::Lost(1));
    assert_eq!(read(&ring, &mut cursor), (ReadOutcome::Lines(1), "bb\n".into()));
}

#[test]
fn very_short_lines_cannot_take_more_than_the_line_entries() {
    let ring = ring(96);
    let mut cursor = ring.cursor();
    for _ in 0..40 {
        ring.push(b"\n");
    }
    assert_eq!(entry_count(96), 17);
    assert_eq!(read(&ring, &mut cursor).0, ReadOutcome::Lost(23));
    assert_eq!(read(&ring, &mut cursor).0, ReadOutcome::Lines(17));
    assert_eq!(Ring::footprint_bytes(96), 96 + 17 * 8);
}

#[test]
fn a_burst_wakes_the_reader_once_and_again_after_its_turn_began() {
    let wakes = Arc::new(AtomicUsize::new(0));
    let counted = Arc::clone(&wakes);
    let ring = Ring::new(100, move || {
        counted.fetch_add(1, Ordering::Relaxed);
    });
    ring.push(b"a\n");
    ring.push(b"b\n");
    assert_eq!(wakes.load(Ordering::Relaxed), 1);
    ring.begin_turn();
    ring.push(b"c\n");
    assert_eq!(wakes.load(Ordering::Relaxed), 2);
    ring.wake();
    assert_eq!(wakes.load(Ordering::Relaxed), 3, "a stop is never swallowed");
}

#[derive(Debug, Clone)]
enum Step {
    Push(usize),
    Read { reader: usize, max_bytes: usize },
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        (1usize..60).prop_map(Step::Push),
        (0usize..3, 1usize..120).prop_map(|(reader, max_bytes)| Step::Read { reader, max_bytes }),
    ]
}

/// The ring as one would write it with all the memory in the world.
#[derive(Default)]
struct Model {
    /// `(index, line)`; `None` for a line that was longer than the ring.
    kept: VecDeque<(u64, Option<Vec<u8>>)>,
    pushed: u64,
}

impl Model {
    fn push(&mut self, line: &[u8], capacity: usize) {
        let line = (line.len() <= capacity).then(|| line.to_vec());
        self.kept.push_back((self.pushed, line));
        self.pushed += 1;
        let bytes = |kept: &VecDeque<(u64, Option<Vec<u8>>)>| -> usize {
            kept.iter().map(|(_, line)| line.as_ref().map_or(0, Vec::len)).sum()
        };
        while bytes(&self.kept) > capacity || self.kept.len() > entry_count(capacity) {
            self.kept.pop_front();
        }
    }

    fn read(&self, next: &mut u64, max_bytes: usize) -> (ReadOutcome, Vec<u8>) {
        let (asked, mut out, mut lines) = (*next, Vec::new(), 0);
        let from = asked.max(self.kept.front().map_or(self.pushed, |(index, _)| *index));
        *next = from;
        for (_, line) in self.kept.iter().filter(|(index, _)| *index >= from) {
            match line {
                None if lines == 0 => *next += 1,
                Some(line) if *next == asked && (lines == 0 || out.len() + line.len() <= max_bytes) => {
                    out.extend_from_slice(line);
                    lines += 1;
                }
                _ => break,
            }
        }
        if *next > asked {
            return (ReadOutcome::Lost(*next - asked), Vec::new());
        }
        *next += lines as u64;
        (if lines == 0 { ReadOutcome::Nothing } else { ReadOutcome::Lines(lines) }, out)
    }
}

proptest! {
    #[test]
    fn the_ring_behaves_like_its_model(
        capacity in 1usize..200,
        steps in proptest::collection::vec(step(), 0..200),
    ) {
        let (ring, mut model) = (ring(capacity), Model::default());
        let mut cursors = [ring.cursor(); 3];
        let mut nexts = [0u64; 3];
        for step in steps {
            match step {
                Step::Push(len) => {
                    let mut line = vec![b'a' + (model.pushed % 26) as u8; len - 1];
                    line.push(b'\n');
                    prop_assert_eq!(ring.push(&line), len <= capacity);
                    model.push(&line, capacity);
                }
                Step::Read { reader, max_bytes } => {
                    let mut out = Vec::new();
                    let outcome = ring.read(&mut cursors[reader], &mut out, max_bytes);
                    let expected = model.read(&mut nexts[reader], max_bytes);
                    prop_assert_eq!((outcome, out), expected);
                }
            }
        }
    }
}
