//! The ways in which a test camera can misbehave.

use std::str::FromStr;
use std::time::Duration;

/// One way to misbehave. At most one is active; it lasts until the camera is healed or told another one.
///
/// "Existing" means a connection that is open when the fault is injected, "new" one that is made while it
/// lasts. Where the text says "TCP only" the fault needs RTP interleaved in the RTSP connection: with UDP
/// transport the media do not pass the relay that makes the fault.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fault {
    /// A hung camera: no more media and no more RTSP answers, but every connection stays open. New TCP
    /// connections are accepted and get no answer. After healing, existing sessions go on where the client
    /// still waits.
    StopSending,
    /// No more RTP, while RTSP requests (keep-alives, also new sessions) are still answered. RTCP sender
    /// reports may still come. Over UDP and over TLS a new session may see the packets of one picture.
    KeepaliveOnly,
    /// The same picture again and again; timestamps and sequence numbers go on.
    FrozenPicture,
    /// Pictures go on, but every RTP packet carries the same RTP timestamp.
    FrozenTimestamps,
    /// Every connection is closed in order (FIN); new ones are refused (ECONNREFUSED).
    Close,
    /// The camera is gone without a word, like a pulled cable: existing connections stay open and silent for
    /// ever, also after healing; new ones get no answer to their SYN. UDP media stop too.
    Vanish,
    /// A box in between has lost its table, as NAT routers do: existing connections stay open and silent for ever,
    /// in both directions and also after healing; new ones are served. TCP only.
    Forget,
    /// Existing connections are reset (RST), as by a camera that was started anew and knows nothing of them; new
    /// ones are served. TCP only.
    Reset,
    /// Existing connections are closed (FIN); new ones are accepted and never answered, also not after
    /// healing.
    AcceptSilent,
    /// Random bytes in place of everything that the camera sends over TCP, RTSP answers included, for
    /// existing and new connections. Existing ones have lost their framing and stay broken after healing.
    /// With UDP: RTP packets with a valid header and a random payload.
    Garbage {
        /// Seed of the random bytes.
        seed: u64,
    },
    /// Valid RTP whose payload has flipped bits (about one byte in 200): decoders report errors or show
    /// broken pictures.
    CorruptPayload {
        /// Seed that says which bits are flipped.
        seed: u64,
    },
    /// The stream changes its picture size, with new parameter sets in band and no new SDP. Healing changes
    /// it back.
    ResolutionChange {
        /// New width in pixels, a multiple of 8.
        width: u32,
        /// New height in pixels, even.
        height: u32,
    },
    /// Existing connections are closed; every request that needs authentication is answered 401, whatever
    /// the credentials. A camera without credentials asks for some.
    RefuseCredentials,
    /// A new connection is served as usual, but its RTP comes only after this long, counted from the
    /// connect. Existing sessions notice nothing. Over UDP and TLS it is counted from the moment when the
    /// first of several simultaneous clients comes.
    SlowStart {
        /// How long the first media take.
        delay: Duration,
    },
}

/// Names, arguments and effects of all faults, for help texts: (usage, what the client sees).
pub const FAULTS: [(&str, &str); 14] = [
    ("stop-sending", "media and RTSP answers stop, connections stay open: a hung camera"),
    ("keepalive-only", "no RTP, but RTSP requests and keep-alives are still answered"),
    ("frozen-picture", "the same picture is repeated; timestamps run on"),
    ("frozen-timestamps", "pictures go on; every packet has the same RTP timestamp"),
    ("close", "connections end with FIN; new ones are refused until healed"),
    (
        "vanish",
        "no FIN: existing connections are silent for ever, also after heal; \
         new ones get no answer to their SYN until healed",
    ),
    ("forget", "existing connections are silent for ever, as after a NAT timeout; new ones are served"),
    (
        "reset",
        "existing connections are reset (RST), as by a camera that was started anew; new ones are served",
    ),
    ("accept-silent", "connections end with FIN; new ones are accepted and never answered"),
    ("garbage [SEED]", "random bytes in place of RTP and RTSP answers; new connections too"),
    ("corrupt-payload [SEED]", "valid RTP headers, payload with flipped bits"),
    (
        "resolution-change [WxH]",
        "the stream changes its size without closing (to 320x176 if not told); heal changes it back",
    ),
    ("refuse-credentials", "connections end with FIN; every authentication is answered 401 until healed"),
    ("slow-start [5s]", "the first media of a new connection come only after this long"),
];

impl Fault {
    /// The name in kebab-case, as on the command line.
    pub fn name(&self) -> &'static str {
        match self {
            Self::StopSending => "stop-sending",
            Self::KeepaliveOnly => "keepalive-only",
            Self::FrozenPicture => "frozen-picture",
            Self::FrozenTimestamps => "frozen-timestamps",
            Self::Close => "close",
            Self::Vanish => "vanish",
            Self::Forget => "forget",
            Self::Reset => "reset",
            Self::AcceptSilent => "accept-silent",
            Self::Garbage { .. } => "garbage",
            Self::CorruptPayload { .. } => "corrupt-payload",
            Self::ResolutionChange { .. } => "resolution-change",
            Self::RefuseCredentials => "refuse-credentials",
            Self::SlowStart { .. } => "slow-start",
        }
    }

    /// Whether it is made by the relay: only cameras on 127.0.0.1 can have it.
    pub fn is_of_connections(&self) -> bool {
        !matches!(
            self,
            Self::FrozenPicture
                | Self::FrozenTimestamps
                | Self::CorruptPayload { .. }
                | Self::ResolutionChange { .. }
        )
    }

    /// One of each kind, with usual arguments: for tests that go through all of them. `ResolutionChange`
    /// goes to 320x176.
    pub fn all() -> [Self; 14] {
        [
            Self::StopSending,
            Self::KeepaliveOnly,
            Self::FrozenPicture,
            Self::FrozenTimestamps,
            Self::Close,
            Self::Vanish,
            Self::Forget,
            Self::Reset,
            Self::AcceptSilent,
            Self::Garbage { seed: 1 },
            Self::CorruptPayload { seed: 1 },
            Self::ResolutionChange { width: 320, height: 176 },
            Self::RefuseCredentials,
            Self::SlowStart { delay: Duration::from_secs(5) },
        ]
    }
}

impl FromStr for Fault {
    type Err = String;

    /// Reads `NAME [ARG]` as on the command line: `garbage 7`, `resolution-change 320x176`, `slow-start 3s`.
    fn from_str(text: &str) -> Result<Self, String> {
        let mut words = text.split_whitespace();
        let name = words.next().unwrap_or_default();
        let argument = words.next();
        if let Some(extra) = words.next() {
            return Err(format!("`{extra}` is one word too many; a fault takes at most one argument"));
        }
        let seed = || match argument {
            None => Ok(1),
            Some(text) => text.parse().map_err(|_| format!("`{text}` is not a seed; give a whole number")),
        };
        let fault = match name {
            "stop-sending" => Self::StopSending,
            "keepalive-only" => Self::KeepaliveOnly,
            "frozen-picture" => Self::FrozenPicture,
            "frozen-timestamps" => Self::FrozenTimestamps,
            "close" => Self::Close,
            "vanish" => Self::Vanish,
            "forget" => Self::Forget,
            "reset" => Self::Reset,
            "accept-silent" => Self::AcceptSilent,
            "garbage" => return Ok(Self::Garbage { seed: seed()? }),
            "corrupt-payload" => return Ok(Self::CorruptPayload { seed: seed()? }),
            "resolution-change" => {
                let (width, height) = parse_size(argument.unwrap_or("320x176"))?;
                return Ok(Self::ResolutionChange { width, height });
            }
            "refuse-credentials" => Self::RefuseCredentials,
            "slow-start" => return Ok(Self::SlowStart { delay: parse_duration(argument.unwrap_or("5s"))? }),
            other => {
                let names: Vec<_> = Self::all().iter().map(Self::name).collect();
                return Err(format!("the fault `{other}` is not known; use one of {}", names.join(", ")));
            }
        };
        match argument {
            Some(extra) => Err(format!("the fault `{name}` takes no argument, but got `{extra}`")),
            None => Ok(fault),
        }
    }
}

/// Reads `WIDTHxHEIGHT` in pixels.
pub fn parse_size(text: &str) -> Result<(u32, u32), String> {
    text.split_once('x')
        .and_then(|(width, height)| Some((width.parse().ok()?, height.parse().ok()?)))
        .ok_or_else(|| format!("`{text}` is not a size; write it as 320x176"))
}

/// Reads a duration with its unit, `ms`, `s` or `m`: `500ms`, `3s`, `1.5s`, `2m`; at most one day.
pub fn parse_duration(text: &str) -> Result<Duration, String> {
    let wrong = || format!("`{text}` is not a duration; write a number and its unit, as in 500ms, 3s or 2m");
    let unit_at = text.find(|c: char| c.is_ascii_alphabetic()).ok_or_else(wrong)?;
    let (number, unit) = text.split_at(unit_at);
    let seconds_per_unit = match unit {
        "ms" => 0.001,
        "s" => 1.0,
        "m" => 60.0,
        _ => return Err(wrong()),
    };
    let seconds = number.parse::<f64>().map_err(|_| wrong())? * seconds_per_unit;
    if !(0.0..=86_400.0).contains(&seconds) {
        return Err(format!("`{text}` is out of range; give at most one day"));
    }
    Ok(Duration::from_secs_f64(seconds))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_fault_is_listed_and_its_name_reads_back() {
        for (fault, (usage, _)) in Fault::all().iter().zip(FAULTS) {
            assert_eq!(usage.split_whitespace().next(), Some(fault.name()));
            assert_eq!(fault.name().parse::<Fault>().as_ref(), Ok(fault));
        }
    }

    #[test]
    fn arguments_are_read_and_wrong_ones_are_named() {
        assert_eq!("garbage 7".parse(), Ok(Fault::Garbage { seed: 7 }));
        assert_eq!("slow-start 250ms".parse(), Ok(Fault::SlowStart { delay: Duration::from_millis(250) }));
        assert_eq!(
            "resolution-change 640x480".parse(),
            Ok(Fault::ResolutionChange { width: 640, height: 480 })
        );
        for (text, named) in [
            ("clos", "`clos`"),
            ("close now", "`now`"),
            ("garbage x", "`x`"),
            ("slow-start 5", "`5`"),
            ("slow-start 1 2", "`2`"),
            ("resolution-change 640", "`640`"),
            ("slow-start -1s", "`-1s`"),
        ] {
            let error = text.parse::<Fault>().unwrap_err();
            assert!(error.contains(named), "{error}");
        }
    }
}
