//! Network cameras, against a real RTSP server on loopback.

mod common;

use std::io::{Read, Write};
use std::net::TcpListener;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use common::{PICTURES, Proxy, Recorder, Server, ServerOptions, launch, now, rtsp};
use watchpost_pipelines::{
    Credentials, DecoderChoice, Event, FailureClass, Frame, Pipeline, PixelFormat, Range, Receiver, Spec,
    Transport, probe,
};

fn login(password: &str) -> Option<Credentials> {
    Some(Credentials { username: "viewer".to_owned(), password: password.to_owned() })
}

/// Starts `spec` and waits for its failure.
fn failure_of(spec: &Spec, seconds: u64) -> watchpost_pipelines::Failure {
    let recorder = Recorder::new();
    let pipeline = Pipeline::start(spec, "failing", recorder.clone()).unwrap();
    let failure = recorder.wait("failure", seconds, |memory| memory.failure().is_some()).failure().cloned();
    pipeline.stop();
    assert_eq!(recorder.memory().frames_total, 0);
    failure.unwrap()
}

fn assert_frames(spec: &Spec, codec: &str, decoder: &str) {
    let recorder = Recorder::new();
    // Also on a box whose video unit would decode.
    let spec = Spec { decoder: DecoderChoice::Software, ..spec.clone() };
    let pipeline = Pipeline::start(&spec, "cam", recorder.clone()).unwrap();
    drop(recorder.wait("20 frames", 15, |memory| memory.frames_total >= 20));
    pipeline.stop();
    let memory = recorder.memory();
    assert!(memory.frames.iter().all(|frame| frame.size == (320, 240)), "{:?}", memory.frames);
    assert!(memory.frames.iter().all(|frame| frame.format == PixelFormat::I420));
    let pts: Vec<u64> = memory.frames.iter().map(|frame| frame.pts_ns.unwrap()).collect();
    assert!(pts.is_sorted_by(|a, b| a < b), "{pts:?}");
    // Frames are 40 ms apart: seconds between arrival and delivery would be a queue somewhere.
    assert!(memory.frames.iter().all(|frame| frame.age.unwrap() < Duration::from_secs(1)));
    let arrived = memory.frames.iter().map(|frame| frame.since_arrival);
    assert!(
        arrived.clone().all(|since| since.unwrap() < Duration::from_secs(1)),
        "{:?}",
        arrived.collect::<Vec<_>>()
    );
    let Some(Event::SourceInfo(info)) = memory.events.first() else { panic!("{:?}", memory.events) };
    assert_eq!((info.codec.as_deref(), info.decoder.as_deref()), (Some(codec), Some(decoder)));
    assert_eq!(info.declared_fps, Some(25.0));
    assert_eq!(memory.events.len(), 1, "{:?}", memory.events);
}

#[test]
fn h264_over_tcp_gives_frames() {
    assert_frames(&Server::of("H.264").spec(), "H.264", "avdec_h264");
}

#[test]
fn h265_over_tcp_gives_frames() {
    let server = Server::of("H.265");
    assert_frames(&server.spec(), "H.265", "avdec_h265");
}

#[test]
fn jpeg_over_tcp_gives_frames() {
    let server = Server::of("JPEG");
    assert_frames(&server.spec(), "JPEG", "jpegdec");
}

#[test]
fn h264_over_udp_gives_frames() {
    let server = Server::of("H.264");
    assert_frames(&Spec { transport: Transport::Udp, ..server.spec() }, "H.264", "avdec_h264");
}

/// The server's clock is ours: the pictures were taken while we looked.
#[test]
fn the_cameras_own_clock_is_known_after_its_first_report() {
    let unix_ns = || std::time::UNIX_EPOCH.elapsed().unwrap().as_nanos() as i64;
    let server = Server::of("H.264");
    let recorder = Recorder::new();
    let started = unix_ns();
    let pipeline = Pipeline::start(&server.spec(), "clock", recorder.clone()).unwrap();
    let told =
        |memory: &common::Memory| memory.frames.back().is_some_and(|frame| frame.capture_unix_ns.is_some());
    let memory = recorder.wait("a sender report", 20, told);
    let taken = memory.frames.back().and_then(|frame| frame.capture_unix_ns).unwrap();
    let ended = unix_ns();
    drop(memory);
    pipeline.stop();
    assert!((started - 1_000_000_000..=ended + 100_000_000).contains(&taken), "{started} {taken} {ended}");
}

#[test]
fn a_camera_with_sound_gives_frames() {
    let both = format!(
        "( {PICTURES} ! x264enc tune=zerolatency ! rtph264pay name=pay0 \
         audiotestsrc is-live=true ! alawenc ! rtppcmapay name=pay1 )"
    );
    let server = Server::start(ServerOptions { mounts: vec![("/stream", both)], ..ServerOptions::default() });
    assert_frames(&server.spec(), "H.264", "avdec_h264");
}

#[test]
fn jpeg_is_full_range_and_says_so() {
    struct Ranges(std::sync::Mutex<Option<Range>>, Arc<Recorder>);
    impl Receiver for Ranges {
        fn frame(&self, frame: Frame) {
            *self.0.lock().unwrap() = Some(frame.range());
            self.1.frame(frame);
        }
        fn event(&self, event: Event) {
            self.1.event(event);
        }
    }
    for (codec, range) in [("JPEG", Range::Full), ("H.264", Range::Limited)] {
        let server = Server::of(codec);
        let ranges = Arc::new(Ranges(std::sync::Mutex::default(), Recorder::new()));
        let pipeline = Pipeline::start(&server.spec(), "range", ranges.clone()).unwrap();
        drop(ranges.1.wait("frame", 10, |memory| memory.frames_total > 0));
        pipeline.stop();
        assert_eq!(*ranges.0.lock().unwrap(), Some(range), "{codec}");
    }
}

#[test]
fn the_password_is_needed_and_sufficient() {
    let server = Server::start(ServerOptions {
        mounts: vec![("/stream", launch("H.264"))],
        login: Some(("viewer", "right")),
        ..ServerOptions::default()
    });
    assert_frames(&Spec { credentials: login("right"), ..server.spec() }, "H.264", "avdec_h264");
    let wrong = failure_of(&Spec { credentials: login("wrong"), ..server.spec() }, 5);
    assert_eq!(wrong.class, FailureClass::Unauthorized);
    assert!(wrong.message.contains("\"viewer\""), "{wrong}");
    let none = failure_of(&server.spec(), 5);
    assert_eq!(none.class, FailureClass::Unauthorized);
    assert!(none.message.contains("none are configured"), "{none}");
}

#[test]
fn nobody_on_that_port_is_refused() {
    let free = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let failure = failure_of(&rtsp(&format!("rtsp://{free}/stream")), 5);
    assert_eq!(failure.class, FailureClass::Refused, "{failure}");
}

#[test]
fn a_name_that_does_not_resolve_is_unreachable() {
    let failure = failure_of(&rtsp("rtsp://no-such-host.invalid/stream"), 20);
    assert_eq!(failure.class, FailureClass::Unreachable, "{failure}");
}

#[test]
fn an_unknown_path_is_not_found() {
    let server = Server::of("H.264");
    let failure = failure_of(&rtsp(&server.url("/nothing")), 5);
    assert_eq!(failure.class, FailureClass::NotFound, "{failure}");
}

#[test]
fn sound_alone_is_no_video() {
    let sound = "( audiotestsrc is-live=true ! alawenc ! rtppcmapay name=pay0 )".to_owned();
    let server =
        Server::start(ServerOptions { mounts: vec![("/stream", sound)], ..ServerOptions::default() });
    let failure = failure_of(&server.spec(), 5);
    assert_eq!(failure.class, FailureClass::NoVideo, "{failure}");
}

#[test]
fn a_codec_that_is_not_supported_is_named() {
    let vp8 = format!("( {PICTURES} ! vp8enc deadline=1 ! rtpvp8pay name=pay0 )");
    let server = Server::start(ServerOptions { mounts: vec![("/stream", vp8)], ..ServerOptions::default() });
    let failure = failure_of(&server.spec(), 5);
    assert_eq!(failure.class, FailureClass::UnsupportedCodec, "{failure}");
    assert!(failure.message.contains("VP8"), "{failure}");
}

#[test]
fn a_server_that_speaks_something_else_is_a_protocol_failure() {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    let server = std::thread::spawn(move || {
        let (mut client, _) = listener.accept().unwrap();
        let _ = client.read(&mut [0; 1024]);
        let _ = client.write_all(b"SSH-2.0-OpenSSH_9.2\r\nthis is not RTSP\r\n\r\n");
    });
    let failure = failure_of(&rtsp(&format!("rtsp://{address}/stream")), 10);
    assert_eq!(failure.class, FailureClass::Protocol, "{failure}");
    server.join().unwrap();
}

#[test]
fn a_server_that_accepts_and_says_nothing_is_a_timeout_and_stops_quickly() {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let spec = rtsp(&format!("rtsp://{}/stream", listener.local_addr().unwrap()));
    // Stopping in the middle of waiting for the answer.
    let recorder = Recorder::new();
    let pipeline = Pipeline::start(&spec, "silent", recorder.clone()).unwrap();
    let silent = listener.accept().unwrap();
    let asked = now();
    pipeline.stop();
    assert!(asked.elapsed() < Duration::from_secs(2), "stopping took {:?}", asked.elapsed());
    drop(silent);
    // And being told when nobody stops it.
    let failure = failure_of(&spec, 15);
    assert_eq!(failure.class, FailureClass::Timeout, "{failure}");
}

#[test]
fn stopping_at_any_moment_of_connecting_is_quick() {
    let server = Server::of("H.264");
    for after_ms in [0, 1, 3, 10, 20, 40, 60, 80, 120, 200] {
        let recorder = Recorder::new();
        let pipeline = Pipeline::start(&server.spec(), "hasty", recorder).unwrap();
        std::thread::park_timeout(Duration::from_millis(after_ms));
        let asked = now();
        pipeline.stop();
        assert!(asked.elapsed() < Duration::from_secs(2), "{after_ms} ms: {:?}", asked.elapsed());
    }
}

#[test]
fn a_camera_that_hangs_while_streaming_stops_quickly() {
    let server = Server::of("H.264");
    let proxy = Proxy::to(server.address());
    let recorder = Recorder::new();
    let pipeline = Pipeline::start(&rtsp(&proxy.url("/stream")), "frozen", recorder.clone()).unwrap();
    drop(recorder.wait("5 frames", 10, |memory| memory.frames_total >= 5));
    proxy.freeze();
    std::thread::park_timeout(Duration::from_millis(300));
    let asked = now();
    pipeline.stop();
    eprintln!("measured: stopping a camera that hangs took {:?}", asked.elapsed());
    assert!(asked.elapsed() < Duration::from_secs(2), "stopping took {:?}", asked.elapsed());
}

#[test]
fn a_camera_that_goes_away_ends_the_pipeline() {
    let server = Server::of("H.264");
    let recorder = Recorder::new();
    let pipeline = Pipeline::start(&server.spec(), "gone", recorder.clone()).unwrap();
    drop(recorder.wait("5 frames", 10, |memory| memory.frames_total >= 5));
    drop(server);
    drop(recorder.wait("end", 10, common::Memory::over));
    pipeline.stop();
}

#[test]
fn nothing_is_called_after_stop_has_returned() {
    struct Strict(AtomicBool, AtomicBool);
    impl Receiver for Strict {
        fn frame(&self, _: Frame) {
            self.1.fetch_or(self.0.load(Ordering::SeqCst), Ordering::SeqCst);
        }
        fn event(&self, _: Event) {
            self.1.fetch_or(self.0.load(Ordering::SeqCst), Ordering::SeqCst);
        }
    }
    let server = Server::of("H.264");
    for round in 0..15 {
        let strict = Arc::new(Strict(AtomicBool::new(false), AtomicBool::new(false)));
        let pipeline = Pipeline::start(&server.spec(), "strict", strict.clone()).unwrap();
        std::thread::park_timeout(Duration::from_millis(20 * round));
        pipeline.stop();
        strict.0.store(true, Ordering::SeqCst);
        std::thread::park_timeout(Duration::from_millis(30));
        assert!(!strict.1.load(Ordering::SeqCst), "a callback came after stop in round {round}");
        assert_eq!(Arc::strong_count(&strict), 1, "the pipeline kept its receiver");
    }
}

#[test]
fn tls_trusts_what_it_is_told_to() {
    let fixtures = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures");
    let server = Server::start(ServerOptions {
        mounts: vec![("/stream", launch("H.264"))],
        certificate: Some(fixtures.join("loopback-certificate-and-key.pem")),
        ..ServerOptions::default()
    });
    let spec = rtsp(&server.url("/stream").replace("rtsp://", "rtsps://"));
    let failure = failure_of(&spec, 10);
    assert_eq!(failure.class, FailureClass::Certificate, "{failure}");
    let authority = fixtures.join("loopback-certificate.pem");
    assert_frames(&Spec { tls_ca_file: Some(authority), ..spec.clone() }, "H.264", "avdec_h264");
    assert_frames(&Spec { tls_verify: false, ..spec.clone() }, "H.264", "avdec_h264");
    let missing = Spec { tls_ca_file: Some("/nowhere/ca.pem".into()), ..spec };
    let error = Pipeline::start(&missing, "tls", Recorder::new()).unwrap_err().into_failure();
    assert_eq!(error.class, FailureClass::Certificate);
    assert!(error.message.contains("/nowhere/ca.pem"), "{error}");
}

#[test]
fn probe_tells_what_a_camera_sends() {
    let server = Server::of("H.265");
    let on_cpu = Spec { decoder: DecoderChoice::Software, ..server.spec() };
    let report = probe(&on_cpu, Duration::from_secs(10)).unwrap();
    assert_eq!((report.width, report.height, report.fps), (320, 240, Some(25.0)));
    assert_eq!((report.codec.as_deref(), report.decoder.as_deref()), (Some("H.265"), Some("avdec_h265")));
    assert_eq!((report.format, report.transport), (PixelFormat::I420, Some(Transport::Tcp)));
    assert_eq!(report.colorimetry.as_deref(), Some("bt601"));
    assert!(report.time_to_first_frame > Duration::ZERO);
    let failure = probe(&rtsp(&server.url("/nothing")), Duration::from_secs(10)).unwrap_err();
    assert_eq!(failure.class, FailureClass::NotFound);
}

#[test]
fn probe_keeps_its_deadline() {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let spec = rtsp(&format!("rtsp://{}/stream", listener.local_addr().unwrap()));
    let failure = probe(&spec, Duration::from_millis(300)).unwrap_err();
    assert_eq!(failure.class, FailureClass::Timeout);
}

#[test]
fn a_template_of_ones_own_takes_the_place_of_ours() {
    let server = Server::of("H.264");
    let template = "# all by hand\nrtspsrc location={url} protocols={transport} latency={latency_ms} \
                    ! rtph264depay ! h264parse ! avdec_h264 max-threads={decode_threads} \
                    ! videoscale ! video/x-raw,width=160,height=120 ! appsink name=sink";
    let recorder = Recorder::new();
    let spec = Spec { template: Some(template.to_owned()), ..server.spec() };
    let pipeline = Pipeline::start(&spec, "own", recorder.clone()).unwrap();
    let size = recorder.wait("frame", 10, |memory| memory.frames_total > 0).frames[0].size;
    pipeline.stop();
    assert_eq!(size, (160, 120));
}

/// rtspsrc does not let itself be interrupted once it has the first byte of a message. Left alone, it would wait
/// for the rest until its own timeout, and the camera with it.
#[test]
fn a_camera_that_falls_silent_in_the_middle_of_a_packet_or_an_answer_can_be_left_at_once() {
    let server = Server::of("H.264");
    let proxy = Proxy::to(server.address());
    let recorder = Recorder::new();
    let spec = rtsp(&proxy.url("/stream"));
    let pipeline = Pipeline::start(&spec, "cut", recorder.clone()).unwrap();
    drop(recorder.wait("frames", 15, |memory| memory.frames_total >= 5));
    proxy.cut();
    std::thread::park_timeout(Duration::from_millis(300));
    let since = now();
    pipeline.stop();
    eprintln!("measured: stopping in the middle of a packet took {:?}", since.elapsed());
    assert!(since.elapsed() < Duration::from_secs(3), "{:?}", since.elapsed());

    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let url = format!("rtsp://{}/stream", listener.local_addr().unwrap());
    let pipeline = Pipeline::start(&rtsp(&url), "half", Recorder::new()).unwrap();
    let (mut client, _) = listener.accept().unwrap();
    client.read_exact(&mut [0; 20]).unwrap();
    client.write_all(b"RTSP/1.0 200 O").unwrap();
    std::thread::park_timeout(Duration::from_millis(300));
    let since = now();
    pipeline.stop();
    eprintln!("measured: stopping in the middle of an answer took {:?}", since.elapsed());
    assert!(since.elapsed() < Duration::from_secs(3), "{:?}", since.elapsed());
}
