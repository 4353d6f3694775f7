//! Connects once and tells what is there.

use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use gstreamer as gst;
use gstreamer::prelude::*;

use crate::failure::{Failure, FailureClass};
use crate::frame::{Frame, PixelFormat};
use crate::outlet::{Event, Receiver, SourceInfo};
use crate::pipeline::{LOOK_INTERVAL, Pipeline};
use crate::spec::{DecoderChoice, SourceKind, Spec, Transport};

/// Frames that the rate is measured over where the stream does not declare one.
const MEASURED_FRAMES: usize = 12;

/// Longest wait for those frames once the first one is there.
const MEASURED_FOR: Duration = Duration::from_secs(2);

/// What a source turned out to be.
#[derive(Debug, Clone, PartialEq)]
pub struct ProbeReport {
    /// `"H.264"`, …; `None` for raw pictures.
    pub codec: Option<String>,
    /// Pixels.
    pub width: u32,
    /// Pixels.
    pub height: u32,
    /// Frames a second: what the stream declares, else what was measured over the first frames.
    pub fps: Option<f64>,
    /// The decoding element.
    pub decoder: Option<String>,
    /// Format of the decoded picture.
    pub format: PixelFormat,
    /// In GStreamer's notation, for example `"bt709"`.
    pub colorimetry: Option<String>,
    /// RTSP lower transport; `None` for other sources.
    pub transport: Option<Transport>,
    /// From the start of connecting to the first decoded frame.
    pub time_to_first_frame: Duration,
}

/// Connects, waits for the first frames, and takes everything down again; once more with the CPU if a hardware decoder
/// does not work that nobody asked for by name.
///
/// # Errors
/// What the source said, or [`FailureClass::Timeout`] when no frame came within `timeout`.
pub fn probe(spec: &Spec, timeout: Duration) -> Result<ProbeReport, Failure> {
    let failure = match probe_once(spec, timeout) {
        Err(failure)
            if failure.class == FailureClass::HardwareDecoder && spec.decoder == DecoderChoice::Auto =>
        {
            failure
        }
        result => return result,
    };
    tracing::warn!("the CPU decodes it: {failure}");
    probe_once(&Spec { decoder: DecoderChoice::Software, ..spec.clone() }, timeout)
}

fn probe_once(spec: &Spec, timeout: Duration) -> Result<ProbeReport, Failure> {
    crate::init().map_err(|error| crate::StartError::from(error).into_failure())?;
    let clock = gst::SystemClock::obtain();
    let started = clock.time();
    let witness = Arc::new(Witness { clock, seen: Mutex::default(), changed: Condvar::new() });
    let pipeline =
        Pipeline::start(spec, "probe", witness.clone()).map_err(crate::StartError::into_failure)?;
    let first = witness.wait_for_first(&pipeline, timeout);
    let Some(first_at) = first.first.as_ref().map(|first| first.at) else {
        return Err(first.end.clone().unwrap_or_else(|| {
            Failure::new(
                FailureClass::Timeout,
                format!("no frame came within {:.1} s", timeout.as_secs_f64()),
            )
        }));
    };
    let declared = first.info.declared_fps;
    drop(first);
    if declared.is_none() {
        drop(witness.wait(MEASURED_FOR, |seen| seen.pts_ns.len() >= MEASURED_FRAMES || seen.end.is_some()));
    }
    pipeline.stop();
    let seen = witness.seen();
    let first =
        seen.first.as_ref().ok_or_else(|| Failure::new(FailureClass::Other, "the first frame is gone"))?;
    Ok(ProbeReport {
        codec: seen.info.codec.clone(),
        width: first.width,
        height: first.height,
        fps: declared.or_else(|| measured_fps(&seen.pts_ns)),
        decoder: seen.info.decoder.clone(),
        format: first.format,
        colorimetry: seen.info.colorimetry.clone(),
        transport: matches!(spec.kind, SourceKind::Rtsp { .. }).then_some(spec.transport),
        time_to_first_frame: Duration::from_nanos(first_at.saturating_sub(started).nseconds()),
    })
}

/// Frames a second from the times of successive frames, in nanoseconds.
fn measured_fps(pts_ns: &[u64]) -> Option<f64> {
    let (first, last) = (pts_ns.first()?, pts_ns.last()?);
    let seconds = last.checked_sub(*first).filter(|&span| span > 0)? as f64 / 1e9;
    Some((pts_ns.len() - 1) as f64 / seconds)
}

struct First {
    at: gst::ClockTime,
    width: u32,
    height: u32,
    format: PixelFormat,
}

#[derive(Default)]
struct Seen {
    info: SourceInfo,
    first: Option<First>,
    pts_ns: Vec<u64>,
    end: Option<Failure>,
}

/// Remembers what the first frames were like.
struct Witness {
    clock: gst::Clock,
    seen: Mutex<Seen>,
    changed: Condvar,
}

impl Witness {
    fn seen(&self) -> MutexGuard<'_, Seen> {
        self.seen.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Until there is a frame, or an end, or `timeout` has passed.
    fn wait_for_first(&self, pipeline: &Pipeline, timeout: Duration) -> MutexGuard<'_, Seen> {
        let is_decided = |seen: &Seen| seen.first.is_some() || seen.end.is_some();
        let mut left = timeout;
        loop {
            let step = left.min(LOOK_INTERVAL);
            let seen = self.wait(step, is_decided);
            left -= step;
            if left.is_zero() || is_decided(&seen) {
                return seen;
            }
            drop(seen);
            pipeline.look_for_life(step);
        }
    }

    fn wait(&self, timeout: Duration, enough: impl Fn(&Seen) -> bool) -> MutexGuard<'_, Seen> {
        let waited = self.changed.wait_timeout_while(self.seen(), timeout, |seen| !enough(seen));
        waited.unwrap_or_else(PoisonError::into_inner).0
    }
}

impl Receiver for Witness {
    fn frame(&self, frame: Frame) {
        let mut seen = self.seen();
        seen.first.get_or_insert_with(|| First {
            at: self.clock.time(),
            width: frame.width(),
            height: frame.height(),
            format: frame.format(),
        });
        if seen.pts_ns.len() < MEASURED_FRAMES {
            seen.pts_ns.extend(frame.pts_ns());
        }
        drop(seen);
        self.changed.notify_all();
    }

    fn event(&self, event: Event) {
        let mut seen = self.seen();
        match event {
            Event::SourceInfo(info) => seen.info = info,
            Event::Error(failure) => seen.end = Some(failure),
            Event::Eos => {
                let ended = Failure::new(FailureClass::NoVideo, "the source ended before its first frame");
                seen.end.get_or_insert(ended);
            }
            Event::Warning(_) => {}
        }
        drop(seen);
        self.changed.notify_all();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_rate_is_frames_over_their_span() {
        let fps = measured_fps(&[1_000_000_000, 1_040_000_000, 1_080_000_000]).unwrap();
        assert!((fps - 25.0).abs() < 1e-9);
        assert_eq!(measured_fps(&[5]), None);
        assert_eq!(measured_fps(&[5, 5]), None);
    }
}
