//! Where pictures come from: a rendered scene or a decoded clip.

use std::path::Path;
use std::time::Duration;

use gst::prelude::*;
use gstreamer as gst;
use gstreamer_app as gst_app;
use watchpost_scene::{Scene, SceneOptions, frame_bytes};

use crate::{Codec, Picture, TestCameraError, options};

/// How long a clip may take to show its first picture, or any later one.
const CLIP_PATIENCE: gst::ClockTime = gst::ClockTime::from_seconds(10);

/// Raw pictures, one after the other.
pub(crate) enum PictureSource {
    Scene { scene: Box<Scene>, options: SceneOptions },
    Clip(Clip),
}

/// One I420 picture with tightly packed planes and no timestamp.
#[derive(Clone)]
pub(crate) struct RawPicture {
    pub(crate) buffer: gst::Buffer,
    pub(crate) caps: gst::Caps,
}

impl PictureSource {
    pub(crate) fn open(picture: &Picture, codec: Codec) -> Result<Self, TestCameraError> {
        match *picture {
            Picture::Scene { seed, width, height, fps } => {
                let options = SceneOptions { seed, width, height, fps };
                Ok(Self::Scene { scene: Box::new(Scene::new(options)), options })
            }
            Picture::Clip { ref path, repeat } => Ok(Self::Clip(Clip::open(path, repeat, codec)?)),
        }
    }

    /// Frames per second as a fraction.
    pub(crate) fn rate(&self) -> gst::Fraction {
        match self {
            Self::Scene { options, .. } => gst::Fraction::new(options.fps as i32, 1),
            Self::Clip(clip) => clip.rate,
        }
    }

    /// Width and height in pixels.
    pub(crate) fn size(&self) -> (u32, u32) {
        match self {
            Self::Scene { options, .. } => (options.width, options.height),
            Self::Clip(clip) => clip.size,
        }
    }

    /// Makes the following pictures `width` x `height` pixels.
    pub(crate) fn set_size(&mut self, width: u32, height: u32) {
        match self {
            Self::Scene { scene, options } if (options.width, options.height) != (width, height) => {
                *options = SceneOptions { width, height, ..*options };
                **scene = Scene::new(*options);
            }
            Self::Scene { .. } => {}
            Self::Clip(clip) => clip.set_size(width, height),
        }
    }

    /// The next picture; a scene renders number `number`. `None` at the end of a clip that does not repeat.
    pub(crate) fn next(&mut self, number: u32) -> Option<RawPicture> {
        match self {
            Self::Scene { scene, options } => {
                let mut buffer = gst::Buffer::with_size(frame_bytes(options.width, options.height)).ok()?;
                {
                    let mut map = buffer.get_mut()?.map_writable().ok()?;
                    scene.render(number, &mut map);
                }
                let caps = picture_caps(options.width, options.height, Some(self.rate()));
                Some(RawPicture { buffer, caps })
            }
            Self::Clip(clip) => clip.next(),
        }
    }

    /// Starts a clip from its beginning.
    pub(crate) fn rewind(&mut self) {
        if let Self::Clip(clip) = self {
            clip.rewind();
        }
    }
}

/// Caps of a picture; the colours are BT.601 limited range, which is what the scene draws.
fn picture_caps(width: u32, height: u32, rate: Option<gst::Fraction>) -> gst::Caps {
    let caps = gst::Caps::builder("video/x-raw")
        .field("format", "I420")
        .field("width", width as i32)
        .field("height", height as i32)
        .field("pixel-aspect-ratio", gst::Fraction::new(1, 1));
    match rate {
        Some(rate) => caps
            .field("framerate", rate)
            .field("interlace-mode", "progressive")
            .field("colorimetry", "bt601")
            .build(),
        None => caps.build(),
    }
}

/// A file that is decoded as fast as its pictures are taken.
pub(crate) struct Clip {
    pipeline: gst::Pipeline,
    frames: gst_app::AppSink,
    size_filter: gst::Element,
    rate: gst::Fraction,
    size: (u32, u32),
    repeat: bool,
}

impl Clip {
    fn open(path: &Path, repeat: bool, codec: Codec) -> Result<Self, TestCameraError> {
        let failed = |reason: String| TestCameraError::Clip { path: path.to_owned(), reason };
        if !path.is_file() {
            return Err(failed("there is no such file".into()));
        }
        let pipeline = gst::parse::launch(
            "filesrc name=file ! decodebin ! videoconvert ! videoscale add-borders=false \
             ! capsfilter name=size caps=video/x-raw,format=I420 \
             ! appsink name=frames sync=false max-buffers=2",
        )
        .ok()
        .and_then(|element| element.downcast::<gst::Pipeline>().ok())
        .ok_or_else(|| failed("GStreamer's playback elements are missing".into()))?;
        let named = |name| pipeline.by_name(name).ok_or_else(|| failed(format!("no element {name}")));
        named("file")?.set_property("location", path);
        let frames = named("frames")?
            .downcast::<gst_app::AppSink>()
            .map_err(|_| failed("appsink has another type".into()))?;
        let size_filter = named("size")?;
        let mut clip =
            Self { pipeline, frames, size_filter, rate: gst::Fraction::new(25, 1), size: (0, 0), repeat };
        clip.preroll(codec).map_err(failed)?;
        Ok(clip)
    }

    /// Decodes the first picture to learn size and rate, then starts playing from the beginning at a size
    /// that can be served.
    fn preroll(&mut self, codec: Codec) -> Result<(), String> {
        self.pipeline.set_state(gst::State::Paused).map_err(|_| self.complaint())?;
        let bus = self.pipeline.bus().ok_or("the pipeline has no bus")?;
        let kinds = [gst::MessageType::Error, gst::MessageType::AsyncDone, gst::MessageType::Eos];
        match bus.timed_pop_filtered(CLIP_PATIENCE, &kinds) {
            Some(message) if message.type_() == gst::MessageType::AsyncDone => {}
            Some(message) => return Err(explain(&message)),
            None => return Err("no picture could be decoded within 10 s".into()),
        }
        let sample = self.frames.try_pull_preroll(CLIP_PATIENCE).ok_or("it has no video picture")?;
        let caps = sample.caps().ok_or("its pictures have no caps")?;
        let (natural, rate) = natural_format(caps).ok_or("its pictures have no size")?;
        let alignment = if codec == Codec::Mjpeg { 8 } else { 2 };
        let size = (natural.0 / 8 * 8, natural.1 / alignment * alignment);
        options::check_size(size.0, size.1, codec).map_err(|error| error.to_string())?;
        self.rate = rate;
        self.set_size(size.0, size.1);
        self.pipeline.set_state(gst::State::Playing).map_err(|_| self.complaint())?;
        self.rewind();
        Ok(())
    }

    /// What the pipeline's bus says about a failure.
    fn complaint(&self) -> String {
        let message = self.pipeline.bus().and_then(|bus| bus.pop_filtered(&[gst::MessageType::Error]));
        message.as_ref().map_or_else(|| "it cannot be decoded".into(), explain)
    }

    fn set_size(&mut self, width: u32, height: u32) {
        if self.size != (width, height) {
            self.size = (width, height);
            self.size_filter.set_property("caps", picture_caps(width, height, None));
        }
    }

    fn rewind(&mut self) {
        let from_start = gst::SeekFlags::FLUSH | gst::SeekFlags::KEY_UNIT;
        // A file that cannot seek plays on from where it is.
        let _ = self.pipeline.seek_simple(from_start, gst::ClockTime::ZERO);
    }

    fn next(&mut self) -> Option<RawPicture> {
        for _attempt in 0..2 {
            if let Some(sample) = self.frames.try_pull_sample(CLIP_PATIENCE) {
                let size = natural_format(sample.caps()?)?.0;
                let mut caps = picture_caps(size.0, size.1, Some(self.rate));
                // The clip's own colours, not the scene's.
                let colorimetry = sample.caps()?.structure(0)?.get::<String>("colorimetry").ok();
                if let (Some(colorimetry), Some(caps)) = (colorimetry, caps.get_mut()) {
                    caps.set("colorimetry", colorimetry);
                }
                let mut buffer = sample.buffer_owned()?;
                let timeless = buffer.make_mut();
                timeless.set_dts(None);
                timeless.set_duration(None);
                return Some(RawPicture { buffer, caps });
            }
            if !self.repeat || !self.frames.is_eos() {
                return None;
            }
            self.rewind();
        }
        None
    }
}

impl Drop for Clip {
    fn drop(&mut self) {
        let _ = self.pipeline.set_state(gst::State::Null);
    }
}

/// Size and frame rate of raw video caps; a rate that is unknown, variable or absurd counts as 25/s.
fn natural_format(caps: &gst::CapsRef) -> Option<((u32, u32), gst::Fraction)> {
    let structure = caps.structure(0)?;
    let width = structure.get::<i32>("width").ok()?.try_into().ok()?;
    let height = structure.get::<i32>("height").ok()?.try_into().ok()?;
    let rate = structure
        .get::<gst::Fraction>("framerate")
        .ok()
        .filter(|rate| rate.denom() > 0 && (1..=120).contains(&(rate.numer() / rate.denom())))
        .unwrap_or(gst::Fraction::new(25, 1));
    Some(((width, height), rate))
}

fn explain(message: &gst::Message) -> String {
    match message.view() {
        gst::MessageView::Error(error) => error.error().to_string(),
        _ => "it has no video picture".into(),
    }
}

/// When picture `slot` of a stream of this rate is due, counted from its first.
pub(crate) fn slot_time(slot: u64, rate: gst::Fraction) -> Duration {
    let ns = u128::from(slot) * 1_000_000_000 * rate.denom() as u128 / rate.numer() as u128;
    Duration::from_nanos(u64::try_from(ns).unwrap_or(u64::MAX))
}
