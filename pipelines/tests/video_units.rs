//! Video units of boxes without NVIDIA, with a decoder of the tests' own in the place of theirs: taken by themselves
//! where they open, with their pictures in system memory, and left where they do not work.

mod common;
#[path = "common/decoder.rs"]
mod decoder;

use std::path::PathBuf;
use std::sync::Once;

use common::{Recorder, Server};
use decoder::{Behaviour, agreed, register_unit, set, units_behave};
use watchpost_pipelines::{
    DecoderChoice, Event, Failure, FailureClass, Memory, Pipeline, PixelFormat, SourceInfo, SourceKind, Spec,
    devices, plan, probe,
};

/// H.264 by the plug-in that comes first, H.265 by the one that comes last.
fn register() {
    static ONCE: Once = Once::new();
    ONCE.call_once(|| {
        let _opens = units_behave(Behaviour::Works);
        register_unit("vah264dec");
        // Whether a decoder opens is found out once: this one does.
        let any = Spec::new(SourceKind::File { path: PathBuf::new() });
        assert!(plan(&any).unwrap().to_string().contains("vah264dec"));
        register_unit("vaapih265dec");
    });
}

/// Opens until enough frames or the end.
fn watch(spec: &Spec, frames_count: usize) -> (Vec<PixelFormat>, Option<Failure>, Option<SourceInfo>) {
    let recorder = Recorder::new();
    let pipeline = match Pipeline::start(spec, "unit", recorder.clone()) {
        Ok(pipeline) => pipeline,
        Err(error) => return (Vec::new(), Some(error.into_failure()), None),
    };
    let memory =
        recorder.wait("frames or failure", 30, |memory| memory.frames_total >= frames_count || memory.over());
    let info = memory.events.iter().find_map(|event| match event {
        Event::SourceInfo(info) => Some(info.clone()),
        _ => None,
    });
    let formats = memory.frames.iter().map(|frame| frame.format).collect();
    let seen = (formats, memory.failure().cloned(), info);
    drop(memory);
    pipeline.stop();
    seen
}

#[test]
fn auto_takes_a_unit_that_opens_and_its_pictures_come_to_system_memory_as_they_are() {
    register();
    let _works = units_behave(Behaviour::Works);
    let server = Server::of("H.264");
    for wish in [DecoderChoice::Auto, DecoderChoice::Hardware, DecoderChoice::Element("vah264dec".to_owned())]
    {
        let (formats, failure, info) = watch(&Spec { decoder: wish.clone(), ..server.spec() }, 5);
        assert!(
            formats.len() >= 5 && formats.iter().all(|format| *format == PixelFormat::Nv12),
            "{failure:?}"
        );
        let info = info.unwrap();
        assert_eq!((info.decoder.as_deref(), info.hardware), (Some("vah264dec"), true), "{wish:?}");
        assert_eq!((info.memory, info.why_not_hardware), (Memory::System, None));
        // It would have given its own memory to whoever takes that.
        let agreed = agreed().unwrap();
        assert!(agreed.contains("NV12") && !agreed.contains("memory:"), "{agreed}");
    }
    let on_cpu = Spec { decoder: DecoderChoice::Software, ..server.spec() };
    assert_eq!(watch(&on_cpu, 1).2.unwrap().decoder.as_deref(), Some("avdec_h264"));
}

#[test]
fn what_the_letterbox_does_not_read_is_converted() {
    register();
    let _ten_bits = units_behave(Behaviour::GivesTenBits);
    let (formats, failure, info) = watch(&Server::of("H.264").spec(), 3);
    assert!(formats.len() >= 3, "{failure:?}");
    assert!(!formats.contains(&PixelFormat::P010), "{formats:?}");
    assert_eq!(info.unwrap().decoder.as_deref(), Some("vah264dec"));
}

#[test]
fn a_unit_that_opens_and_does_not_work_is_told_apart_from_a_camera_that_does_not() {
    register();
    let _guard = units_behave(Behaviour::Works);
    let server = Server::of("H.264");
    for behaviour in [
        Behaviour::RefusesTheFormat,
        Behaviour::KeepsItsMemory,
        Behaviour::FailsAtTheFirst,
        Behaviour::GivesNothing,
    ] {
        set(behaviour);
        let (formats, failure, _) = watch(&server.spec(), 1);
        let failure = failure.unwrap_or_else(|| panic!("{behaviour:?}: {formats:?} and no failure"));
        assert_eq!(failure.class, FailureClass::HardwareDecoder, "{behaviour:?}: {failure}");
        assert!(formats.is_empty() && failure.message.contains("vah264dec"), "{behaviour:?}: {failure}");
    }
    let probed = probe(&server.spec(), std::time::Duration::from_secs(30)).unwrap();
    assert_eq!(probed.decoder.as_deref(), Some("avdec_h264"), "a probe takes the CPU then");
}

#[test]
fn a_unit_that_does_not_open_is_not_taken_and_that_is_said_with_the_stream() {
    register();
    let _refuses = units_behave(Behaviour::RefusesToOpen);
    let server = Server::of("H.265");
    for _ in 0..2 {
        let (formats, failure, info) = watch(&server.spec(), 3);
        assert!(formats.len() >= 3, "{failure:?}");
        let info = info.unwrap();
        assert_eq!((info.decoder.as_deref(), info.hardware), (Some("avdec_h265"), false));
        let why = info.why_not_hardware.unwrap();
        assert!(why.contains("vaapih265dec") && why.contains("no video unit"), "{why}");
    }
    let by_name = Spec { decoder: DecoderChoice::Hardware, ..server.spec() };
    let failure = watch(&by_name, 1).1.unwrap();
    assert_eq!(failure.class, FailureClass::HardwareDecoder);
    assert!(failure.message.contains("no video unit"), "{failure}");

    // The same is said beforehand, and of every other decoder too.
    let any = Spec::new(SourceKind::File { path: PathBuf::new() });
    let plan = plan(&any).unwrap();
    let h265 = plan.codecs.iter().find(|plan| plan.codec == "H.265").unwrap();
    assert!(!h265.hardware && h265.why.as_deref().unwrap().contains("no video unit"), "{h265:?}");
    let report = devices().unwrap();
    for decoder in &report.decoders {
        assert_eq!(decoder.available, decoder.why_not.is_none(), "{decoder:?}");
    }
    let refused = report.decoders.iter().find(|decoder| decoder.element == "vaapih265dec").unwrap();
    assert!(refused.why_not.as_deref().unwrap().contains("no video unit"), "{refused:?}");
}
