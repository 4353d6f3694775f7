//! A decoder element of the tests' own that can be told how to fail. It takes the names of a Jetson's elements, or
//! those of a video unit's decoder, so that it is chosen as hardware without any. It negotiates as the decoders of VA-API
//! do: it gives its own memory to whoever takes it, else system memory.

#![allow(dead_code, reason = "each test uses a part")]

use std::sync::{Mutex, MutexGuard, Once, PoisonError};

use gstreamer as gst;
use gstreamer::glib;
use gstreamer::prelude::*;
use gstreamer::subclass::prelude::*;
use gstreamer_video as gst_video;
use gstreamer_video::prelude::*;
use gstreamer_video::subclass::prelude::*;

/// What the decoder does.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Behaviour {
    /// A grey picture for every picture.
    Works,
    /// The device cannot be opened.
    RefusesToOpen,
    /// The stream's format is refused without a word, as nvcodec does.
    RefusesTheFormat,
    /// It gives its pictures in memory of its own and nowhere else.
    KeepsItsMemory,
    /// It gives ten bits a sample, which the letterbox does not read.
    GivesTenBits,
    /// The first picture is an error.
    FailsAtTheFirst,
    /// It takes everything and gives nothing.
    GivesNothing,
    /// An error after ten pictures.
    FailsLater,
}

static BEHAVIOUR: Mutex<Behaviour> = Mutex::new(Behaviour::Works);
static ONE_AT_A_TIME: Mutex<()> = Mutex::new(());

/// Registers the decoder as a video unit's, under its name there.
pub fn register_unit(element: &str) {
    watchpost_pipelines::init().unwrap();
    gst::Element::register(None, element, gst::Rank::NONE, TestDecoder::static_type()).unwrap();
}

/// What registered units do until the guard goes.
pub fn units_behave(behaviour: Behaviour) -> MutexGuard<'static, ()> {
    let guard = ONE_AT_A_TIME.lock().unwrap_or_else(PoisonError::into_inner);
    set(behaviour);
    guard
}

/// Of units whose guard is held.
pub fn set(behaviour: Behaviour) {
    *BEHAVIOUR.lock().unwrap() = behaviour;
}

/// Caps that a decoder has agreed on, the newest.
static AGREED: Mutex<Option<gst::Caps>> = Mutex::new(None);

/// What the newest decoder gives.
pub fn agreed() -> Option<String> {
    AGREED.lock().unwrap().as_ref().map(ToString::to_string)
}

/// Registers the elements and has them behave so until the guard goes.
pub fn behave(behaviour: Behaviour) -> MutexGuard<'static, ()> {
    static REGISTERED: Once = Once::new();
    watchpost_pipelines::init().unwrap();
    REGISTERED.call_once(|| {
        gst::Element::register(None, "nvv4l2decoder", gst::Rank::NONE, TestDecoder::static_type()).unwrap();
        gst::Element::register(None, "nvvidconv", gst::Rank::NONE, TestConverter::static_type()).unwrap();
    });
    units_behave(behaviour)
}

fn behaviour() -> Behaviour {
    *BEHAVIOUR.lock().unwrap()
}

glib::wrapper! {
    pub struct TestDecoder(ObjectSubclass<imp::TestDecoder>)
        @extends gst_video::VideoDecoder, gst::Element, gst::Object;
}

glib::wrapper! {
    /// From what the decoder gives to system memory.
    pub struct TestConverter(ObjectSubclass<imp::TestConverter>) @extends gst::Bin, gst::Element, gst::Object;
}

mod imp {
    use std::sync::LazyLock;
    use std::sync::atomic::{AtomicU32, Ordering};

    use super::*;

    #[derive(Default)]
    pub struct TestDecoder {
        pictures_count: AtomicU32,
    }

    #[glib::object_subclass]
    impl ObjectSubclass for TestDecoder {
        const NAME: &'static str = "WatchpostTestDecoder";
        type Type = super::TestDecoder;
        type ParentType = gst_video::VideoDecoder;
    }

    impl ObjectImpl for TestDecoder {}
    impl GstObjectImpl for TestDecoder {}

    impl ElementImpl for TestDecoder {
        fn metadata() -> Option<&'static gst::subclass::ElementMetadata> {
            static METADATA: LazyLock<gst::subclass::ElementMetadata> = LazyLock::new(|| {
                gst::subclass::ElementMetadata::new(
                    "Test",
                    "Codec/Decoder/Video/Hardware",
                    "Test",
                    "watchpost",
                )
            });
            Some(&METADATA)
        }

        fn pad_templates() -> &'static [gst::PadTemplate] {
            static TEMPLATES: LazyLock<Vec<gst::PadTemplate>> = LazyLock::new(|| {
                let always = gst::PadPresence::Always;
                let pad = |name, direction, caps: &str| {
                    gst::PadTemplate::new(name, direction, always, &caps.parse::<gst::Caps>().unwrap())
                        .unwrap()
                };
                vec![
                    pad(
                        "sink",
                        gst::PadDirection::Sink,
                        "video/x-h264, stream-format=byte-stream, alignment=au, width=[1,8192], height=[1,8192]; \
                         video/x-h265, stream-format=byte-stream, alignment=au, width=[1,8192], height=[1,8192]",
                    ),
                    pad(
                        "src",
                        gst::PadDirection::Src,
                        "video/x-raw(memory:VAMemory), format={NV12, P010_10LE}; \
                         video/x-raw, format={NV12, I420, P010_10LE}",
                    ),
                ]
            });
            &TEMPLATES
        }
    }

    impl VideoDecoderImpl for TestDecoder {
        fn open(&self) -> Result<(), gst::ErrorMessage> {
            match behaviour() {
                Behaviour::RefusesToOpen => {
                    Err(gst::error_msg!(gst::ResourceError::OpenReadWrite, ["no video unit"]))
                }
                _ => Ok(()),
            }
        }

        fn set_format(
            &self,
            state: &gst_video::VideoCodecState<'static, gst_video::video_codec_state::Readable>,
        ) -> Result<(), gst::LoggableError> {
            if behaviour() == Behaviour::RefusesTheFormat {
                return Err(gst::loggable_error!(gst::CAT_DEFAULT, "refused"));
            }
            let structure = state.caps().unwrap().structure(0).unwrap().to_owned();
            let side = |name: &str| structure.get::<i32>(name).unwrap().unsigned_abs();
            let (width, height) = (side("width"), side("height"));
            let decoder = self.obj();
            let format = match behaviour() {
                Behaviour::GivesTenBits => gst_video::VideoFormat::P01010le,
                _ => gst_video::VideoFormat::Nv12,
            };
            let mut output = decoder.set_output_state(format, width, height, Some(state)).unwrap();
            let own = gst::CapsFeatures::new(["memory:VAMemory"]);
            let allowed = decoder.static_pad("src").unwrap().allowed_caps().unwrap();
            let wants_own = (0..allowed.size())
                .any(|index| allowed.features(index).is_some_and(|f| f.contains("memory:VAMemory")));
            if wants_own || behaviour() == Behaviour::KeepsItsMemory {
                let mut caps = output.info().to_caps().unwrap();
                caps.get_mut().unwrap().set_features_simple(Some(own));
                output.set_caps(&caps);
            }
            decoder.negotiate(output).map_err(|_| gst::loggable_error!(gst::CAT_DEFAULT, "no agreement"))?;
            *AGREED.lock().unwrap() = decoder.static_pad("src").unwrap().current_caps();
            Ok(())
        }

        fn handle_frame(
            &self,
            mut frame: gst_video::VideoCodecFrame<'_>,
        ) -> Result<gst::FlowSuccess, gst::FlowError> {
            let number = self.pictures_count.fetch_add(1, Ordering::Relaxed);
            match behaviour() {
                Behaviour::GivesNothing => {
                    self.obj().release_frame(frame);
                    return Ok(gst::FlowSuccess::Ok);
                }
                Behaviour::FailsAtTheFirst => return Err(self.fail(frame)),
                Behaviour::FailsLater if number == 10 => return Err(self.fail(frame)),
                _ => {}
            }
            self.obj().allocate_output_frame(&mut frame, None)?;
            let buffer = frame.output_buffer_mut().unwrap();
            buffer.map_writable().unwrap().fill(128);
            self.obj().finish_frame(frame)
        }
    }

    impl TestDecoder {
        fn fail(&self, frame: gst_video::VideoCodecFrame<'_>) -> gst::FlowError {
            self.obj().release_frame(frame);
            gst::element_imp_error!(self, gst::StreamError::Decode, ["the session is gone"]);
            gst::FlowError::Error
        }
    }

    #[derive(Default)]
    pub struct TestConverter;

    #[glib::object_subclass]
    impl ObjectSubclass for TestConverter {
        const NAME: &'static str = "WatchpostTestConverter";
        type Type = super::TestConverter;
        type ParentType = gst::Bin;
    }

    impl ObjectImpl for TestConverter {
        fn constructed(&self) {
            self.parent_constructed();
            let convert = gst::ElementFactory::make("videoconvert").build().unwrap();
            self.obj().add(&convert).unwrap();
            for name in ["sink", "src"] {
                let pad = gst::GhostPad::with_target(&convert.static_pad(name).unwrap()).unwrap();
                self.obj().add_pad(&pad).unwrap();
            }
        }
    }

    impl GstObjectImpl for TestConverter {}
    impl ElementImpl for TestConverter {}
    impl BinImpl for TestConverter {}
}
