//! A password never appears: not in an event, an error, a report, nor in GStreamer's log at its loudest.

mod common;

use std::io::Write;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use common::{Recorder, Server, ServerOptions, launch};
use gstreamer as gst;
use tracing_subscriber::fmt::MakeWriter;
use watchpost_pipelines::{Credentials, Pipeline, SourceKind, Spec, probe};

const CANARY: &str = "Canary-7391/ü";

#[derive(Clone, Default)]
struct Captured(Arc<Mutex<Vec<u8>>>);

impl Write for Captured {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        self.0.lock().unwrap().extend_from_slice(bytes);
        Ok(bytes.len())
    }
    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}

impl<'a> MakeWriter<'a> for Captured {
    type Writer = Self;
    fn make_writer(&'a self) -> Self {
        self.clone()
    }
}

#[test]
fn a_canary_password_appears_nowhere() {
    let captured = Captured::default();
    tracing_subscriber::fmt()
        .with_max_level(tracing::Level::TRACE)
        .with_writer(captured.clone())
        .with_ansi(false)
        .init();
    watchpost_pipelines::init().unwrap();
    let server = Server::start(ServerOptions {
        mounts: vec![("/stream", launch("H.264"))],
        login: Some(("viewer", CANARY)),
        ..ServerOptions::default()
    });
    // Everything of the client; the server's own log in this process would be its own affair.
    for category in
        ["rtspsrc", "default", "rtpsession", "udpsrc", "GST_PIPELINE", "parse", "GST_EVENT", "basesrc"]
    {
        gst::log::set_threshold_for_name(category, gst::DebugLevel::Trace);
    }
    let credentials =
        |password: &str| Some(Credentials { username: "viewer".into(), password: password.into() });
    let mut said = String::new();
    let mut watch = |spec: &Spec| {
        said.push_str(&format!("{spec:?}\n"));
        let recorder = Recorder::new();
        match Pipeline::start(spec, "secret", recorder.clone()) {
            Ok(pipeline) => {
                drop(
                    recorder.wait("frame or failure", 15, |memory| memory.frames_total > 3 || memory.over()),
                );
                pipeline.stop();
                said.push_str(&format!("{:?}\n", recorder.memory().events));
            }
            Err(error) => said.push_str(&format!("{error} {error:?}\n")),
        }
        recorder.memory().frames_total
    };
    let right = Spec { credentials: credentials(CANARY), ..server.spec() };
    assert!(watch(&right) > 0, "the password is the right one");
    // Wrong path, dead port, wrong user, garbage in the template: everything that makes GStreamer talk.
    watch(&Spec { kind: SourceKind::Rtsp { url: server.url("/nothing") }, ..right.clone() });
    watch(&Spec { kind: SourceKind::Rtsp { url: "rtsp://127.0.0.1:1/x".into() }, ..right.clone() });
    let other_user = Some(Credentials { username: "stranger".into(), password: CANARY.into() });
    watch(&Spec { credentials: other_user, ..right.clone() });
    let in_template =
        format!("rtspsrc location=rtsp://viewer:{CANARY}@127.0.0.1:1/x ! nosuch ! appsink name=sink");
    watch(&Spec { template: Some(in_template.replace('ü', "u")), credentials: None, ..right.clone() });
    // A URL that still has its password in it, against the advice.
    let url = server.url("/nothing").replace("rtsp://", "rtsp://viewer:Canary-7391@");
    let careless = Spec { kind: SourceKind::Rtsp { url }, credentials: None, ..right.clone() };
    let failure = probe(&careless, Duration::from_secs(10)).unwrap_err();
    said.push_str(&format!("{failure} {failure:?}"));

    let log = String::from_utf8_lossy(&captured.0.lock().unwrap()).into_owned();
    assert!(log.contains("/stream") && log.lines().count() > 200, "the log was really on:\n{log}");
    for (what, text) in [("log", &log), ("messages", &said)] {
        for line in text.lines() {
            assert!(!line.contains("Canary-7391"), "{what}: {line}");
            assert!(!line.contains("dmlld2VyOkNhbmFyeS03Mzkx"), "{what} (Basic): {line}");
        }
    }
}
