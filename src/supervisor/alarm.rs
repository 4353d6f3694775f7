//! A thread that panics must not be missing in silence: the process ends in order, and begins anew.

use crossbeam_channel::Sender;

use super::Message;

/// Held by a thread; tells the supervisor if that thread panics.
#[derive(Debug)]
pub struct Alarm {
    supervisor: Sender<Message>,
    thread: &'static str,
}

impl Alarm {
    /// For the thread of this name.
    pub(super) fn new(supervisor: &Sender<Message>, thread: &'static str) -> Self {
        Self { supervisor: supervisor.clone(), thread }
    }
}

impl Drop for Alarm {
    fn drop(&mut self) {
        if std::thread::panicking() {
            let _supervisor_gone = self.supervisor.send(Message::Panicked(self.thread));
        }
    }
}
