//! Clients of the sockets: one that keeps up, slow ones, some that vanish, some that never read, on Unix and TCP
//! and on the debug socket.

use std::io::{ErrorKind, Read};
use std::net::TcpStream;
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use super::stage::Stage;
use super::{Dice, pause};

const TICK: Duration = Duration::from_millis(50);
/// What a slow reader takes in a tick.
const SIP_BYTES: usize = 100;
/// A line is shorter than this, or it is none.
const LINE_BYTES_MAX: usize = 64 << 10;

/// How a client behaves.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Habit {
    KeepsUp,
    Slow,
    /// Reads a little, or nothing, and is gone.
    Vanishes,
    NeverReads,
}

/// What all of them saw.
#[derive(Debug, Default, Clone)]
pub struct Seen {
    pub connections: u64,
    pub lines: u64,
    /// Records that were told to be lost.
    pub lost: u64,
    /// Lines that are no record; there must be none.
    pub bad_lines: Vec<String>,
}

impl Seen {
    pub fn add(&mut self, other: Self) {
        self.connections += other.connections;
        self.lines += other.lines;
        self.lost += other.lost;
        self.bad_lines.extend(other.bad_lines);
    }
}

trait Stream: Read + Send {}
impl Stream for UnixStream {}
impl Stream for TcpStream {}

struct Client {
    habit: Habit,
    stream: Option<Box<dyn Stream>>,
    /// Then it goes, and comes again.
    ticks_left: u64,
    line: Vec<u8>,
}

/// Where clients connect.
#[derive(Debug, Clone, Copy)]
enum Door {
    Records,
    Net,
    Debug,
}

const CLIENTS: [(Door, Habit); 14] = [
    (Door::Records, Habit::KeepsUp),
    (Door::Records, Habit::Slow),
    (Door::Records, Habit::Slow),
    (Door::Records, Habit::NeverReads),
    (Door::Records, Habit::NeverReads),
    (Door::Records, Habit::NeverReads),
    (Door::Records, Habit::Vanishes),
    (Door::Records, Habit::Vanishes),
    (Door::Net, Habit::KeepsUp),
    (Door::Net, Habit::Slow),
    (Door::Net, Habit::NeverReads),
    (Door::Net, Habit::Vanishes),
    (Door::Debug, Habit::Vanishes),
    (Door::Debug, Habit::NeverReads),
];

/// All clients, until `over`.
pub fn disturb(stage: &Stage, dice: &mut Dice, over: &AtomicBool) -> Seen {
    let mut seen = Seen::default();
    let mut clients = CLIENTS.map(|(door, habit)| {
        (door, Client { habit, stream: None, ticks_left: dice.below(20) as u64, line: Vec::new() })
    });
    while !over.load(Ordering::Relaxed) {
        for (door, client) in &mut clients {
            client.tick(*door, stage, dice, &mut seen);
        }
        pause(TICK);
    }
    seen
}

fn connect(door: Door, stage: &Stage) -> std::io::Result<Box<dyn Stream>> {
    let unix = |path: &Path| -> std::io::Result<Box<dyn Stream>> {
        let stream = UnixStream::connect(path)?;
        stream.set_nonblocking(true)?;
        Ok(Box::new(stream))
    };
    match door {
        Door::Records => unix(&stage.folder.join("records.sock")),
        Door::Debug => unix(&stage.folder.join("debug.sock")),
        Door::Net => {
            let stream = TcpStream::connect(("127.0.0.1", stage.tcp_port))?;
            stream.set_nonblocking(true)?;
            Ok(Box::new(stream))
        }
    }
}

impl Client {
    fn tick(&mut self, door: Door, stage: &Stage, dice: &mut Dice, seen: &mut Seen) {
        if self.ticks_left == 0 {
            self.stream = match self.stream.take() {
                Some(_leaves) if self.habit != Habit::KeepsUp => None,
                _ => connect(door, stage).ok(),
            };
            self.line.clear();
            if self.stream.is_some() {
                seen.connections += 1;
            }
            self.ticks_left = match self.habit {
                Habit::Vanishes => dice.below(6) as u64,
                Habit::KeepsUp | Habit::Slow | Habit::NeverReads => 100 + dice.below(300) as u64,
            };
            return;
        }
        self.ticks_left -= 1;
        let bytes = match self.habit {
            Habit::KeepsUp => usize::MAX,
            Habit::Slow => SIP_BYTES,
            Habit::Vanishes if matches!(door, Door::Records | Door::Net) => SIP_BYTES,
            Habit::Vanishes | Habit::NeverReads => 0,
        };
        self.read(bytes, seen);
    }

    fn read(&mut self, mut bytes: usize, seen: &mut Seen) {
        let mut buffer = [0; 4096];
        while let (Some(stream), true) = (&mut self.stream, bytes > 0) {
            let room = bytes.min(buffer.len());
            match stream.read(&mut buffer[..room]) {
                Ok(0) => self.stream = None,
                Ok(count) => {
                    bytes -= count;
                    self.take(&buffer[..count], seen);
                }
                Err(error) if error.kind() == ErrorKind::WouldBlock => return,
                Err(_) => self.stream = None,
            }
        }
    }

    fn take(&mut self, bytes: &[u8], seen: &mut Seen) {
        for &byte in bytes {
            if byte != b'\n' {
                self.line.push(byte);
                if self.line.len() < LINE_BYTES_MAX {
                    continue;
                }
            }
            match serde_json::from_slice::<serde_json::Value>(&self.line) {
                Ok(record) if record["schema"] == "watchpost/1" => {
                    seen.lines += 1;
                    if record["type"] == "lost" {
                        seen.lost += record["records"].as_u64().unwrap_or(1);
                    }
                }
                _ if seen.bad_lines.len() < 10 => {
                    seen.bad_lines.push(String::from_utf8_lossy(&self.line).into_owned());
                }
                _ => {}
            }
            self.line.clear();
        }
    }
}
