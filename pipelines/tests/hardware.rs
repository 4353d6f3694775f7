//! A hardware decoder that works is taken; one that does not is told apart from a camera that does not.

mod common;
#[path = "common/decoder.rs"]
mod decoder;

use common::{Recorder, Server, rtsp, shared};
use decoder::{Behaviour, behave};
use watchpost_pipelines::{
    DecoderChoice, Event, Failure, FailureClass, Memory, Pipeline, PixelFormat, Pull, SourceInfo, SourceKind,
    Spec,
};

/// Opens until enough frames or the end.
fn watch(spec: &Spec, frames_count: usize) -> (usize, Option<Failure>, Option<SourceInfo>) {
    let recorder = Recorder::new();
    let pipeline = match Pipeline::start(spec, "hardware", recorder.clone()) {
        Ok(pipeline) => pipeline,
        Err(error) => return (0, Some(error.into_failure()), None),
    };
    let memory =
        recorder.wait("frames or failure", 20, |memory| memory.frames_total >= frames_count || memory.over());
    let info = memory.events.iter().find_map(|event| match event {
        Event::SourceInfo(info) => Some(info.clone()),
        _ => None,
    });
    let seen = (memory.frames_total, memory.failure().cloned(), info);
    drop(memory);
    pipeline.stop();
    seen
}

#[test]
fn a_jetsons_chain_gives_frames_in_system_memory() {
    let _works = behave(Behaviour::Works);
    let server = Server::of("H.264");
    let (frames, failure, info) = watch(&server.spec(), 5);
    assert!(frames >= 5, "{failure:?}");
    let info = info.unwrap();
    assert_eq!((info.decoder.as_deref(), info.memory), (Some("nvv4l2decoder"), Memory::System));
    assert_eq!(info.why_not_hardware, None);
}

#[test]
fn files_are_packed_anew_for_hardware() {
    // H.264 in MP4 is `avc`; the decoder takes `byte-stream` only.
    let Some(shared) = shared() else { return };
    let _works = behave(Behaviour::Works);
    let kind = SourceKind::File { path: shared.join("footage/car-detection.mp4") };
    let pipeline = Pipeline::start_pull(&Spec { realtime: false, ..Spec::new(kind) }, "file").unwrap();
    let Pull::Frame(frame) = pipeline.pull(std::time::Duration::from_secs(20)) else { panic!("no frame") };
    assert_eq!((frame.width(), frame.height(), frame.format()), (768, 432, PixelFormat::Nv12));
}

#[test]
fn every_way_to_fail_before_the_first_picture_is_the_decoders_and_the_cpu_can_take_over() {
    let server = Server::of("H.264");
    for behaviour in [
        Behaviour::RefusesToOpen,
        Behaviour::RefusesTheFormat,
        Behaviour::FailsAtTheFirst,
        Behaviour::GivesNothing,
    ] {
        let _fails = behave(behaviour);
        let (frames, failure, _) = watch(&server.spec(), 1);
        let failure = failure.unwrap_or_else(|| panic!("{behaviour:?}: {frames} frames and no failure"));
        assert_eq!((frames, &failure.class), (0, &FailureClass::HardwareDecoder), "{behaviour:?}: {failure}");
        assert!(failure.message.contains("nvv4l2decoder"), "{behaviour:?}: {failure}");
        let on_cpu = Spec { decoder: DecoderChoice::Software, ..server.spec() };
        let (frames, failure, info) = watch(&on_cpu, 3);
        assert!(frames >= 3, "{behaviour:?}: {failure:?}");
        assert_eq!(info.unwrap().decoder.as_deref(), Some("avdec_h264"));
    }
}

#[test]
fn a_decoder_that_has_worked_is_no_longer_blamed() {
    let _fails = behave(Behaviour::FailsLater);
    let server = Server::of("H.264");
    let (frames, failure, _) = watch(&server.spec(), 1000);
    assert!(frames >= 1);
    assert_eq!(failure.unwrap().class, FailureClass::Decode);
}

#[test]
fn a_camera_that_cannot_be_reached_is_not_the_decoders_fault() {
    let _works = behave(Behaviour::RefusesToOpen);
    let (_, failure, _) = watch(&rtsp("rtsp://127.0.0.1:9/stream"), 1);
    assert_eq!(failure.unwrap().class, FailureClass::Refused);
}

#[test]
fn hardware_that_is_asked_for_and_not_there_says_what_is_missing() {
    for wish in [DecoderChoice::Hardware, DecoderChoice::Element("nvjpegdec".to_owned())] {
        // One each: a server that takes a stream down may answer the next client with 503.
        let server = Server::of("JPEG");
        let (_, failure, _) = watch(&Spec { decoder: wish.clone(), ..server.spec() }, 1);
        let failure = failure.unwrap();
        assert_eq!(failure.class, FailureClass::HardwareDecoder, "{failure}");
        assert!(
            failure.message.contains("JPEG") && failure.message.contains("NVIDIA GPU"),
            "{wish:?}: {failure}"
        );
    }
    let (frames, failure, info) = watch(&Server::of("JPEG").spec(), 2);
    assert!(frames >= 2, "{failure:?}");
    // No GPU is named, so nothing was missed.
    assert_eq!(info.unwrap().why_not_hardware, None);
}

#[test]
fn an_element_of_any_name_can_be_asked_for() {
    let server = Server::of("H.265");
    let spec = Spec { decoder: DecoderChoice::Element("libde265dec".to_owned()), ..server.spec() };
    let (frames, failure, info) = watch(&spec, 2);
    assert!(frames >= 2, "{failure:?}");
    assert_eq!(info.unwrap().decoder.as_deref(), Some("libde265dec"));
    let nonsense = Spec { decoder: DecoderChoice::Element("nonsense".to_owned()), ..server.spec() };
    let failure = watch(&nonsense, 1).1.unwrap();
    assert!(failure.message.contains("nonsense"), "{failure}");
}
