//! One client connection and its way to the RTSP server.

use std::io::{Read, Write};
use std::net::{Shutdown, SocketAddr, TcpStream};
use std::os::linux::net::TcpStreamExt;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::sync::{Arc, Mutex};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use super::framing::{Framing, Unit};
use super::mangle::Mangler;
use crate::noise::Noise;
use crate::pace;

/// How connections are carried.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Manner {
    /// The streams are TLS and cannot be looked into.
    pub(crate) opaque: bool,
    /// What goes to the client may wait for acknowledgements.
    pub(crate) nagle: bool,
}

/// What happens to everything that the server sends, on every connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Traffic {
    /// It passes.
    Pass,
    /// It is thrown away, unit by unit, so that the stream is whole again afterwards.
    Swallow,
    /// Interleaved RTP is thrown away.
    NoRtp,
    /// Random bytes take its place.
    Garble { seed: u64 },
    /// Interleaved RTP is thrown away on connections made after `since`, while they are younger than `delay`.
    SlowStart { delay: Duration, since: Instant },
    /// Some interleaved RTP packets break RFC 3550.
    BreakPackets { seed: u64 },
    /// Sender reports lie, and there are more of them.
    Lie { seed: u64 },
}

/// A client connection with its two threads.
pub(crate) struct Link {
    ends: Arc<Ends>,
    threads: Vec<JoinHandle<()>>,
}

struct Ends {
    client: TcpStream,
    /// `None` for a connection that was accepted to be silent.
    server: Option<TcpStream>,
    /// Cut off from the server for good: what the client still says is thrown away.
    cut_off: AtomicBool,
    opened: Instant,
    noise_offset: u64,
}

impl Link {
    /// Connects `client` with the server.
    pub(crate) fn serve(
        client: TcpStream,
        server: SocketAddr,
        traffic: &Arc<Mutex<Traffic>>,
        manner: Manner,
        number: u64,
    ) -> std::io::Result<Self> {
        let server = TcpStream::connect(server)?;
        // Packets must not wait for one another.
        server.set_nodelay(true)?;
        client.set_nodelay(!manner.nagle)?;
        let ends = Arc::new(Ends {
            client,
            server: Some(server),
            cut_off: AtomicBool::new(false),
            opened: pace::now(),
            noise_offset: number,
        });
        let (down_ends, traffic) = (ends.clone(), traffic.clone());
        let mut link = Self { ends, threads: Vec::with_capacity(2) };
        link.spawn("relay-down", move || down_ends.carry_down(&traffic, manner.opaque))?;
        let up_ends = link.ends.clone();
        link.spawn("relay-up", move || up_ends.carry_up())?;
        Ok(link)
    }

    /// Keeps `client` open without ever answering.
    pub(crate) fn silent(client: TcpStream) -> std::io::Result<Self> {
        let ends = Arc::new(Ends {
            client,
            server: None,
            cut_off: AtomicBool::new(true),
            opened: pace::now(),
            noise_offset: 0,
        });
        let mut link = Self { ends: ends.clone(), threads: Vec::with_capacity(1) };
        link.spawn("relay-up", move || ends.carry_up())?;
        Ok(link)
    }

    fn spawn(&mut self, name: &str, work: impl FnOnce() + Send + 'static) -> std::io::Result<()> {
        self.threads.push(std::thread::Builder::new().name(name.into()).spawn(work)?);
        Ok(())
    }

    /// Whether this connection is (still) served.
    pub(crate) fn is_served(&self) -> bool {
        !self.ends.cut_off.load(Relaxed) && !self.is_over()
    }

    /// Whether both sides are done.
    pub(crate) fn is_over(&self) -> bool {
        self.threads.iter().all(JoinHandle::is_finished)
    }

    /// Cuts the connection off from the server and leaves the client without a word.
    pub(crate) fn abandon(&self) {
        self.ends.cut_off.store(true, Relaxed);
        self.ends.shut_server();
    }

    /// Resets the connection: the client sees a RST.
    pub(crate) fn reset(&self) {
        self.abandon();
        let _ = rustix::net::connect_unspec(&self.ends.client);
    }

    /// Closes the connection in order: the client sees a FIN after what was already sent.
    pub(crate) fn close(&self) {
        self.abandon();
        let _ = self.ends.client.shutdown(Shutdown::Write);
    }
}

impl Drop for Link {
    fn drop(&mut self) {
        self.abandon();
        let _ = self.ends.client.shutdown(Shutdown::Both);
        for thread in self.threads.drain(..) {
            let _ = thread.join();
        }
    }
}

impl Ends {
    fn shut_server(&self) {
        if let Some(server) = &self.server {
            let _ = server.shutdown(Shutdown::Both);
        }
    }

    /// Client to server: everything passes, and is thrown away once the connection is cut off. A connection
    /// that is cut off stays until the client closes it.
    fn carry_up(&self) {
        let mut bytes = [0; 4096];
        loop {
            match (&self.client).read(&mut bytes) {
                Ok(0) | Err(_) => break,
                Ok(length) => {
                    if self.cut_off.load(Relaxed) {
                        continue;
                    }
                    let Some(mut server) = self.server.as_ref() else { continue };
                    if server.write_all(&bytes[..length]).is_err() {
                        self.cut_off.store(true, Relaxed);
                    }
                }
            }
        }
        self.shut_server();
    }

    /// Server to client, through the active fault.
    fn carry_down(&self, traffic: &Mutex<Traffic>, opaque: bool) {
        let Some(server) = &self.server else { return };
        let mut framing = Framing::new(server, opaque);
        let (mut noise, mut mangler) = (None, None);
        let mut bytes = Vec::new();
        while let Ok(Some(unit)) = framing.next(&mut bytes) {
            // A wire makes nobody wait; but the server waits for acknowledgements, which Linux delays after we have sent.
            let _ = server.set_quickack(true);
            if self.cut_off.load(Relaxed) {
                break;
            }
            let traffic = *traffic.lock().unwrap_or_else(|poisoned| poisoned.into_inner());
            if self.drops(traffic, unit) {
                continue;
            }
            match traffic {
                Traffic::Garble { seed } => {
                    noise.get_or_insert_with(|| Noise::new(seed ^ self.noise_offset)).fill(&mut bytes);
                }
                Traffic::BreakPackets { seed } | Traffic::Lie { seed } => {
                    let mangler = mangler.get_or_insert_with(|| Mangler::new(seed ^ self.noise_offset));
                    mangle(mangler, traffic, unit, &mut bytes);
                }
                _ => mangler = None,
            }
            if (&self.client).write_all(&bytes).is_err() {
                break;
            }
        }
        self.shut_server();
        // The server ended the connection: so does the relay, unless it is to vanish.
        if !self.cut_off.swap(true, Relaxed) {
            let _ = self.client.shutdown(Shutdown::Write);
        }
    }

    fn drops(&self, traffic: Traffic, unit: Unit) -> bool {
        let is_rtp = matches!(unit, Unit::Interleaved { channel } if channel % 2 == 0);
        match traffic {
            Traffic::Pass | Traffic::Garble { .. } | Traffic::BreakPackets { .. } | Traffic::Lie { .. } => {
                false
            }
            Traffic::Swallow => true,
            Traffic::NoRtp => is_rtp,
            Traffic::SlowStart { delay, since } => {
                is_rtp && self.opened >= since && pace::now().saturating_duration_since(self.opened) < delay
            }
        }
    }
}

fn mangle(mangler: &mut Mangler, traffic: Traffic, unit: Unit, frame: &mut Vec<u8>) {
    let Unit::Interleaved { channel } = unit else { return };
    match (traffic, channel % 2) {
        (Traffic::BreakPackets { .. }, 0) => mangler.break_packet(frame),
        (Traffic::Lie { .. }, 0) => mangler.add_report(frame),
        (Traffic::Lie { .. }, _) => mangler.falsify_report(frame),
        _ => {}
    }
}
