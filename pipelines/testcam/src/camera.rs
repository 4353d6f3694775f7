//! The test camera as its users see it.

use std::fs::File;
use std::sync::atomic::Ordering::Relaxed;
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::Duration;

use gstreamer as gst;

use crate::damage::Damage;
use crate::feeder::Feeder;
use crate::options::check_size;
use crate::packets::{PacketFault, Packets};
use crate::picture::PictureSource;
use crate::relay::{Door, Manner, Relay, Traffic};
use crate::server::{MOUNT_POINT, Server};
use crate::{CameraOptions, Codec, Fault, TestCameraError, media, pace};

/// A running test camera. Dropping it closes every connection and stops every thread and pipeline.
pub struct TestCamera {
    // In the order in which they must stop: connections, then what serves them, then what films.
    relay: Option<Relay>,
    server: Server,
    feeder: Feeder,
    packets: Packets,
    state: Mutex<State>,
    codec: Codec,
    url: String,
}

struct State {
    fault: Option<Fault>,
    /// The size to go back to after a change of resolution.
    size: (u32, u32),
}

impl std::fmt::Debug for TestCamera {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("TestCamera").field("url", &self.url).field("stats", &self.stats()).finish()
    }
}

/// What a camera counted since its start.
#[derive(Debug, Clone, Copy, PartialEq, Eq, serde::Serialize)]
pub struct CameraStats {
    /// Pictures handed to the encoder, repeated ones (frozen picture) included.
    pub frames_sent: u64,
    /// Number that the next new picture will carry: numbers start at 0 and go on over all sessions.
    pub next_frame_number: u32,
    /// Pictures that were due while the encoder was still busy and therefore left out.
    pub frames_skipped: u64,
    /// Client connections that are served at the moment.
    pub clients: usize,
}

impl TestCamera {
    /// Starts a camera; it listens when this returns (unless it has a startup delay).
    ///
    /// # Errors
    /// Everything in [`TestCameraError`].
    pub fn start(options: CameraOptions) -> Result<Self, TestCameraError> {
        options.validate()?;
        gst::init().map_err(|error| TestCameraError::GStreamer(error.to_string()))?;
        media::check_elements(options.codec)?;
        let frame_log = options.frame_log.as_ref().map(|path| {
            File::create(path).map_err(|source| TestCameraError::FrameLog { path: path.clone(), source })
        });
        let pictures = PictureSource::open(&options.picture, options.codec)?;
        let size = pictures.size();
        let feeder = Feeder::start(pictures, frame_log.transpose()?)?;
        let packets = Packets::new();
        let server = Server::start(&options, feeder.shared(), &packets)?;
        let boot_until =
            (options.startup_delay > Duration::ZERO).then(|| pace::now() + options.startup_delay);
        let relay = options
            .has_relay()
            .then(|| {
                let manner = Manner { opaque: options.tls.is_some(), nagle: options.nagle };
                Relay::start(options.port, server.address(), manner, boot_until)
            })
            .transpose()
            .map_err(|source| TestCameraError::Port { port: options.port, source })?;
        let scheme = if options.tls.is_some() { "rtsps" } else { "rtsp" };
        let port = relay.as_ref().map_or(server.address().port(), Relay::port);
        let url = format!("{scheme}://{}:{port}{MOUNT_POINT}", options.address);
        let state = Mutex::new(State { fault: None, size });
        Ok(Self { relay, server, feeder, packets, state, codec: options.codec, url })
    }

    /// The camera's URL, without credentials.
    pub fn url(&self) -> &str {
        &self.url
    }

    /// Makes the camera misbehave from now on; a fault that was active before is healed first.
    ///
    /// # Errors
    /// `Options` when a change of resolution asks for a size that cannot be served, or when the fault is made by
    /// the relay and the camera has none; `GStreamer` when another codec cannot be made; the camera then stays as it is.
    pub fn inject(&self, fault: Fault) -> Result<(), TestCameraError> {
        if let Fault::ResolutionChange { width, height } = fault {
            check_size(width, height, self.codec)?;
        }
        let foreign = match fault {
            Fault::ForeignCodec { codec } => Arc::new(self.server.foreign_payloads(codec)?),
            Fault::CodecChange { codec } => media::check_elements(codec).map(|()| Arc::default())?,
            _ => Arc::default(),
        };
        let relay = match &self.relay {
            None if fault.is_of_connections() => return Err(no_relay(fault)),
            relay => relay.as_ref(),
        };
        let mut state = self.state();
        self.heal_from(&mut state);
        state.fault = Some(fault);
        let packets = &self.packets;
        let damage = |damage, seed| packets.set(Some(PacketFault::Damage { damage, seed }));
        match (fault, relay) {
            (Fault::FrozenPicture, _) => self.feeder.shared().freeze(true),
            (Fault::FrozenTimestamps, _) => packets.set(Some(PacketFault::FreezeTimestamps)),
            (Fault::CorruptPayload { seed }, _) => packets.set(Some(PacketFault::Corrupt { seed })),
            (Fault::ResolutionChange { width, height }, _) => self.feeder.shared().set_size((width, height)),
            (Fault::BrokenHeaders { seed }, _) => damage(Damage::Headers, seed),
            (Fault::BrokenSlices { seed }, _) => damage(Damage::Slices, seed),
            (Fault::CutUnits { seed }, _) => damage(Damage::Cuts, seed),
            (Fault::AbsurdSize { width, height }, _) => damage(Damage::Size(width, height), 0),
            (Fault::TimestampJump { seconds }, _) => packets.set(Some(PacketFault::Shift { seconds })),
            (Fault::ForeignCodec { .. }, _) => packets.set(Some(PacketFault::Foreign { payloads: foreign })),
            (Fault::CodecChange { codec }, Some(relay)) => {
                self.server.set_codec(Some(codec))?;
                relay.close_all();
            }
            (_, Some(relay)) => self.trouble_connections(fault, relay),
            (_, None) => {}
        }
        Ok(())
    }

    /// The faults that clients meet at the relay.
    fn trouble_connections(&self, fault: Fault, relay: &Relay) {
        let packets = &self.packets;
        match fault {
            Fault::StopSending => {
                relay.set_traffic(Traffic::Swallow);
                packets.set(Some(PacketFault::Withhold));
            }
            Fault::KeepaliveOnly => {
                relay.set_traffic(Traffic::NoRtp);
                packets.set(Some(PacketFault::Withhold));
            }
            Fault::Close => {
                relay.set_door(Door::Refuse);
                relay.close_all();
            }
            Fault::Vanish => {
                relay.set_door(Door::Mute);
                relay.abandon_all();
                packets.set(Some(PacketFault::Withhold));
            }
            Fault::Forget => relay.abandon_all(),
            Fault::Reset => relay.reset_all(),
            Fault::AcceptSilent => {
                relay.set_silent(true);
                relay.close_all();
            }
            Fault::Garbage { seed } => {
                relay.set_traffic(Traffic::Garble { seed });
                packets.set(Some(PacketFault::Scramble { seed }));
            }
            Fault::RefuseCredentials => {
                self.server.refuse_credentials(true);
                relay.close_all();
            }
            Fault::SlowStart { delay } => {
                let since = pace::now();
                relay.set_traffic(Traffic::SlowStart { delay, since });
                packets.set(Some(PacketFault::SlowStart { delay, since }));
            }
            Fault::BrokenPackets { seed } => relay.set_traffic(Traffic::BreakPackets { seed }),
            Fault::LyingReports { seed } => relay.set_traffic(Traffic::Lie { seed }),
            // Those of the stream itself.
            _ => {}
        }
    }

    /// Ends the active fault, if any. New connections are served again when this returns.
    pub fn heal(&self) {
        self.heal_from(&mut self.state());
    }

    /// The fault that is active.
    pub fn fault(&self) -> Option<Fault> {
        self.state().fault
    }

    fn heal_from(&self, state: &mut State) {
        let fault = state.fault.take();
        if let Some(Fault::CodecChange { .. }) = fault {
            // Its own codec could be served before, so it can be again.
            let _served = self.server.set_codec(None);
            if let Some(relay) = &self.relay {
                relay.close_all();
            }
        }
        if fault.is_some() {
            self.feeder.shared().freeze(false);
            self.feeder.shared().set_size(state.size);
            self.packets.set(None);
            self.server.refuse_credentials(false);
            if let Some(relay) = &self.relay {
                relay.set_traffic(Traffic::Pass);
                relay.set_silent(false);
                relay.set_door(Door::Open);
            }
        }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(|poisoned| poisoned.into_inner())
    }

    /// Changes the size of the stream for good, without closing anything.
    ///
    /// # Errors
    /// `Options` when this size cannot be served.
    pub fn set_resolution(&self, width: u32, height: u32) -> Result<(), TestCameraError> {
        check_size(width, height, self.codec)?;
        self.state().size = (width, height);
        self.feeder.shared().set_size((width, height));
        Ok(())
    }

    /// Width and height of the pictures, in pixels.
    pub fn resolution(&self) -> (u32, u32) {
        self.feeder.shared().size()
    }

    /// Pictures handed to the encoder since the start.
    pub fn frames_sent(&self) -> u64 {
        self.stats().frames_sent
    }

    /// Client connections that are served at the moment.
    pub fn clients(&self) -> usize {
        self.stats().clients
    }

    /// All counters at once.
    pub fn stats(&self) -> CameraStats {
        let feeder = self.feeder.shared();
        CameraStats {
            frames_sent: feeder.frames_sent.load(Relaxed),
            next_frame_number: feeder.next_number.load(Relaxed),
            frames_skipped: feeder.frames_skipped.load(Relaxed),
            clients: self.relay.as_ref().map_or_else(|| self.server.clients(), Relay::clients),
        }
    }
}

fn no_relay(fault: Fault) -> TestCameraError {
    TestCameraError::Options(format!(
        "the fault {} is made by the relay, which only cameras on 127.0.0.1 have",
        fault.name()
    ))
}
