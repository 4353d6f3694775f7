//! The thread of one opening: open, pump, tear down, say so.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::JoinHandle;
use std::time::Duration;

use crossbeam_channel::Sender;
use watchpost_cuda::Gpu;

use super::Message;
use crate::camera::Reason;
use crate::config::CameraOptions;
use crate::frame::{Bench, End, Feed, LazyOptions, Mailbox, Pacer, Pump, Turnstile, Work};
use crate::metrics::Outcome;
use crate::source::{Fault, Receiver, Source, Stage};

/// Without a ring the thread looks around this often; nothing depends on it.
const LOOK_EVERY: Duration = Duration::from_secs(1);

/// Linux cuts thread names at 15 bytes.
pub(super) fn thread_name(prefix: &str, name: &str) -> String {
    let mut text = format!("{prefix}{name}");
    text.truncate(15);
    text
}

/// What an opening's thread works with.
pub(super) struct Opening {
    pub options: Arc<CameraOptions>,
    pub source: Arc<dyn Source>,
    pub feed: Arc<Feed>,
    pub bench: Arc<Mutex<Bench>>,
    pub turnstile: Arc<Turnstile>,
    pub work: Sender<Work>,
    pub supervisor: Sender<Message>,
    pub generation: u64,
    /// Where frames in device memory are.
    pub gpu: Option<Gpu>,
}

/// A running opening, as the supervisor holds it.
pub(super) struct Running {
    pub generation: u64,
    stop: Arc<AtomicBool>,
    thread: JoinHandle<()>,
}

impl Running {
    /// Asks the thread to tear down. Returns at once.
    pub fn ask_to_close(&self, feed: &Feed) {
        self.stop.store(true, Ordering::Release);
        feed.wake.ring();
    }

    /// Waits for a thread that has said that it is done: what is left of it takes microseconds.
    pub fn join(self) {
        let _panicked = self.thread.join();
    }

    /// Whether the thread has ended.
    pub fn is_finished(&self) -> bool {
        self.thread.is_finished()
    }
}

impl Opening {
    /// Starts the thread.
    pub fn spawn(self) -> std::io::Result<Running> {
        let generation = self.generation;
        let stop = Arc::new(AtomicBool::new(false));
        let flag = Arc::clone(&stop);
        let name = thread_name("cam-", self.feed.name());
        let thread = std::thread::Builder::new().name(name).spawn(move || self.live(&flag))?;
        Ok(Running { generation, stop, thread })
    }

    fn live(self, stop: &AtomicBool) {
        // Reports also when this thread unwinds.
        let _closed = ReportClosed {
            supervisor: self.supervisor.clone(),
            index: self.feed.index,
            generation: self.generation,
        };
        match self.look_up(stop) {
            Ok(true) => while self.open_and_pump(stop) == Again::Yes {},
            Ok(false) => {}
            Err(fault) => self.report_failed(fault),
        }
    }

    /// Waits until it is known that the camera can be found; false when it is stopped before.
    fn look_up(&self, stop: &AtomicBool) -> Result<bool, Fault> {
        let Some(lookup) = self.source.lookup() else { return Ok(true) };
        self.feed.reached(self.generation, Stage::LookingUp);
        lookup.ask(&self.feed.wake)?;
        while !stop.load(Ordering::Acquire) {
            if let Some(answer) = lookup.answer() {
                return answer.map(|()| true);
            }
            self.feed.bell().wait(LOOK_EVERY);
        }
        Ok(false)
    }

    /// The source's opening is dropped, that is torn down, before this returns.
    fn open_and_pump(&self, stop: &AtomicBool) -> Again {
        let pacer = Pacer::new(self.options.detect_fps);
        let mailbox = Mailbox::new(
            Arc::clone(&self.feed),
            self.generation,
            pacer,
            self.options.decode,
            LazyOptions::of(&self.options),
        );
        let receiver = Arc::clone(&mailbox) as Arc<dyn Receiver>;
        let opening = match self.source.open(self.generation, receiver) {
            Ok(opening) => opening,
            Err(fault) => {
                self.report_failed(fault);
                return Again::No;
            }
        };
        let again = match self.pump(&mailbox, stop) {
            End::Stopped => Again::No,
            End::Fault(fault) if self.options.repeat && fault.reason == Reason::Ended => Again::Yes,
            End::Fault(fault) => {
                // Said before the teardown, which may take its time: the supervisor's clock for it starts now.
                self.report_failed(fault);
                Again::No
            }
        };
        mailbox.close(Outcome::StaleGeneration);
        drop(opening);
        again
    }

    fn pump(&self, mailbox: &Mailbox, stop: &AtomicBool) -> End {
        let mut bench = self.bench.lock().unwrap_or_else(PoisonError::into_inner);
        bench.reset();
        let mut pump = Pump {
            feed: &self.feed,
            mailbox,
            generation: self.generation,
            bench: &mut bench,
            turnstile: &self.turnstile,
            work: &self.work,
            max_frame_age: self.options.max_frame_age,
            read_stamp: self.options.read_stamp,
            gpu: self.gpu.clone(),
            stop,
        };
        pump.run(&|| self.report(Message::FirstFrame))
    }

    fn report_failed(&self, fault: Fault) {
        self.report(Message::Failed { index: self.feed.index, generation: self.generation, fault });
    }

    fn report(&self, message: Message) {
        // Fails only when the supervisor is gone, and with it everybody who could want to know.
        let _supervisor_gone = self.supervisor.send(message);
    }
}

/// Whether a finite input begins again.
#[derive(PartialEq, Eq)]
enum Again {
    Yes,
    No,
}

struct ReportClosed {
    supervisor: Sender<Message>,
    index: usize,
    generation: u64,
}

impl Drop for ReportClosed {
    fn drop(&mut self) {
        if std::thread::panicking() {
            let detail = "its thread panicked, which is a fault of watchpost".to_owned();
            let fault = Fault { reason: Reason::Internal, detail };
            let message = Message::Failed { index: self.index, generation: self.generation, fault };
            let _supervisor_gone = self.supervisor.send(message);
        }
        let message = Message::Closed { index: self.index, generation: self.generation };
        let _supervisor_gone = self.supervisor.send(message);
    }
}
