//! A network camera's connections, so that they can be cut off.
//!
//! rtspsrc does not let itself be interrupted while it reads a message of which it has the first byte (seen with
//! 1.22; its `GstRTSPConnection` ignores its cancellable then). If the camera vanishes in the middle of a packet
//! or of an answer, going to NULL would wait for rtspsrc's own timeout, 5 s. Nothing of rtspsrc leads to its socket;
//! but GIO tells, in a signal, whenever any client of the process has connected, on the thread that connects,
//! and rtspsrc posts a progress message on that thread before it does.

use std::cell::RefCell;
use std::net::{Shutdown, TcpStream};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
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
pub(crate) struct Sockets(Mutex<Vec<OwnedFd>>);

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
        for descriptor in self.lock().drain(..) {
            // It may be closed by the other side already, or never have been connected.
            let _no_longer_connected = TcpStream::from(descriptor).shutdown(Shutdown::Both);
        }
    }

    fn add(&self, descriptor: BorrowedFd<'_>) {
        // Without a descriptor to spare the teardown waits as long as it must.
        let Ok(duplicate) = descriptor.try_clone_to_owned() else { return };
        let mut sockets = self.lock();
        if sockets.len() == SOCKETS_MAX {
            sockets.remove(0);
        }
        sockets.push(duplicate);
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, Vec<OwnedFd>> {
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
