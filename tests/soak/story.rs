//! What the daemon says on stdout, as it says it: when each camera was closed, when which picture was seen, and
//! whether all of it is a story that can be true.

use std::collections::BTreeMap;
use std::io::{BufRead, BufReader, Read};
use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use serde_json::Value;
use watchpost::clock;

/// Contradictions that are kept; one is one too many.
const PROBLEMS_MAX: usize = 20;

/// Something that is waited for: when it was read.
#[derive(Debug, Default)]
struct Watch {
    stamp: u64,
    seen_at: Option<Instant>,
}

#[derive(Debug, Default)]
struct Camera {
    state: String,
    generation: u64,
    seq: u64,
    /// The next `closing` is wanted, and for what it came.
    closing: Option<(Option<Instant>, String)>,
    picture: Option<Watch>,
    /// Openings that ended for a fault.
    faults: u64,
}

/// What was said so far.
#[derive(Debug, Default)]
struct Said {
    cameras: BTreeMap<String, Camera>,
    detections: u64,
    /// Teardowns that did not return in time.
    wedged: u64,
    /// Growth that the daemon itself reported.
    alarms: Vec<String>,
    problems: Vec<String>,
    over: bool,
}

/// The listener's notes, for all who wait.
#[derive(Debug, Default)]
pub struct Story {
    said: Mutex<Said>,
    news: Condvar,
}

impl Story {
    fn lock(&self) -> MutexGuard<'_, Said> {
        self.said.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Reads to the end.
    pub fn listen(&self, stdout: impl Read) {
        for line in BufReader::new(stdout).lines().map_while(Result::ok) {
            let at = clock::now();
            let record = serde_json::from_str::<Value>(&line);
            let mut said = self.lock();
            match record {
                Ok(record) => said.take(&record, at),
                Err(error) => said.contradict(format!("not JSON ({error}): {line}")),
            }
            drop(said);
            self.news.notify_all();
        }
        self.lock().over = true;
        self.news.notify_all();
    }

    /// Records of frames that went all the way.
    pub fn detections(&self) -> u64 {
        self.lock().detections
    }

    /// Teardowns that did not return in time.
    pub fn wedged(&self) -> u64 {
        self.lock().wedged
    }

    pub fn problems(&self) -> Vec<String> {
        self.lock().problems.clone()
    }

    pub fn alarms(&self) -> Vec<String> {
        self.lock().alarms.clone()
    }

    /// Openings of a camera that ended for a fault.
    pub fn faults(&self, camera: &str) -> u64 {
        self.lock().cameras.get(camera).map_or(0, |camera| camera.faults)
    }

    /// From now on the next `closing` of this camera is waited for.
    pub fn watch_closing(&self, camera: &str) {
        self.lock().camera(camera).closing = Some((None, String::new()));
    }

    /// When it was closed, and why.
    pub fn closing(&self, camera: &str, patience: Duration) -> Option<(Instant, String)> {
        self.wait(patience, |said| {
            let (at, reason) = said.camera(camera).closing.as_ref()?;
            at.map(|at| (at, reason.clone()))
        })
    }

    /// From now on a picture with this number or a later one is waited for.
    pub fn watch_picture(&self, camera: &str, stamp: u64) {
        self.lock().camera(camera).picture = Some(Watch { stamp, seen_at: None });
    }

    /// When the record of that picture came.
    pub fn picture(&self, camera: &str, patience: Duration) -> Option<Instant> {
        self.wait(patience, |said| said.camera(camera).picture.as_ref()?.seen_at)
    }

    fn wait<T>(&self, patience: Duration, look: impl Fn(&mut Said) -> Option<T>) -> Option<T> {
        let deadline = clock::now() + patience;
        let mut said = self.lock();
        loop {
            if let Some(answer) = look(&mut said) {
                return Some(answer);
            }
            let left = deadline.saturating_duration_since(clock::now());
            if left.is_zero() || said.over {
                return None;
            }
            said = self.news.wait_timeout(said, left).unwrap_or_else(PoisonError::into_inner).0;
        }
    }
}

impl Said {
    fn camera(&mut self, name: &str) -> &mut Camera {
        if !self.cameras.contains_key(name) {
            self.cameras.insert(name.to_owned(), Camera::default());
        }
        self.cameras.get_mut(name).expect("just made")
    }

    fn contradict(&mut self, what: String) {
        if self.problems.len() < PROBLEMS_MAX {
            self.problems.push(what);
        }
    }

    fn take(&mut self, record: &Value, at: Instant) {
        let name = record["camera"].as_str().unwrap_or_default();
        let problem = match record["type"].as_str() {
            Some("detections") => {
                self.detections += 1;
                self.camera(name).detections(record, at)
            }
            Some("camera_state") => {
                self.wedged += u64::from(record["state"] == "wedged");
                self.camera(name).state(record, at)
            }
            Some("growth") => {
                if record["growing"] == true {
                    self.alarms.push(record["detail"].as_str().unwrap_or_default().to_owned());
                }
                None
            }
            _ => Some("of an unknown type"),
        };
        if let Some(problem) = problem {
            self.contradict(format!("{problem}: {record}"));
        }
    }
}

impl Camera {
    /// Detections come only while the camera streams, from its living generation, and none is missing.
    fn detections(&mut self, record: &Value, at: Instant) -> Option<&'static str> {
        let seq = record["seq"].as_u64()?;
        let expected = self.seq + record["dropped_since_last"].as_u64().unwrap_or(0) + 1;
        self.seq = seq;
        if let (Some(watch), Some(stamp)) = (&mut self.picture, record["stamp"].as_u64())
            && stamp >= watch.stamp
        {
            watch.seen_at.get_or_insert(at);
        }
        if self.state != "streaming" || record["generation"] != self.generation {
            return Some("detections of a camera that does not stream");
        }
        (seq != expected).then_some("a record is missing")
    }

    /// States follow each other as in the diagram of the machine. A camera that is configured anew after it was
    /// removed begins at 1.
    fn state(&mut self, record: &Value, at: Instant) -> Option<&'static str> {
        let state = record["state"].as_str().unwrap_or_default();
        let generation = record["generation"].as_u64().unwrap_or(0);
        let reason = record["reason"].as_str().unwrap_or_default();
        let legal: &[&str] = match self.state.as_str() {
            "" | "backing_off" => &["opening", "stopped"],
            "opening" => &["streaming", "closing", "backing_off"],
            "streaming" => &["closing", "backing_off"],
            "closing" => &["backing_off", "stopped", "wedged"],
            "wedged" => &["backing_off", "stopped"],
            _ => &["opening"],
        };
        let is_legal = legal.contains(&state);
        let follows = match state {
            "opening" => {
                generation == self.generation + 1 || generation == 1 && matches!(&*self.state, "stopped" | "")
            }
            _ => generation == self.generation,
        };
        if state == "opening" && generation == 1 {
            self.seq = 0;
        }
        if state == "closing" {
            self.faults += u64::from(reason != "shutdown");
            if let Some((seen_at @ None, why)) = &mut self.closing {
                (*seen_at, *why) = (Some(at), reason.to_owned());
            }
        }
        (self.state, self.generation) = (state.to_owned(), generation);
        match (is_legal, follows) {
            (false, _) => Some("a state that cannot follow"),
            (_, false) => Some("a generation that cannot follow"),
            _ => None,
        }
    }
}
