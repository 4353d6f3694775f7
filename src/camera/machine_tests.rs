//! One named test for every arrow of the diagram, and properties over random lives.

use std::time::{Duration, Instant};

use proptest::prelude::*;

use super::*;

const OPEN: Duration = Duration::from_secs(10);
const STALL: Duration = Duration::from_secs(5);
const TEARDOWN: Duration = Duration::from_secs(3);
const HEALTHY: Duration = Duration::from_secs(30);
const BACKOFF_MAX: Duration = Duration::from_secs(30);

fn limits() -> Limits {
    Limits {
        open_timeout: OPEN,
        stall_timeout: STALL,
        teardown_timeout: TEARDOWN,
        healthy_after: HEALTHY,
        backoff: BackoffOptions { min: Duration::from_millis(500), max: BACKOFF_MAX },
    }
}

/// A machine and its virtual clock.
struct Life {
    machine: Machine,
    now: Instant,
    actions: Vec<Action>,
}

impl Life {
    fn new() -> Self {
        Self { machine: Machine::new(limits(), 42), now: crate::clock::now(), actions: Vec::new() }
    }

    fn feed(&mut self, input: Input) -> &mut Self {
        self.machine.handle(input, self.now);
        self.actions.clear();
        while let Some(action) = self.machine.next_action() {
            self.actions.push(action);
        }
        self
    }

    fn wait(&mut self, time: Duration) -> &mut Self {
        self.now += time;
        self.feed(Input::Tick)
    }

    fn progress(&mut self) -> &mut Self {
        let input = Input::Progress { generation: self.machine.generation(), at: self.now };
        self.feed(input)
    }

    fn failed(&mut self, reason: Reason) -> &mut Self {
        let input = Input::Failed { generation: self.machine.generation(), reason };
        self.feed(input)
    }

    fn closed(&mut self) -> &mut Self {
        let input = Input::Closed { generation: self.machine.generation() };
        self.feed(input)
    }

    fn state(&self) -> &'static str {
        self.machine.state().as_str()
    }

    fn opens(&self) -> Option<u64> {
        self.actions
            .iter()
            .find_map(|a| if let Action::Open { generation } = a { Some(*generation) } else { None })
    }

    fn closes(&self) -> Option<u64> {
        self.actions
            .iter()
            .find_map(|a| if let Action::Close { generation } = a { Some(*generation) } else { None })
    }

    fn announced(&self) -> Announcement {
        self.actions
            .iter()
            .find_map(|a| if let Action::Announce(x) = a { Some(*x) } else { None })
            .expect("a state change is announced")
    }
}

fn streaming() -> Life {
    let mut life = Life::new();
    life.feed(Input::Start).progress();
    assert_eq!(life.state(), "streaming");
    life
}

#[test]
fn stopped_opens_when_started() {
    let mut life = Life::new();
    life.feed(Input::Start);
    assert_eq!(life.state(), "opening");
    assert_eq!(life.opens(), Some(1));
    assert_eq!(life.machine.next_timeout(), Some((life.now + OPEN, Timer::Open)));
}

#[test]
fn opening_streams_at_the_first_frame() {
    let life = streaming();
    assert_eq!(life.machine.next_timeout(), Some((life.now + STALL, Timer::Stall)));
    assert_eq!(life.announced().generation, 1);
}

#[test]
fn opening_without_a_frame_closes_at_its_deadline_and_not_before() {
    let mut life = Life::new();
    life.feed(Input::Start).wait(OPEN - Duration::from_nanos(1));
    assert_eq!(life.state(), "opening");
    life.wait(Duration::from_nanos(1));
    assert_eq!(life.state(), "closing");
    assert_eq!(life.closes(), Some(1));
    assert_eq!(life.announced().reason, Some(Reason::OpenTimeout));
}

#[test]
fn opening_closes_when_the_connection_fails() {
    let mut life = Life::new();
    life.feed(Input::Start).failed(Reason::Unauthorized);
    assert_eq!(life.state(), "closing");
    assert_eq!(life.announced().reason, Some(Reason::Unauthorized));
}

#[test]
fn streaming_goes_on_while_frames_come() {
    let mut life = streaming();
    for _ in 0..100 {
        life.wait(STALL - Duration::from_millis(1)).progress();
        assert_eq!(life.state(), "streaming");
    }
}

#[test]
fn streaming_without_a_new_frame_is_stalled() {
    let mut life = streaming();
    life.wait(STALL);
    assert_eq!(life.state(), "closing");
    assert_eq!(life.announced().reason, Some(Reason::Stalled));
}

#[test]
fn progress_that_is_older_than_the_newest_does_not_move_the_deadline_back() {
    let mut life = streaming();
    let early = life.now;
    life.wait(Duration::from_secs(2)).progress();
    let deadline = life.machine.next_timeout();
    life.feed(Input::Progress { generation: 1, at: early });
    assert_eq!(life.machine.next_timeout(), deadline);
}

#[test]
fn streaming_closes_on_eos_of_a_live_source() {
    let mut life = streaming();
    life.failed(Reason::Eos);
    assert_eq!(life.state(), "closing");
}

#[test]
fn closing_keeps_its_first_reason() {
    let mut life = streaming();
    life.wait(STALL).failed(Reason::SourceError);
    assert!(matches!(life.machine.state(), State::Closing { reason: Reason::Stalled, .. }));
}

#[test]
fn closing_backs_off_once_the_pipeline_is_gone() {
    let mut life = streaming();
    life.wait(STALL).closed();
    assert_eq!(life.state(), "backing_off");
    let wait = life.announced().retry_in.expect("says how long");
    assert!(wait <= Duration::from_millis(500));
}

#[test]
fn closing_is_wedged_at_its_deadline() {
    let mut life = streaming();
    life.wait(STALL).wait(TEARDOWN);
    assert_eq!(life.state(), "wedged");
    assert_eq!(life.machine.next_timeout(), None);
}

#[test]
fn wedged_backs_off_when_the_teardown_returns_after_all() {
    let mut life = streaming();
    life.wait(STALL).wait(TEARDOWN).wait(Duration::from_secs(3600)).closed();
    assert_eq!(life.state(), "backing_off");
}

#[test]
fn wedged_rests_when_stopped() {
    let mut life = streaming();
    life.wait(STALL).wait(TEARDOWN).feed(Input::Stop);
    assert_eq!(life.state(), "stopped");
}

#[test]
fn backing_off_opens_the_next_generation() {
    let mut life = streaming();
    life.wait(STALL).closed().wait(Duration::from_millis(500));
    assert_eq!(life.state(), "opening");
    assert_eq!(life.opens(), Some(2));
}

#[test]
fn backing_off_rests_when_stopped() {
    let mut life = streaming();
    life.wait(STALL).closed().feed(Input::Stop);
    assert_eq!(life.state(), "stopped");
    assert_eq!(life.opens(), None);
}

#[test]
fn opening_and_streaming_tear_down_before_they_rest_when_stopped() {
    let mut life = streaming();
    life.feed(Input::Stop);
    assert_eq!((life.state(), life.closes()), ("closing", Some(1)));
    life.closed();
    assert_eq!(life.state(), "stopped");

    let mut life = Life::new();
    life.feed(Input::Start).feed(Input::Stop).closed();
    assert_eq!(life.state(), "stopped");
}

#[test]
fn a_pause_comes_to_rest_like_a_stop_says_why_and_is_no_restart() {
    let mut life = streaming();
    life.feed(Input::Pause);
    assert_eq!((life.state(), life.closes()), ("closing", Some(1)));
    assert_eq!(life.announced().reason, Some(Reason::Shed));
    life.closed();
    assert_eq!((life.state(), life.announced().reason), ("stopped", Some(Reason::Shed)));
    assert_eq!(life.machine.restarts_count(), 0);
    life.feed(Input::Start);
    assert_eq!(life.opens(), Some(2));

    let mut life = streaming();
    life.wait(STALL).closed().feed(Input::Pause);
    assert_eq!((life.state(), life.announced().reason), ("stopped", Some(Reason::Shed)));
}

#[test]
fn a_camera_that_is_started_while_it_closes_for_a_pause_is_opened_again() {
    let mut life = streaming();
    life.feed(Input::Pause).feed(Input::Start).closed();
    assert_eq!(life.state(), "backing_off");
    life.wait(Duration::from_millis(500));
    assert_eq!(life.opens(), Some(2));
}

#[test]
fn a_stop_during_a_fault_ends_in_rest_not_in_a_retry() {
    let mut life = streaming();
    life.wait(STALL).feed(Input::Stop).closed();
    assert_eq!(life.state(), "stopped");
}

#[test]
fn a_pause_of_the_whole_process_makes_nothing_late_and_hides_no_stall() {
    let pause = Duration::from_secs(3600);
    // Four of five seconds had passed when the process stopped.
    let mut life = streaming();
    life.wait(STALL - Duration::from_secs(1));
    life.now += pause;
    let now = life.now;
    life.machine.postpone(pause, now);
    assert_eq!(life.wait(Duration::ZERO).state(), "streaming");
    assert_eq!(life.wait(Duration::from_millis(999)).state(), "streaming");
    assert_eq!(life.wait(Duration::from_millis(1)).state(), "closing", "the fifth second is over");
    // A frame that came before the pause was noticed is not from the future.
    let mut life = streaming();
    life.now += pause;
    life.progress();
    let now = life.now;
    life.machine.postpone(pause, now);
    assert_eq!(life.machine.next_timeout(), Some((now + STALL, Timer::Stall)));
    // Openings and teardowns get the time that they would have had.
    let mut life = Life::new();
    life.feed(Input::Start);
    life.now += pause;
    let now = life.now;
    life.machine.postpone(pause, now);
    assert_eq!(life.machine.next_timeout(), Some((now + OPEN, Timer::Open)));
    life.feed(Input::Stop);
    life.machine.postpone(pause, now);
    assert_eq!(life.machine.next_timeout(), Some((now + TEARDOWN + pause, Timer::Teardown)));
}

#[test]
fn a_finite_input_rests_at_its_end() {
    let mut life = streaming();
    life.failed(Reason::Ended).closed();
    assert_eq!(life.state(), "stopped");
    assert_eq!(life.announced().reason, Some(Reason::Ended));
    assert_eq!(life.machine.restarts_count(), 0);
}

#[test]
fn a_thread_that_ends_unasked_is_an_internal_fault_and_is_retried() {
    let mut life = streaming();
    life.closed();
    assert_eq!(life.state(), "backing_off");
    assert_eq!(life.announced().reason, Some(Reason::Internal));
}

#[test]
fn stopped_starts_again_with_a_new_generation() {
    let mut life = streaming();
    life.feed(Input::Stop).closed().feed(Input::Start);
    assert_eq!(life.opens(), Some(2));
}

#[test]
fn inputs_of_a_dead_generation_change_nothing_and_are_counted() {
    let mut life = streaming();
    life.wait(STALL).closed().wait(Duration::from_secs(1));
    let before = life.machine.state();
    let now = life.now;
    life.feed(Input::Progress { generation: 1, at: now });
    life.feed(Input::Failed { generation: 1, reason: Reason::Eos });
    life.feed(Input::Closed { generation: 1 });
    assert_eq!(life.machine.state(), before);
    assert_eq!(life.machine.stale_inputs_count(), 3);
}

#[test]
fn waits_grow_while_a_camera_keeps_failing_and_shrink_after_health() {
    let mut life = Life::new();
    life.feed(Input::Start);
    let mut waits = Vec::new();
    for _ in 0..8 {
        life.failed(Reason::ConnectFailed).closed();
        let wait = life.announced().retry_in.expect("backing off");
        waits.push(wait);
        life.wait(wait);
    }
    assert!(waits[7] > Duration::from_secs(20), "{waits:?}");
    // Streaming for less than the healthy time does not make the failures forgotten …
    life.progress().wait(Duration::from_secs(1)).progress().failed(Reason::Eos).closed();
    assert!(life.announced().retry_in.expect("backing off") > Duration::from_secs(20));
    // … streaming for the healthy time does.
    life.wait(BACKOFF_MAX);
    for _ in 0..16 {
        life.progress().wait(Duration::from_secs(2));
    }
    life.progress().failed(Reason::Eos).closed();
    assert!(life.announced().retry_in.expect("backing off") <= Duration::from_millis(500));
}

#[derive(Debug, Clone, Copy)]
enum Event {
    Start,
    Stop,
    Pause,
    Progress,
    Failed(Reason),
    Closed,
    Wait(u64),
    StaleProgress,
    StaleClosed,
}

fn event() -> impl Strategy<Value = Event> {
    prop_oneof![
        1 => Just(Event::Start),
        1 => Just(Event::Stop),
        1 => Just(Event::Pause),
        6 => Just(Event::Progress),
        3 => (0..Reason::ALL.len()).prop_map(|i| Event::Failed(Reason::ALL[i])),
        4 => Just(Event::Closed),
        8 => (0u64..40_000).prop_map(Event::Wait),
        1 => Just(Event::StaleProgress),
        1 => Just(Event::StaleClosed),
    ]
}

proptest! {
    /// Whatever happens: one opening is closed before the next begins, generations only grow, every state
    /// that is not at rest has a deadline, no wait exceeds the longest, and a stop always comes to rest.
    #[test]
    fn every_life_is_orderly(events in proptest::collection::vec(event(), 1..200)) {
        let mut life = Life::new();
        let mut open: Option<u64> = None;
        let mut last_generation = 0;
        for event in events {
            match event {
                Event::Start => { life.feed(Input::Start); }
                Event::Stop => {
                    // A wedged thread is given up when its camera is stopped.
                    if life.state() == "wedged" { open = None; }
                    life.feed(Input::Stop);
                }
                Event::Pause => {
                    if life.state() == "wedged" { open = None; }
                    life.feed(Input::Pause);
                }
                Event::Progress => { life.progress(); }
                Event::Failed(reason) => { life.failed(reason); }
                // Only a thread that runs can end.
                Event::Closed => if open.is_some() { open = None; life.closed(); },
                Event::Wait(ms) => { life.wait(Duration::from_millis(ms)); }
                Event::StaleProgress => {
                    let generation = life.machine.generation().wrapping_sub(1);
                    let at = life.now;
                    life.feed(Input::Progress { generation, at });
                }
                Event::StaleClosed => {
                    let generation = life.machine.generation().wrapping_sub(1);
                    life.feed(Input::Closed { generation });
                }
            }
            if let Some(generation) = life.opens() {
                prop_assert!(open.is_none(), "a second opening beside a living one");
                prop_assert_eq!(generation, last_generation + 1);
                last_generation = generation;
                open = Some(generation);
            }
            if let Some(generation) = life.closes() {
                prop_assert_eq!(open, Some(generation));
            }
            let rests = matches!(life.machine.state(), State::Stopped | State::Wedged { .. });
            prop_assert_eq!(life.machine.next_timeout().is_none(), rests);
            if let State::BackingOff { until, .. } = life.machine.state() {
                prop_assert!(until <= life.now + BACKOFF_MAX);
            }
        }
        life.feed(Input::Stop);
        if life.state() == "closing" {
            life.closed();
        }
        prop_assert_eq!(life.state(), "stopped");
    }
}
