//! PURE: has the picture stood still, although timestamps run?
//!
//! A grid of 64 x 64 luma samples is compared with the grid at the last change. An encoder that repeats a
//! picture still re-quantises it at every keyframe, so single steps up to [`STEP`] do not count as a change,
//! nor do up to [`STRAYS`] samples beyond it. A person of 30 x 80 pixels in 640 x 360 covers about 40 samples.
//!
//! Where bits are short that is not enough: x264 at 300 kbit/s makes 15 samples of a standing picture jump by up to
//! 40 at a keyframe, and back with the next picture. So a change counts when two pictures in a row differ.

use std::time::{Duration, Instant};

use watchpost_cuda::{CudaError, DevicePicture, Gpu};

use super::preprocess::{THUMBNAIL_SIDE, Thumbnail};
use super::{Layout, Picture};

const GRID: usize = THUMBNAIL_SIDE;
/// Largest difference of a sample that re-encoding explains, in code values.
const STEP: u8 = 16;
/// Samples that may differ by more.
const STRAYS: usize = 4;

/// Watches one camera's pictures.
#[derive(Debug)]
pub struct FreezeWatch {
    timeout: Duration,
    reference: Box<[u8]>,
    changed_at: Option<Instant>,
    /// The newest picture differs, and the one before it did not.
    differs_since: Option<Instant>,
    /// Made with the first picture that is in device memory.
    thumbnail: Option<Thumbnail>,
}

impl FreezeWatch {
    /// A picture that does not change for `timeout` is frozen.
    pub fn new(timeout: Duration) -> Self {
        Self {
            timeout,
            reference: vec![0; GRID * GRID].into_boxed_slice(),
            changed_at: None,
            differs_since: None,
            thumbnail: None,
        }
    }

    /// Looks at a picture that arrived at `at`; true if it has been the same for the timeout.
    pub fn is_frozen(&mut self, picture: &Picture<'_>, at: Instant) -> bool {
        self.look(samples(picture), at)
    }

    /// The same for a picture in this GPU's memory.
    ///
    /// # Errors
    /// [`CudaError`]
    pub fn is_frozen_on(
        &mut self,
        gpu: &Gpu,
        picture: &DevicePicture<'_>,
        at: Instant,
    ) -> Result<bool, CudaError> {
        let mut thumbnail = match self.thumbnail.take() {
            Some(thumbnail) => thumbnail,
            None => Thumbnail::new(gpu)?,
        };
        let frozen = thumbnail.samples(picture).map(|samples| self.look(samples, at));
        self.thumbnail = Some(thumbnail);
        frozen
    }

    fn look(&mut self, samples: impl Iterator<Item = u8> + Clone, at: Instant) -> bool {
        let pairs = samples.clone().zip(self.reference.iter());
        let differing = pairs.filter(|&(now, &then)| now.abs_diff(then) > STEP).count();
        let Some(changed_at) = self.changed_at else {
            self.remember(samples, at);
            return false;
        };
        if differing <= STRAYS {
            self.differs_since = None;
            return at.saturating_duration_since(changed_at) >= self.timeout;
        }
        // The next picture will tell what this one is.
        match self.differs_since.take() {
            None => self.differs_since = Some(at),
            Some(since) => self.remember(samples, since),
        }
        false
    }

    fn remember(&mut self, samples: impl Iterator<Item = u8>, changed_at: Instant) {
        self.reference.iter_mut().zip(samples).for_each(|(then, now)| *then = now);
        self.changed_at = Some(changed_at);
    }

    /// Forgets what it saw: another opening begins.
    pub fn reset(&mut self) {
        self.changed_at = None;
        self.differs_since = None;
    }
}

/// The luma at the centres of a 64 x 64 grid, row by row.
fn samples<'a>(picture: &Picture<'a>) -> impl Iterator<Item = u8> + Clone + use<'a> {
    let (y, step, first) = match picture.layout {
        Layout::Planar { y, .. } | Layout::Nv12 { y, .. } | Layout::Gray { y } => (y, 1, 0),
        // Green is most of what luma is.
        Layout::Rgb { rgb } => (rgb, 3, 1),
    };
    let (width, height) = (picture.width as usize, picture.height as usize);
    let centre = |index: usize, size: usize| (2 * index + 1) * size / (2 * GRID);
    (0..GRID * GRID).map(move |i| {
        let (row, column) = (centre(i / GRID, height), centre(i % GRID, width));
        y.data.get(row * y.stride_bytes + column * step + first).copied().unwrap_or(0)
    })
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;
    use crate::source::{MemoryFrame, MemoryPicture};

    fn frame(draw: impl Fn(usize) -> u8) -> MemoryFrame {
        let mut picture = MemoryPicture::new(640, 360);
        for (i, sample) in picture.i420_mut().iter_mut().enumerate() {
            *sample = draw(i);
        }
        MemoryFrame::new(Arc::new(picture), 0)
    }

    fn texture(i: usize) -> u8 {
        (i * 31 % 97) as u8 + 60
    }

    #[test]
    fn the_same_picture_is_frozen_after_the_timeout_and_not_before() {
        let start = crate::clock::now();
        let mut watch = FreezeWatch::new(Duration::from_secs(5));
        let still = frame(texture);
        assert!(!watch.is_frozen(&still.picture(), start));
        assert!(!watch.is_frozen(&still.picture(), start + Duration::from_millis(4999)));
        assert!(watch.is_frozen(&still.picture(), start + Duration::from_secs(5)));
        watch.reset();
        assert!(!watch.is_frozen(&still.picture(), start + Duration::from_secs(6)));
    }

    #[test]
    fn requantising_is_not_a_change_but_a_person_is() {
        let start = crate::clock::now();
        let mut watch = FreezeWatch::new(Duration::from_secs(5));
        assert!(!watch.is_frozen(&frame(texture).picture(), start));
        let requantised = frame(|i| texture(i) + (i % 7) as u8);
        assert!(watch.is_frozen(&requantised.picture(), start + Duration::from_secs(6)));
        let person = frame(|i| {
            let (x, y) = (i % 640, i / 640);
            if (300..330).contains(&x) && (100..180).contains(&y) { 235 } else { texture(i) }
        });
        assert!(!watch.is_frozen(&person.picture(), start + Duration::from_secs(7)));
        let walked_on = frame(|i| {
            let (x, y) = (i % 640, i / 640);
            if (310..340).contains(&x) && (100..180).contains(&y) { 235 } else { texture(i) }
        });
        let second = |after| start + Duration::from_secs(after);
        assert!(!watch.is_frozen(&walked_on.picture(), second(8)));
        assert!(!watch.is_frozen(&walked_on.picture(), second(11)), "it changed with the first of the two");
        assert!(watch.is_frozen(&walked_on.picture(), second(12)));
    }

    #[test]
    fn a_picture_that_jumps_at_every_keyframe_and_back_is_frozen() {
        let start = crate::clock::now();
        let mut watch = FreezeWatch::new(Duration::from_secs(2));
        let still = frame(texture);
        let keyframe = frame(|i| texture(i).saturating_add(if i % 640 < 60 { 40 } else { 0 }));
        let mut frozen = None;
        for number in 0..40 {
            let at = start + Duration::from_millis(100 * number);
            let picture = if number % 5 == 0 { &keyframe } else { &still };
            if watch.is_frozen(&picture.picture(), at) {
                frozen.get_or_insert(number);
            }
        }
        // The first one was a keyframe: the second picture is the first that was seen twice.
        assert_eq!(frozen, Some(21));
    }
}
