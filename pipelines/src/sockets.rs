//! A network camera's connections, so that they can be cut off, and so that cameras do not wait for us.
//!
//! **Cut off.** rtspsrc does not let itself be interrupted while it reads a message of which it has the first byte (seen with
//! 1.22; its `GstRTSPConnection` ignores its cancellable then). If the camera vanishes in the middle of a packet
//! or of an answer, going to NULL would wait for rtspsrc's own timeout, 5 s. Nothing of rtspsrc leads to its socket;
//! but GIO tells, in a signal, whenever any client of the process has connected, on the thread that connects,
//! and rtspsrc posts a progress message on that thread before it does.
//!
//! **Not waited for.** Once we have sent something on a connection, as receivers do every few seconds to say how well they receive,
//! Linux takes it for a dialogue and acknowledges what comes next up to 40 ms late, in the hope of an answer that takes the
//! acknowledgement along. A camera that fills its segments (Nagle's algorithm, the default of every socket) sends the first few
//! bytes of a picture and waits for that acknowledgement with the rest. So with the first packet of each picture
//! the kernel is told to acknowledge at once.

use std::cell::RefCell;
use std::net::{Shutdown, TcpStream};
use std::os::fd::{AsFd, BorrowedFd};
use std::os::linux::net::TcpStreamExt;
use std::sync::{Arc, Mutex, OnceLock, PoisonError, Weak};

use gio::prelude::*;
use gstreamer as gst;
use gstreamer::glib;
use gstreamer::glib::translate::IntoGlib;
use gstreamer::prelude::*;

/// A pipeline has one connection; rtspsrc may make a new one where a camera sends it elsewhere.
const SOCKETS_MAX: usize = 4;

thread_local! {
    /// Whose connections this thread makes.
    static CLAIMED_BY: RefCell<Weak<Sockets>> = const { RefCell::new(Weak::new()) };
}

/// Duplicates of the descriptors of one pipeline's connections: a number that rtspsrc has closed may be somebody
/// else's already.
#[derive(Debug, Default)]
pub(crate) struct Sockets(Mutex<Vec<TcpStream>>);

impl Sockets {
    /// What this thread connects from now on belongs to `owner`.
    pub(crate) fn claim_thread(owner: Weak<Self>) {
        CLAIMED_BY.set(owner);
    }

    /// Cuts them off when so much time has passed, unless what is returned is dropped before. The waiting is done by
    /// the thread of GStreamer's system clock.
    pub(crate) fn cut_after(self: &Arc<Self>, patience: gst::ClockTime) -> Cut {
        let clock = gst::SystemClock::obtain();
        let at = clock.time() + patience;
        let timer = clock.new_single_shot_id(at);
        let sockets = Arc::clone(self);
        // Where the clock has no thread, the teardown waits as long as it must.
        let _waits = timer.wait_async(move |_, _, _| sockets.cut());
        Cut(timer)
    }

    /// Cuts off every connection: whoever reads from one is at its end.
    fn cut(&self) {
        for connection in self.lock().drain(..) {
            // It may be closed by the other side already, or never have been connected.
            let _no_longer_connected = connection.shutdown(Shutdown::Both);
        }
    }

    /// What has arrived is acknowledged now, and what arrives next at once, until we send something again.
    pub(crate) fn acknowledge_at_once(&self) {
        for connection in self.lock().iter() {
            // One that is closed has nothing to acknowledge.
            let _no_longer_connected = connection.set_quickack(true);
        }
    }

    fn add(&self, descriptor: BorrowedFd<'_>) {
        // Without a descriptor to spare the teardown waits as long as it must.
        let Ok(duplicate) = descriptor.try_clone_to_owned() else { return };
        let mut sockets = self.lock();
        if sockets.len() == SOCKETS_MAX {
            sockets.remove(0);
        }
        sockets.push(TcpStream::from(duplicate));
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, Vec<TcpStream>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A cut that is going to come.
pub(crate) struct Cut(gst::SingleShotClockId);

impl Drop for Cut {
    fn drop(&mut self) {
        self.0.unschedule();
    }
}

/// Listens to GIO, once for the whole process.
pub(crate) fn listen() {
    static LISTENING: OnceLock<()> = OnceLock::new();
    LISTENING.get_or_init(|| {
        // Its class has to exist before its signals can be found.
        let _client = gio::SocketClient::new();
        let class = gio::SocketClient::static_type().into_glib();
        // SAFETY: the name is a C string; the class was made by the line before and static types never go. The
        // hook has the signature of GSignalEmissionHook, needs no data, and so nothing to free it.
        unsafe {
            let signal = glib::gobject_ffi::g_signal_lookup(c"event".as_ptr(), class);
            if signal != 0 {
                glib::gobject_ffi::g_signal_add_emission_hook(
                    signal,
                    0,
                    Some(client_event),
                    std::ptr::null_mut(),
                    None,
                );
            }
        }
    });
}

/// `GSocketClient::event(client, event, connectable, connection)`.
unsafe extern "C" fn client_event(
    _hint: *mut glib::gobject_ffi::GSignalInvocationHint,
    count: u32,
    values: *const glib::gobject_ffi::GValue,
    _data: glib::ffi::gpointer,
) -> glib::ffi::gboolean {
    // SAFETY: GObject hands over `count` initialised values, which live as long as this call; glib::Value is a
    // transparent wrapper of GValue.
    let values = unsafe { std::slice::from_raw_parts(values.cast::<glib::Value>(), count as usize) };
    if let [_client, event, _connectable, connection] = values
        && event.get::<gio::SocketClientEvent>() == Ok(gio::SocketClientEvent::Connected)
        && let Ok(Some(connection)) = connection.get::<Option<gio::SocketConnection>>()
        && let Some(owner) = CLAIMED_BY.with_borrow(Weak::upgrade)
    {
        owner.add(connection.socket().as_fd());
    }
    // Go on listening.
    glib::ffi::GTRUE
}

#[cfg(test)]
mod tests {
    use std::io::{Read, Write};
    use std::net::TcpListener;

    use super::*;

    #[test]
    fn after_something_was_sent_what_arrives_is_acknowledged_at_once_again() {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let mut ours = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
        let (mut camera, _) = listener.accept().unwrap();
        let sockets = Sockets::default();
        sockets.add(ours.as_fd());
        // The kernel's own answer to whether it acknowledges at once: no, in what it takes for a dialogue.
        let mut byte = [0];
        for _ in 0..8 {
            camera.write_all(&byte).unwrap();
            ours.read_exact(&mut byte).unwrap();
            ours.write_all(&byte).unwrap();
        }
        assert!(!ours.quickack().unwrap(), "this kernel acknowledges at once by itself");
        sockets.acknowledge_at_once();
        assert!(ours.quickack().unwrap());
        drop((camera, ours));
        sockets.acknowledge_at_once();
        sockets.cut();
    }
}
