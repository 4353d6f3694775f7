//! The ways in which a test camera can misbehave.

use std::str::FromStr;
use std::time::Duration;

use crate::Codec;

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
    /// RTP packets that break RFC 3550: other versions, payload types, sequence numbers, SSRCs and channels, lying
    /// padding, extensions and CSRC counts, empty, truncated, doubled and oversized packets. TCP only.
    BrokenPackets {
        /// Seed that says which packets are broken, and how.
        seed: u64,
    },
    /// RTCP sender reports with other wall clocks and RTP times, many more than usual, some malformed. TCP only.
    LyingReports {
        /// Seed of the lies.
        seed: u64,
    },
    /// Flipped bits in parameter sets (SPS, PPS, VPS); for MJPEG in the JPEG header and the tables.
    BrokenHeaders {
        /// Seed that says which bits are flipped.
        seed: u64,
    },
    /// Flipped bits (about one byte in 100) in slices; parameter sets and headers stay whole.
    BrokenSlices {
        /// Seed that says which bits are flipped.
        seed: u64,
    },
    /// Truncated NAL units; fragments lost, in another order, and lying about being the first or the last.
    CutUnits {
        /// Seed that says which units are cut.
        seed: u64,
    },
    /// Parameter sets in band announce this size, whatever the pictures are; 0 is cropped to nothing. For MJPEG the
    /// header of every packet does, up to 2040.
    AbsurdSize {
        /// Announced width in pixels.
        width: u32,
        /// Announced height in pixels.
        height: u32,
    },
    /// RTP timestamps are so many seconds ahead of (or, negative, behind) where they were. Healing jumps back.
    TimestampJump {
        /// Seconds ahead.
        seconds: i64,
    },
    /// Like a camera whose codec was changed in its settings: existing connections are closed, new ones get another SDP.
    /// Healing changes it back in the same way.
    CodecChange {
        /// What it sends instead.
        codec: Codec,
    },
    /// Payloads of another codec under the old SDP and payload type, in the running session.
    ForeignCodec {
        /// Whose payloads.
        codec: Codec,
    },
}

/// Names, arguments and effects of all faults, for help texts: (usage, what the client sees).
pub const FAULTS: [(&str, &str); FAULT_COUNT] = [
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
    ("broken-packets [SEED]", "RTP packets that break RFC 3550 (over TCP)"),
    ("lying-reports [SEED]", "RTCP sender reports with false clocks (over TCP)"),
    ("broken-headers [SEED]", "flipped bits in SPS, PPS and VPS; in JPEG headers and tables"),
    ("broken-slices [SEED]", "flipped bits in slices; parameter sets stay whole"),
    ("cut-units [SEED]", "truncated NAL units; fragments lost, out of order, lying"),
    (
        "absurd-size [WxH]",
        "parameter sets announce this size (16384x16384 if not told; 0x0 is nothing at all)",
    ),
    (
        "timestamp-jump [SECONDS]",
        "RTP timestamps jump this far (10800 if not told), or back; heal jumps back",
    ),
    (
        "codec-change [CODEC]",
        "connections end with FIN; new ones get this codec (h265 if not told) until healed",
    ),
    (
        "foreign-codec [CODEC]",
        "payloads of this codec (h265 if not told) in the running session, with the old SDP",
    ),
];

/// Ways to misbehave.
const FAULT_COUNT: usize = 23;

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
            Self::BrokenPackets { .. } => "broken-packets",
            Self::LyingReports { .. } => "lying-reports",
            Self::BrokenHeaders { .. } => "broken-headers",
            Self::BrokenSlices { .. } => "broken-slices",
            Self::CutUnits { .. } => "cut-units",
            Self::AbsurdSize { .. } => "absurd-size",
            Self::TimestampJump { .. } => "timestamp-jump",
            Self::CodecChange { .. } => "codec-change",
            Self::ForeignCodec { .. } => "foreign-codec",
        }
    }

    /// Whether it is what the stream says that is wrong, and not that it is silent, frozen, slow or gone.
    pub fn is_hostile(&self) -> bool {
        matches!(
            self,
            Self::BrokenPackets { .. }
                | Self::LyingReports { .. }
                | Self::BrokenHeaders { .. }
                | Self::BrokenSlices { .. }
                | Self::CutUnits { .. }
                | Self::AbsurdSize { .. }
                | Self::TimestampJump { .. }
                | Self::CodecChange { .. }
                | Self::ForeignCodec { .. }
        )
    }

    /// Whether it is made by the relay: only cameras on 127.0.0.1 can have it.
    pub fn is_of_connections(&self) -> bool {
        !matches!(
            self,
            Self::FrozenPicture
                | Self::FrozenTimestamps
                | Self::CorruptPayload { .. }
                | Self::ResolutionChange { .. }
                | Self::BrokenHeaders { .. }
                | Self::BrokenSlices { .. }
                | Self::CutUnits { .. }
                | Self::AbsurdSize { .. }
                | Self::TimestampJump { .. }
                | Self::ForeignCodec { .. }
        )
    }

    /// One of each kind, with usual arguments: for tests that go through all of them. `ResolutionChange`
    /// goes to 320x176.
    pub fn all() -> [Self; FAULT_COUNT] {
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
            Self::BrokenPackets { seed: 1 },
            Self::LyingReports { seed: 1 },
            Self::BrokenHeaders { seed: 1 },
            Self::BrokenSlices { seed: 1 },
            Self::CutUnits { seed: 1 },
            Self::AbsurdSize { width: 16384, height: 16384 },
            Self::TimestampJump { seconds: 10_800 },
            Self::CodecChange { codec: Codec::H265 },
            Self::ForeignCodec { codec: Codec::H265 },
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
            "garbage" => return Ok(Self::Garbage { seed: parse_seed(argument)? }),
            "corrupt-payload" => return Ok(Self::CorruptPayload { seed: parse_seed(argument)? }),
            "resolution-change" => {
                let (width, height) = parse_size(argument.unwrap_or("320x176"))?;
                return Ok(Self::ResolutionChange { width, height });
            }
            "refuse-credentials" => Self::RefuseCredentials,
            "slow-start" => return Ok(Self::SlowStart { delay: parse_duration(argument.unwrap_or("5s"))? }),
            other => return hostile(other, argument),
        };
        match argument {
            Some(extra) => Err(format!("the fault `{name}` takes no argument, but got `{extra}`")),
            None => Ok(fault),
        }
    }
}

/// Reads a fault of the stream's content; each takes an argument.
fn hostile(name: &str, argument: Option<&str>) -> Result<Fault, String> {
    let codec = || argument.unwrap_or("h265").parse();
    Ok(match name {
        "broken-packets" => Fault::BrokenPackets { seed: parse_seed(argument)? },
        "lying-reports" => Fault::LyingReports { seed: parse_seed(argument)? },
        "broken-headers" => Fault::BrokenHeaders { seed: parse_seed(argument)? },
        "broken-slices" => Fault::BrokenSlices { seed: parse_seed(argument)? },
        "cut-units" => Fault::CutUnits { seed: parse_seed(argument)? },
        "absurd-size" => {
            let (width, height) = parse_size(argument.unwrap_or("16384x16384"))?;
            Fault::AbsurdSize { width, height }
        }
        "timestamp-jump" => {
            let text = argument.unwrap_or("10800");
            let seconds = text.parse().map_err(|_| {
                format!("`{text}` is no number of seconds; write 10800 for three hours ahead, -600 for ten minutes back")
            })?;
            Fault::TimestampJump { seconds }
        }
        "codec-change" => Fault::CodecChange { codec: codec()? },
        "foreign-codec" => Fault::ForeignCodec { codec: codec()? },
        other => {
            let names: Vec<_> = Fault::all().iter().map(Fault::name).collect();
            return Err(format!("the fault `{other}` is not known; use one of {}", names.join(", ")));
        }
    })
}

fn parse_seed(argument: Option<&str>) -> Result<u64, String> {
    let Some(text) = argument else { return Ok(1) };
    text.parse().map_err(|_| format!("`{text}` is not a seed; give a whole number"))
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
        assert_eq!("absurd-size 2x2".parse(), Ok(Fault::AbsurdSize { width: 2, height: 2 }));
        assert_eq!("timestamp-jump -600".parse(), Ok(Fault::TimestampJump { seconds: -600 }));
        assert_eq!("codec-change mjpeg".parse(), Ok(Fault::CodecChange { codec: Codec::Mjpeg }));
        for (text, named) in [
            ("clos", "`clos`"),
            ("close now", "`now`"),
            ("garbage x", "`x`"),
            ("slow-start 5", "`5`"),
            ("slow-start 1 2", "`2`"),
            ("resolution-change 640", "`640`"),
            ("slow-start -1s", "`-1s`"),
            ("broken-headers x", "`x`"),
            ("absurd-size big", "`big`"),
            ("timestamp-jump 3h", "`3h`"),
            ("codec-change h266", "`h266`"),
        ] {
            let error = text.parse::<Fault>().unwrap_err();
            assert!(error.contains(named), "{error}");
        }
    }
}
