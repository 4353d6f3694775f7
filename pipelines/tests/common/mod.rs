//! What the tests of this crate share: a small RTSP server, a receiver that remembers, and censuses.
#![allow(dead_code, reason = "every test binary uses its own part")]

use std::collections::VecDeque;
use std::io::{Read, Write};
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream};
use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use gstreamer as gst;
use gstreamer::glib;
use gstreamer_rtsp_server as gst_rtsp_server;
use gstreamer_rtsp_server::prelude::*;
use watchpost_pipelines::{Event, Failure, Frame, Layout, Picture, Receiver, SourceKind, Spec};

/// Time for a test's deadline; it decides nothing that is measured.
#[allow(clippy::disallowed_methods, reason = "tests wait for real pipelines")]
pub fn now() -> Instant {
    Instant::now()
}

/// A hash of what a picture shows in black and white: FNV-1a.
pub fn luma_hash(picture: &Picture<'_>) -> u64 {
    let (Layout::Planar { y, .. } | Layout::Nv12 { y, .. }) = picture.layout else { panic!("no luma") };
    let samples = (0..picture.height as usize).flat_map(|row| y.row(row, picture.width as usize));
    samples.fold(0xcbf2_9ce4_8422_2325, |hash, &sample| {
        (hash ^ u64::from(sample)).wrapping_mul(0x0100_0000_01b3)
    })
}

/// The pictures that the server sends: numbered by their time, small, 25 a second.
pub const PICTURES: &str =
    "videotestsrc is-live=true ! video/x-raw,width=320,height=240,framerate=25/1,format=I420";

/// A launch line of the server for `codec`.
pub fn launch(codec: &str) -> String {
    let encode = match codec {
        "H.264" => {
            "x264enc tune=zerolatency speed-preset=ultrafast key-int-max=12 \
             ! rtph264pay name=pay0 pt=96 config-interval=-1"
        }
        "H.265" => {
            "x265enc tune=zerolatency speed-preset=ultrafast key-int-max=12 \
             ! rtph265pay name=pay0 pt=96 config-interval=-1"
        }
        "JPEG" => "jpegenc ! rtpjpegpay name=pay0 pt=26",
        other => panic!("no such codec: {other}"),
    };
    format!("( {PICTURES} ! {encode} )")
}

/// A real RTSP server on loopback, in a thread of its own.
pub struct Server {
    port: u16,
    main_loop: glib::MainLoop,
    thread: Option<JoinHandle<()>>,
}

/// What a server is to be like.
#[derive(Default)]
pub struct ServerOptions {
    pub mounts: Vec<(&'static str, String)>,
    /// User and password.
    pub login: Option<(&'static str, &'static str)>,
    /// PEM file with certificate and key: `rtsps://`.
    pub certificate: Option<PathBuf>,
}

impl Server {
    /// Serves one stream at `/stream`.
    pub fn of(codec: &str) -> Self {
        Self::start(ServerOptions { mounts: vec![("/stream", launch(codec))], ..ServerOptions::default() })
    }

    pub fn start(options: ServerOptions) -> Self {
        watchpost_pipelines::init().unwrap();
        let context = glib::MainContext::new();
        let main_loop = glib::MainLoop::new(Some(&context), false);
        let server = gst_rtsp_server::RTSPServer::new();
        server.set_address("127.0.0.1");
        server.set_service("0");
        let mounts = server.mount_points().unwrap();
        for (path, launch) in &options.mounts {
            let factory = gst_rtsp_server::RTSPMediaFactory::new();
            factory.set_launch(launch);
            factory.set_shared(true);
            if options.login.is_some() || options.certificate.is_some() {
                factory.add_role_from_structure(
                    &gst::Structure::builder("viewer")
                        .field("media.factory.access", true)
                        .field("media.factory.construct", true)
                        .build(),
                );
            }
            mounts.add_factory(path, factory);
        }
        if options.login.is_some() || options.certificate.is_some() {
            server.set_auth(Some(&authority(&options)));
        }
        let source = server.attach(Some(&context)).unwrap();
        let port = u16::try_from(server.bound_port()).unwrap();
        let running = main_loop.clone();
        let thread = std::thread::spawn(move || {
            let _ = context.with_thread_default(|| running.run());
            if let Some(source) = context.find_source_by_id(&source) {
                source.destroy();
            }
            server.client_filter(Some(&mut |_, _| gst_rtsp_server::RTSPFilterResult::Remove));
            while context.iteration(false) {}
        });
        Self { port, main_loop, thread: Some(thread) }
    }

    pub fn address(&self) -> SocketAddr {
        SocketAddr::from(([127, 0, 0, 1], self.port))
    }

    pub fn url(&self, path: &str) -> String {
        format!("rtsp://127.0.0.1:{}{path}", self.port)
    }

    pub fn spec(&self) -> Spec {
        rtsp(&self.url("/stream"))
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.main_loop.quit();
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

fn authority(options: &ServerOptions) -> gst_rtsp_server::RTSPAuth {
    let auth = gst_rtsp_server::RTSPAuth::new();
    let mut token = gst_rtsp_server::RTSPToken::builder().field("media.factory.role", "viewer").build();
    match options.login {
        Some((user, password)) => {
            auth.add_basic(&gst_rtsp_server::RTSPAuth::make_basic(user, password), &token);
        }
        None => auth.set_default_token(Some(&mut token)),
    }
    if let Some(path) = &options.certificate {
        auth.set_tls_certificate(Some(&gio::TlsCertificate::from_file(path).unwrap()));
    }
    auth
}

/// A spec for `url` with little latency.
pub fn rtsp(url: &str) -> Spec {
    Spec { latency: Duration::from_millis(50), ..Spec::new(SourceKind::Rtsp { url: url.to_owned() }) }
}

/// What one frame was like.
#[derive(Debug, Clone, PartialEq)]
pub struct Seen {
    pub size: (u32, u32),
    pub format: watchpost_pipelines::PixelFormat,
    pub pts_ns: Option<u64>,
    pub age: Option<Duration>,
    pub since_arrival: Option<Duration>,
    pub capture_unix_ns: Option<i64>,
    pub range: watchpost_pipelines::Range,
    /// Mean of the luma plane's visible part; 0 for a frame on the GPU.
    pub luma: f64,
}

#[derive(Default)]
pub struct Memory {
    pub frames: VecDeque<Seen>,
    pub frames_total: usize,
    pub events: Vec<Event>,
}

impl Memory {
    pub fn failure(&self) -> Option<&Failure> {
        self.events.iter().find_map(|event| match event {
            Event::Error(failure) => Some(failure),
            _ => None,
        })
    }

    pub fn over(&self) -> bool {
        self.events.iter().any(|event| matches!(event, Event::Error(_) | Event::Eos))
    }
}

/// A receiver that remembers.
#[derive(Default)]
pub struct Recorder {
    memory: Mutex<Memory>,
    changed: Condvar,
}

impl Recorder {
    pub fn new() -> Arc<Self> {
        Arc::default()
    }

    pub fn memory(&self) -> MutexGuard<'_, Memory> {
        self.memory.lock().unwrap()
    }

    /// Waits until `enough`; panics with what was seen when that takes too long.
    pub fn wait(&self, what: &str, seconds: u64, enough: impl Fn(&Memory) -> bool) -> MutexGuard<'_, Memory> {
        let (memory, timeout) = self
            .changed
            .wait_timeout_while(self.memory(), Duration::from_secs(seconds), |memory| !enough(memory))
            .unwrap();
        assert!(
            !timeout.timed_out(),
            "no {what} within {seconds} s; {} frames, events {:?}",
            memory.frames_total,
            memory.events
        );
        memory
    }
}

impl Receiver for Recorder {
    fn frame(&self, frame: Frame) {
        let seen = seen(&frame);
        let mut memory = self.memory();
        memory.frames_total += 1;
        memory.frames.push_back(seen);
        if memory.frames.len() > 500 {
            memory.frames.pop_front();
        }
        drop(memory);
        self.changed.notify_all();
    }

    fn event(&self, event: Event) {
        self.memory().events.push(event);
        self.changed.notify_all();
    }
}

pub fn seen(frame: &Frame) -> Seen {
    Seen {
        size: (frame.width(), frame.height()),
        format: frame.format(),
        pts_ns: frame.pts_ns(),
        age: frame.age(),
        since_arrival: frame.since_arrival(),
        capture_unix_ns: frame.capture_unix_ns(),
        range: frame.range(),
        luma: frame.picture().map_or(0.0, |picture| luma(&picture)),
    }
}

fn luma(picture: &Picture<'_>) -> f64 {
    let (Layout::Planar { y, .. } | Layout::Nv12 { y, .. } | Layout::Gray { y } | Layout::Rgb { rgb: y }) =
        picture.layout;
    let (width, height) = (picture.width as usize, picture.height as usize);
    let sum: u64 = (0..height).flat_map(|row| y.row(row, width)).map(|&sample| u64::from(sample)).sum();
    sum as f64 / (width * height) as f64
}

/// Makes a file with a launch line that ends in an element that takes `location`.
pub fn make(launch: &str, path: &std::path::Path) {
    watchpost_pipelines::init().unwrap();
    let pipeline = gst::parse::launch(&format!("{launch} ! filesink location={}", path.display())).unwrap();
    pipeline.set_state(gst::State::Playing).unwrap();
    let message = pipeline.bus().unwrap().timed_pop_filtered(
        gst::ClockTime::from_seconds(20),
        &[gst::MessageType::Eos, gst::MessageType::Error],
    );
    assert!(matches!(message.as_ref().map(|m| m.type_()), Some(gst::MessageType::Eos)), "{message:?}");
    pipeline.set_state(gst::State::Null).unwrap();
}

/// The folder with clips and photos, or a loud word that it is not there.
pub fn shared() -> Option<PathBuf> {
    let root = std::env::var_os("WATCHPOST_SHARED")
        .map_or_else(|| PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../../shared"), PathBuf::from);
    if root.join("footage").is_dir() {
        return Some(root);
    }
    eprintln!("NOT TESTED: there is no footage at {}; set WATCHPOST_SHARED", root.display());
    None
}

/// Threads of this process.
pub fn threads() -> usize {
    std::fs::read_dir("/proc/self/task").unwrap().count()
}

/// Names of the threads of this process.
pub fn thread_names() -> Vec<String> {
    std::fs::read_dir("/proc/self/task")
        .unwrap()
        .filter_map(|task| std::fs::read_to_string(task.ok()?.path().join("comm")).ok())
        .map(|name| name.trim().to_owned())
        .collect()
}

/// Open file descriptors of this process.
pub fn descriptors() -> Vec<String> {
    std::fs::read_dir("/proc/self/fd")
        .unwrap()
        .filter_map(|entry| std::fs::read_link(entry.ok()?.path()).ok())
        .map(|link| link.display().to_string())
        .collect()
}

/// Waits until `settled` or panics with `state`'s words.
#[allow(clippy::disallowed_methods, reason = "GStreamer's thread pools shrink in their own time")]
pub fn settle(seconds: u64, settled: impl Fn() -> bool, state: impl Fn() -> String) {
    let deadline = now() + Duration::from_secs(seconds);
    while !settled() {
        assert!(now() < deadline, "{}", state());
        std::thread::sleep(Duration::from_millis(50));
    }
}

/// Passes bytes between a client and a server until it is told to freeze: the connection then stays open
/// and nothing comes through, as with a camera that hangs or a network that has gone.
pub struct Proxy {
    address: SocketAddr,
    frozen: Arc<AtomicBool>,
    /// The next packets are cut short, and then it freezes.
    cutting: Arc<AtomicBool>,
    stopped: Arc<AtomicBool>,
    acceptor: Option<JoinHandle<()>>,
}

impl Proxy {
    pub fn to(server: SocketAddr) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        let (frozen, cutting, stopped): (Arc<AtomicBool>, Arc<AtomicBool>, Arc<AtomicBool>) =
            Default::default();
        let flags = (frozen.clone(), stopped.clone(), cutting.clone());
        let acceptor = std::thread::spawn(move || {
            let mut pumps = Vec::new();
            for client in listener.incoming() {
                if flags.1.load(Ordering::SeqCst) {
                    break;
                }
                let client = client.unwrap();
                let server = TcpStream::connect(server).unwrap();
                pumps.push(pump(client.try_clone().unwrap(), server.try_clone().unwrap(), flags.clone()));
                pumps.push(pump(server, client, flags.clone()));
            }
            for pump in pumps {
                let _ = pump.join();
            }
        });
        Self { address, frozen, cutting, stopped, acceptor: Some(acceptor) }
    }

    pub fn url(&self, path: &str) -> String {
        format!("rtsp://{}{path}", self.address)
    }

    pub fn freeze(&self) {
        self.frozen.store(true, Ordering::SeqCst);
    }

    /// Freezes in the middle of a packet; has when this returns.
    pub fn cut(&self) {
        self.cutting.store(true, Ordering::SeqCst);
        while !self.frozen.load(Ordering::SeqCst) {
            std::thread::park_timeout(Duration::from_millis(5));
        }
    }
}

impl Drop for Proxy {
    fn drop(&mut self) {
        self.stopped.store(true, Ordering::SeqCst);
        let _ = TcpStream::connect(self.address);
        if let Some(acceptor) = self.acceptor.take() {
            let _ = acceptor.join();
        }
    }
}

/// Frozen, stopped, cutting.
type Flags = (Arc<AtomicBool>, Arc<AtomicBool>, Arc<AtomicBool>);

fn pump(mut from: TcpStream, mut to: TcpStream, flags: Flags) -> JoinHandle<()> {
    std::thread::spawn(move || {
        from.set_read_timeout(Some(Duration::from_millis(20))).unwrap();
        let mut buffer = [0; 16384];
        while !flags.1.load(Ordering::SeqCst) {
            if flags.0.load(Ordering::SeqCst) {
                std::thread::park_timeout(Duration::from_millis(20));
                continue;
            }
            match from.read(&mut buffer) {
                Ok(0) => break,
                // RTP in the RTSP connection begins with a dollar sign.
                Ok(count) if flags.2.load(Ordering::SeqCst) && buffer[0] == b'$' => {
                    let _ = to.write_all(&buffer[..count - 1]);
                    flags.0.store(true, Ordering::SeqCst);
                }
                Ok(count) if to.write_all(&buffer[..count]).is_err() => break,
                Ok(_) => {}
                Err(error)
                    if matches!(
                        error.kind(),
                        std::io::ErrorKind::WouldBlock | std::io::ErrorKind::TimedOut
                    ) => {}
                Err(_) => break,
            }
        }
        let _ = to.shutdown(Shutdown::Both);
    })
}
