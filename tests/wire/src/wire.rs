//! A wire between two networks, and the thread that carries its packets.

use std::collections::HashSet;
use std::fs::File;
use std::io::{Read, Write};
use std::net::Ipv4Addr;
use std::os::unix::net::UnixStream;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread::JoinHandle;

use rustix::event::{PollFd, PollFlags, Timespec, poll};

use crate::conditions::{Conditions, Counts, Lane};
use crate::namespace::ip;
use crate::{Namespace, Unavailable, now, tun};

/// Connections that a wire remembers to have seen; more are not forgotten when it is told to.
const FLOWS_MAX: usize = 4096;
/// Larger than any packet that a device of 1500 bytes sends.
const PACKET_BYTES: usize = 2048;

/// The addresses at the two ends of a wire; both are in one network of 256.
#[derive(Debug, Clone, Copy)]
pub struct Ends {
    /// The daemon's.
    pub near: Ipv4Addr,
    /// The camera's.
    pub far: Ipv4Addr,
}

/// A wire. Dropping it takes its devices away.
#[derive(Debug)]
pub struct Wire {
    name: String,
    shared: Arc<Mutex<Shared>>,
    wake: UnixStream,
    thread: Option<JoinHandle<()>>,
}

/// Protocol, near port, far port.
type Flow = (u8, u16, u16);

struct Shared {
    near: Arc<File>,
    /// `None`: nothing is plugged in.
    far: Option<Arc<File>>,
    /// To the far end and back.
    lanes: [Lane; 2],
    seen: HashSet<Flow>,
    forgotten: HashSet<Flow>,
    counts: Counts,
    is_over: bool,
}

impl std::fmt::Debug for Shared {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Shared").field("counts", &self.counts).finish_non_exhaustive()
    }
}

impl Wire {
    /// A good wire between `near` and `far`. `name` is that of its two devices, 15 bytes at most; `seed` decides
    /// which packets meet with an accident.
    ///
    /// # Errors
    /// [`Unavailable`] where there can be no such devices.
    pub fn new(
        name: &str,
        near: &Namespace,
        far: &Namespace,
        ends: Ends,
        seed: u64,
    ) -> Result<Self, Unavailable> {
        let near = device(name, near, ends.near)?;
        let far = device(name, far, ends.far)?;
        let (wake, bell) = UnixStream::pair().map_err(Unavailable::refused("a socket"))?;
        bell.set_nonblocking(true).map_err(Unavailable::refused("a socket"))?;
        let shared = Arc::new(Mutex::new(Shared {
            near,
            far: Some(far),
            lanes: [Lane::new(seed), Lane::new(!seed)],
            seen: HashSet::new(),
            forgotten: HashSet::new(),
            counts: Counts::default(),
            is_over: false,
        }));
        let carried = Arc::clone(&shared);
        let thread =
            std::thread::Builder::new().name("wire".to_owned()).spawn(move || carry(&carried, &bell));
        let thread = Some(thread.map_err(Unavailable::refused("a thread"))?);
        Ok(Self { name: name.to_owned(), shared, wake, thread })
    }

    /// Treats packets like this from now on, in both directions.
    pub fn set(&self, conditions: Conditions) {
        for lane in &mut self.lock().lanes {
            lane.set(conditions, now());
        }
        self.ring();
    }

    /// Loses every further packet of the connections that it has carried so far, as a NAT box does whose table
    /// has lost them: no answer, no reset. New connections work.
    pub fn forget(&self) {
        let shared = &mut *self.lock();
        shared.forgotten.extend(shared.seen.drain());
    }

    /// Pulls the far end out. What is on its way there is lost.
    pub fn unplug(&self) {
        self.lock().far = None;
        self.ring();
    }

    /// Plugs the far end into a machine; its address may be another one of the same network.
    ///
    /// # Errors
    /// [`Unavailable`] as for [`Self::new`].
    pub fn plug(&self, far: &Namespace, address: Ipv4Addr) -> Result<(), Unavailable> {
        self.lock().far = Some(device(&self.name, far, address)?);
        self.ring();
        Ok(())
    }

    /// What happened to packets so far.
    pub fn counts(&self) -> Counts {
        self.lock().counts
    }

    fn ring(&self) {
        let _it_ends = (&self.wake).write_all(&[1]);
    }

    fn lock(&self) -> MutexGuard<'_, Shared> {
        self.shared.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Wire {
    fn drop(&mut self) {
        self.lock().is_over = true;
        self.ring();
        if let Some(thread) = self.thread.take() {
            let _panicked = thread.join();
        }
    }
}

/// The device of one end, with its address.
fn device(name: &str, place: &Namespace, address: Ipv4Addr) -> Result<Arc<File>, Unavailable> {
    place.inside(|| {
        let file = tun::open(name).map_err(Unavailable::refused("a tun device cannot be made"))?;
        ip(&format!("address add {address}/24 dev {name}"))?;
        ip(&format!("link set {name} up"))?;
        Ok(Arc::new(file))
    })?
}

/// Carries packets until it is over.
fn carry(shared: &Mutex<Shared>, bell: &UnixStream) {
    let lock = || shared.lock().unwrap_or_else(PoisonError::into_inner);
    loop {
        let (near, far, next_at) = {
            let shared = lock();
            if shared.is_over {
                return;
            }
            let next_at = shared.lanes.iter().filter_map(Lane::next_at).min();
            (Arc::clone(&shared.near), shared.far.clone(), next_at)
        };
        let timeout = next_at.map(|at| at.saturating_duration_since(now()));
        let timeout = timeout.and_then(|timeout| Timespec::try_from(timeout).ok());
        let mut fds = vec![PollFd::new(bell, PollFlags::IN), PollFd::new(&*near, PollFlags::IN)];
        fds.extend(far.as_deref().map(|far| PollFd::new(far, PollFlags::IN)));
        let _interrupted = poll(&mut fds, timeout.as_ref());
        let _nothing = (&mut &*bell).read(&mut [0; 16]);
        let mut shared = lock();
        shared.read(&near, 0);
        if let Some(far) = &far {
            shared.read(far, 1);
        }
        shared.deliver();
    }
}

impl Shared {
    /// Takes what has come out of a device.
    fn read(&mut self, mut device: &File, lane: usize) {
        let mut bytes = [0; PACKET_BYTES];
        while let Ok(length @ 1..) = device.read(&mut bytes) {
            let packet = &bytes[..length];
            if let Some(flow) = flow(packet, lane == 1) {
                if self.forgotten.contains(&flow) {
                    self.counts.forgotten += 1;
                    continue;
                }
                if self.seen.len() < FLOWS_MAX {
                    self.seen.insert(flow);
                }
            }
            self.lanes[lane].take(packet.to_vec(), now(), &mut self.counts);
        }
    }

    /// Puts what has arrived into the devices. One that takes nothing (it is not up yet, or full) loses it.
    fn deliver(&mut self) {
        let ends = [self.far.clone(), Some(Arc::clone(&self.near))];
        for (lane, end) in self.lanes.iter_mut().zip(ends) {
            while let Some(packet) = lane.arrived(now()) {
                let carried = end.as_deref().is_some_and(|mut end| end.write(&packet).is_ok());
                if carried {
                    self.counts.carried += 1;
                } else {
                    self.counts.lost += 1;
                }
            }
        }
    }
}

/// The connection of a TCP or UDP packet over IPv4; `None` for fragments and everything else.
fn flow(packet: &[u8], is_from_far: bool) -> Option<Flow> {
    let (&first, &protocol) = (packet.first()?, packet.get(9)?);
    let is_later_fragment = (u16::from(packet[6] & 0x1f) << 8 | u16::from(packet[7])) > 0;
    if first >> 4 != 4 || !matches!(protocol, 6 | 17) || is_later_fragment {
        return None;
    }
    let at = usize::from(first & 0xf) * 4;
    let ports = packet.get(at..at + 4)?;
    let (from, to) = (u16::from_be_bytes([ports[0], ports[1]]), u16::from_be_bytes([ports[2], ports[3]]));
    Some(if is_from_far { (protocol, to, from) } else { (protocol, from, to) })
}

#[cfg(test)]
mod tests {
    use std::net::{TcpListener, TcpStream};
    use std::time::Duration;

    use super::*;

    const ENDS: Ends = Ends { near: Ipv4Addr::new(10, 99, 1, 1), far: Ipv4Addr::new(10, 99, 1, 2) };
    const PATIENCE: Option<Duration> = Some(Duration::from_secs(30));
    const SILENCE: Option<Duration> = Some(Duration::from_millis(300));

    /// A network with a machine that sends back what it is sent.
    fn echo() -> Result<(Namespace, impl FnOnce()), Unavailable> {
        let far = Namespace::new()?;
        let listener = far.inside(|| TcpListener::bind(("0.0.0.0", 7)).expect("the port is free"))?;
        let serve = move || {
            std::thread::spawn(move || {
                for mut stream in listener.incoming().map_while(Result::ok) {
                    std::thread::spawn(move || {
                        let mut copy = stream.try_clone().expect("a descriptor");
                        std::io::copy(&mut stream, &mut copy)
                    });
                }
            });
        };
        Ok((far, serve))
    }

    fn says(stream: &mut TcpStream, word: &[u8], timeout: Option<Duration>) -> std::io::Result<()> {
        stream.set_read_timeout(timeout)?;
        stream.write_all(word)?;
        let mut answer = vec![0; word.len()];
        stream.read_exact(&mut answer)?;
        assert_eq!(answer, word);
        Ok(())
    }

    fn exercise() -> Result<(), Unavailable> {
        let near = Namespace::current()?;
        let (far, serve) = echo()?;
        serve();
        let wire = Wire::new("wire", &near, &far, ENDS, 1)?;
        let mut stream = TcpStream::connect((ENDS.far, 7)).expect("the wire carries");
        says(&mut stream, b"hello", PATIENCE).expect("and back");
        wire.set(Conditions {
            loss: 0.3,
            duplicate: 0.1,
            delay: Duration::from_millis(5),
            ..Conditions::default()
        });
        says(&mut stream, &[7; 50_000], PATIENCE).expect("TCP repairs what a wire loses");
        let counts = wire.counts();
        assert!(counts.lost > 0 && counts.repeated > 0 && counts.carried > 10, "{counts:?}");
        wire.set(Conditions::default());
        wire.forget();
        assert!(says(&mut stream, b"forgotten", SILENCE).is_err());
        assert!(wire.counts().forgotten > 0);
        let mut another = TcpStream::connect((ENDS.far, 7)).expect("new connections are carried");
        says(&mut another, b"again", PATIENCE).expect("and back");
        wire.unplug();
        assert!(says(&mut another, b"unplugged", SILENCE).is_err());
        // Another machine knows nothing of the connection: its kernel resets it.
        let (other, serve) = echo()?;
        serve();
        wire.plug(&other, ENDS.far)?;
        let error = says(&mut another, b"who?", PATIENCE).expect_err("it is reset");
        assert_eq!(error.kind(), std::io::ErrorKind::ConnectionReset, "{error}");
        says(&mut TcpStream::connect((ENDS.far, 7)).expect("it answers"), b"new", PATIENCE)
            .expect("and back");
        Ok(())
    }

    #[test]
    fn a_wire_loses_forgets_and_is_plugged_into_another_machine() {
        if !crate::as_root("wire::tests::a_wire_loses_forgets_and_is_plugged_into_another_machine") {
            return;
        }
        match crate::stage(&[], exercise).and_then(|done| done) {
            Ok(()) => {}
            Err(why) => eprintln!("NOT TESTED: wires: {why}"),
        }
    }
}
