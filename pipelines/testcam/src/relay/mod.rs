//! The camera's front door: a TCP relay between clients and the RTSP server that can refuse, cut, swallow,
//! silence and garble connections.

mod framing;
mod link;
mod mangle;

use std::io::{ErrorKind, Read, Write};
use std::net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream};
use std::os::unix::net::UnixStream;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::sync::{Arc, Mutex, MutexGuard};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use rustix::event::{PollFd, PollFlags, Timespec, poll};

use crate::pace;
use link::Link;
pub(crate) use link::{Manner, Traffic};

/// Connections at one time, those that were abandoned included; more are closed at once.
const LINKS_MAX: usize = 64;
/// How often links that are over are looked for.
const SWEEP: Duration = Duration::from_millis(200);

/// What the listening port does.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Door {
    /// Accepts connections.
    Open,
    /// Refuses them (RST).
    Refuse,
    /// Leaves their SYN without an answer.
    Mute,
}

/// The relay of one camera. Dropping it closes everything.
pub(crate) struct Relay {
    address: SocketAddr,
    shared: Arc<Shared>,
    orders: SyncSender<Order>,
    wake: UnixStream,
    thread: Option<JoinHandle<()>>,
}

struct Shared {
    traffic: Arc<Mutex<Traffic>>,
    /// New connections are accepted and never answered.
    silent: AtomicBool,
    links: Mutex<Vec<Link>>,
}

enum Order {
    /// Work the door, then answer.
    Door(Door, SyncSender<()>),
    Stop,
}

impl Relay {
    /// Opens 127.0.0.1:`port` in front of `server`; until `boot_until` it refuses everybody.
    pub(crate) fn start(
        port: u16,
        server: SocketAddr,
        manner: Manner,
        boot_until: Option<Instant>,
    ) -> std::io::Result<Self> {
        // A socket that is bound and never listens keeps the port ours while the door refuses.
        let keeper = bind_without_listening(port)?;
        let address = SocketAddr::try_from(rustix::net::getsockname(&keeper)?)?;
        let shared = Arc::new(Shared {
            traffic: Arc::new(Mutex::new(Traffic::Pass)),
            silent: AtomicBool::new(false),
            links: Mutex::new(Vec::with_capacity(LINKS_MAX)),
        });
        let (orders, inbox) = sync_channel(1);
        let (wake, bell) = UnixStream::pair()?;
        bell.set_nonblocking(true)?;
        let mut doorman = Doorman {
            shared: shared.clone(),
            address,
            server,
            manner,
            boot_until,
            door: Door::Open,
            listener: None,
            filler: None,
            inbox,
            bell,
            link_count: 0,
            _keeper: keeper,
        };
        doorman.work_door()?;
        let thread = std::thread::Builder::new().name("relay-accept".into()).spawn(move || doorman.run())?;
        Ok(Self { address, shared, orders, wake, thread: Some(thread) })
    }

    pub(crate) fn port(&self) -> u16 {
        self.address.port()
    }

    /// Connections that are served at the moment.
    pub(crate) fn clients(&self) -> usize {
        self.shared.links().iter().filter(|link| link.is_served()).count()
    }

    pub(crate) fn set_traffic(&self, traffic: Traffic) {
        *self.shared.traffic.lock().unwrap_or_else(|poisoned| poisoned.into_inner()) = traffic;
    }

    pub(crate) fn set_silent(&self, silent: bool) {
        self.shared.silent.store(silent, Relaxed);
    }

    /// Works the door; done when this returns.
    pub(crate) fn set_door(&self, door: Door) {
        let (done, wait) = sync_channel(1);
        if self.order(Order::Door(door, done)) {
            let _ = wait.recv();
        }
    }

    /// Closes all connections in order.
    pub(crate) fn close_all(&self) {
        self.shared.links().iter().for_each(Link::close);
    }

    /// Cuts all connections off without a word.
    pub(crate) fn abandon_all(&self) {
        self.shared.links().iter().for_each(Link::abandon);
    }

    /// Resets all connections.
    pub(crate) fn reset_all(&self) {
        self.shared.links().iter().for_each(Link::reset);
    }

    fn order(&self, order: Order) -> bool {
        self.orders.send(order).is_ok() && (&self.wake).write_all(&[1]).is_ok()
    }
}

impl Drop for Relay {
    fn drop(&mut self) {
        self.order(Order::Stop);
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
        let links = std::mem::take(&mut *self.shared.links());
        drop(links);
    }
}

impl Shared {
    fn links(&self) -> MutexGuard<'_, Vec<Link>> {
        self.links.lock().unwrap_or_else(|poisoned| poisoned.into_inner())
    }
}

/// The accepting thread's own half.
struct Doorman {
    shared: Arc<Shared>,
    address: SocketAddr,
    server: SocketAddr,
    manner: Manner,
    boot_until: Option<Instant>,
    door: Door,
    listener: Option<TcpListener>,
    /// Fills the accept queue of a mute door.
    filler: Option<TcpStream>,
    inbox: Receiver<Order>,
    bell: UnixStream,
    link_count: u64,
    _keeper: std::os::fd::OwnedFd,
}

impl Doorman {
    fn run(mut self) {
        loop {
            self.wait();
            let _ = (&self.bell).read(&mut [0; 16]);
            while let Ok(order) = self.inbox.try_recv() {
                let Order::Door(door, done) = order else { return };
                self.door = door;
                // The port is kept for us: what fails here is out of descriptors, and the next order tries again.
                let _ = self.work_door();
                let _ = done.send(());
            }
            if self.boot_until.is_some_and(|until| pace::now() >= until) {
                self.boot_until = None;
                let _ = self.work_door();
            }
            self.shared.links().retain(|link| !link.is_over());
            if self.door == Door::Open {
                self.accept_all();
            }
        }
    }

    /// Waits for a connection, an order, the end of booting or the next sweep.
    fn wait(&self) {
        let until_booted = self.boot_until.map(|until| until.saturating_duration_since(pace::now()));
        let timeout = until_booted.unwrap_or(SWEEP).min(SWEEP);
        let timeout = Timespec::try_from(timeout).ok();
        let mut fds = vec![PollFd::new(&self.bell, PollFlags::IN)];
        if let Some(listener) = self.listener.as_ref().filter(|_| self.door == Door::Open) {
            fds.push(PollFd::new(listener, PollFlags::IN));
        }
        let _ = poll(&mut fds, timeout.as_ref());
    }

    /// Makes the listening socket what the door says.
    fn work_door(&mut self) -> std::io::Result<()> {
        let door = if self.boot_until.is_some() { Door::Refuse } else { self.door };
        match door {
            Door::Refuse => {
                self.listener = None;
                self.filler = None;
            }
            Door::Open if self.filler.is_none() && self.listener.is_some() => {}
            Door::Open => {
                self.listener = None;
                self.filler = None;
                let listener = TcpListener::bind(self.address)?;
                listener.set_nonblocking(true)?;
                self.listener = Some(listener);
            }
            Door::Mute => self.mute()?,
        }
        Ok(())
    }

    /// A full accept queue: Linux then drops every SYN. Queues hold one connection more than their backlog.
    fn mute(&mut self) -> std::io::Result<()> {
        self.listener = None;
        let listener = TcpListener::bind(self.address)?;
        rustix::net::listen(&listener, 0)?;
        // Somebody else may have been faster: then the queue is full all the same.
        self.filler = TcpStream::connect_timeout(&self.address, Duration::from_millis(100)).ok();
        self.listener = Some(listener);
        Ok(())
    }

    fn accept_all(&mut self) {
        loop {
            let Some(listener) = &self.listener else { return };
            match listener.accept() {
                Ok((client, _)) => self.welcome(client),
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(_) => return,
            }
        }
    }

    fn welcome(&mut self, client: TcpStream) {
        // Accepted sockets do not inherit it on Linux, but elsewhere they do.
        let _ = client.set_nonblocking(false);
        let mut links = self.shared.links();
        if links.len() >= LINKS_MAX {
            return;
        }
        self.link_count += 1;
        let link = if self.shared.silent.load(Relaxed) {
            Link::silent(client)
        } else {
            Link::serve(client, self.server, &self.shared.traffic, self.manner, self.link_count)
        };
        // One that cannot be served (no descriptors, no threads) is closed.
        links.extend(link.ok());
    }
}

/// A socket bound to 127.0.0.1:`port` that does not listen, so that connecting is refused.
fn bind_without_listening(port: u16) -> std::io::Result<std::os::fd::OwnedFd> {
    let socket = rustix::net::socket_with(
        rustix::net::AddressFamily::INET,
        rustix::net::SocketType::STREAM,
        rustix::net::SocketFlags::CLOEXEC,
        None,
    )?;
    // Two sockets may share a port while at most one of them listens and both allow it; std's listeners do.
    rustix::net::sockopt::set_socket_reuseaddr(&socket, true)?;
    rustix::net::bind(&socket, &SocketAddr::from((Ipv4Addr::LOCALHOST, port)))?;
    Ok(socket)
}
