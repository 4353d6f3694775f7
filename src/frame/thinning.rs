//! PURE: which coded pictures of a camera are decoded, as `decode` and `detect_fps` have it.
//!
//! | `decode`    | decoded                                                                                        |
//! |-------------|------------------------------------------------------------------------------------------------|
//! | `all`       | every picture                                                                                  |
//! | `reference` | pictures that others need, and those that need none                                            |
//! | `keyframes` | pictures that need no other                                                                    |
//! | `lazy`      | as `auto` while the camera is awake; see `lazy.rs`                                             |
//! | `auto`      | the least of these three that still gives `detect_fps`, from the gaps that the stream has shown |

use std::time::{Duration, Instant};

use crate::config::Decode;
use crate::source::PictureKind;

/// Gaps that are remembered.
const GAPS: usize = 8;
/// Gaps before anything is concluded from them.
const GAPS_MIN: usize = 4;

/// How often pictures of some kind come.
#[derive(Debug, Clone, Default)]
struct Gaps {
    last: Option<Instant>,
    gaps: [Duration; GAPS],
    count: usize,
}

impl Gaps {
    fn saw(&mut self, at: Instant) {
        if let Some(last) = self.last.replace(at) {
            self.gaps[self.count % GAPS] = at.saturating_duration_since(last);
            self.count += 1;
        }
    }

    /// Whether one comes in every `interval`: on the average, and none much later. Networks deliver unevenly, and a picture a
    /// little late is the next turn's.
    fn suffice(&self, interval: Duration) -> bool {
        let known = &self.gaps[..self.count.min(GAPS)];
        if known.len() < GAPS_MIN {
            return false;
        }
        let sum: Duration = known.iter().sum();
        let longest = known.iter().max().copied().unwrap_or_default();
        sum <= interval.mul_f64(1.05 * known.len() as f64) && longest <= interval.mul_f64(1.5)
    }
}

/// What may be left out.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Level {
    Nothing,
    Disposable,
    AllButKeys,
}

/// Of one opening.
#[derive(Debug)]
pub struct Thinning {
    decode: Decode,
    interval: Option<Duration>,
    keys: Gaps,
    references: Gaps,
    level: Level,
}

impl Thinning {
    /// `interval` from one wanted detection to the next; `None`: every frame is wanted.
    pub fn new(decode: Decode, interval: Option<Duration>) -> Self {
        let level = match decode {
            Decode::Auto | Decode::Lazy | Decode::All => Level::Nothing,
            Decode::Reference => Level::Disposable,
            Decode::Keyframes => Level::AllButKeys,
        };
        Self { decode, interval, keys: Gaps::default(), references: Gaps::default(), level }
    }

    /// Whether the picture of this kind that arrived at `at` is to be decoded.
    pub fn wants(&mut self, kind: PictureKind, at: Instant) -> bool {
        if matches!(self.decode, Decode::Auto | Decode::Lazy) {
            self.learn(kind, at);
        }
        match self.level {
            Level::Nothing => true,
            Level::Disposable => kind != PictureKind::Disposable,
            Level::AllButKeys => kind == PictureKind::Key,
        }
    }

    /// Whether some are left out at present.
    pub fn leaves_out(&self) -> bool {
        self.level != Level::Nothing
    }

    fn learn(&mut self, kind: PictureKind, at: Instant) {
        let Some(interval) = self.interval else { return };
        if kind == PictureKind::Disposable {
            return;
        }
        self.references.saw(at);
        if kind == PictureKind::Key {
            self.keys.saw(at);
        }
        // A keyframe that is overdue has no gap yet.
        let is_overdue =
            self.keys.last.is_none_or(|last| at.saturating_duration_since(last) > interval.mul_f64(1.5));
        self.level = if self.keys.suffice(interval) && !is_overdue {
            Level::AllButKeys
        } else if self.references.suffice(interval) {
            Level::Disposable
        } else {
            Level::Nothing
        };
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Of a stream of 30 pictures a second, this pattern again and again for `seconds`: how many of each kind are decoded
    /// in its second half, a second.
    fn decoded(decode: Decode, detect_fps: Option<f64>, pattern: &str, seconds: u32) -> f64 {
        let start = crate::clock::now();
        let mut thinning = Thinning::new(decode, detect_fps.map(|fps| Duration::from_secs_f64(1.0 / fps)));
        let mut count = 0;
        for (index, one) in pattern.chars().cycle().take(30 * seconds as usize).enumerate() {
            // Packets come up to 9 ms early or late.
            let jitter = Duration::from_millis(index as u64 * 7919 % 19);
            let at = start + Duration::from_secs_f64(index as f64 / 30.0) + jitter;
            let kind = match one {
                'I' => PictureKind::Key,
                'P' => PictureKind::Reference,
                _ => PictureKind::Disposable,
            };
            count += u32::from(thinning.wants(kind, at) && 2 * index >= 30 * seconds as usize);
        }
        f64::from(count) / (f64::from(seconds) / 2.0)
    }

    /// One keyframe a second.
    fn gop(rest: &str) -> String {
        format!("I{}", rest.repeat(29 / rest.len() + 1).chars().take(29).collect::<String>())
    }

    #[test]
    fn what_is_asked_for_by_name_is_done() {
        let bpattern = gop("BBP");
        assert_eq!(decoded(Decode::All, Some(1.0), &bpattern, 60), 30.0);
        assert_eq!(decoded(Decode::Reference, None, &bpattern, 60), 10.0);
        assert_eq!(decoded(Decode::Keyframes, None, &bpattern, 60), 1.0);
    }

    #[test]
    fn auto_decodes_the_least_that_gives_the_rate() {
        assert_eq!(decoded(Decode::Auto, None, &gop("BBP"), 60), 30.0, "every frame is wanted");
        assert_eq!(decoded(Decode::Auto, Some(5.0), &gop("BBP"), 60), 10.0);
        assert_eq!(decoded(Decode::Auto, Some(10.0), &gop("BBP"), 60), 10.0);
        assert_eq!(decoded(Decode::Auto, Some(15.0), &gop("BBP"), 60), 30.0);
        assert_eq!(decoded(Decode::Auto, Some(5.0), &gop("P"), 60), 30.0, "nothing can be left out");
        assert_eq!(decoded(Decode::Auto, Some(1.0), &gop("P"), 60), 1.0);
        assert_eq!(decoded(Decode::Auto, Some(0.2), &gop("BBP"), 60), 1.0);
        assert_eq!(decoded(Decode::Auto, Some(2.0), &gop("BBP"), 60), 10.0);
    }

    #[test]
    fn a_stream_that_stops_sending_keyframes_is_decoded_again() {
        let start = crate::clock::now();
        let mut thinning = Thinning::new(Decode::Auto, Some(Duration::from_secs(1)));
        let at = |ms: u64| start + Duration::from_millis(ms);
        for second in 0..10 {
            thinning.wants(PictureKind::Key, at(1000 * second));
            thinning.wants(PictureKind::Reference, at(1000 * second + 500));
        }
        assert!(!thinning.wants(PictureKind::Reference, at(9_900)) && thinning.leaves_out());
        assert!(thinning.wants(PictureKind::Reference, at(11_000)));
    }
}
