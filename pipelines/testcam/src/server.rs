//! The RTSP server behind the relay, on a thread and a main context of its own.

use std::net::SocketAddr;
use std::sync::atomic::{AtomicUsize, Ordering::SeqCst};
use std::sync::mpsc::{SyncSender, sync_channel};
use std::sync::{Arc, Condvar, Mutex};
use std::thread::JoinHandle;
use std::time::Duration;

use gst::glib;
use gst_rtsp_server::gst_rtsp::{RTSPAuthMethod, RTSPLowerTrans};
use gst_rtsp_server::prelude::*;
use gst_rtsp_server::{
    RTSPAddressPool, RTSPAuth, RTSPFilterResult, RTSPMediaFactory, RTSPServer, RTSPThreadPool, RTSPToken, gio,
};
use gstreamer as gst;
use gstreamer_rtsp_server as gst_rtsp_server;

use crate::options::Tls;
use crate::packets::Packets;
use crate::{CameraOptions, Codec, TestCameraError, feeder, media};

/// The path under which the camera streams.
pub(crate) const MOUNT_POINT: &str = "/stream";
/// Role of everybody who may watch.
const VIEWER: &str = "viewer";
/// Ports from which the server sends UDP: below Linux's ephemeral ports, and on its own address only.
const UDP_PORTS: std::ops::RangeInclusive<u16> = 20_000..=23_999;
/// How long stopping waits for the media to be gone.
const STOP_PATIENCE: Duration = Duration::from_secs(5);

/// A running RTSP server. Dropping it ends all sessions and its thread.
pub(crate) struct Server {
    server: RTSPServer,
    address: SocketAddr,
    context: glib::MainContext,
    main_loop: glib::MainLoop,
    source: glib::Source,
    open_auth: Option<RTSPAuth>,
    refusing_auth: RTSPAuth,
    living: Arc<Living>,
    options: CameraOptions,
    feeder: Arc<feeder::Shared>,
    packets: Packets,
    thread: Option<JoinHandle<()>>,
}

/// Counts the media that exist.
#[derive(Default)]
struct Living {
    count: AtomicUsize,
    lock: Mutex<()>,
    changed: Condvar,
}

impl Server {
    pub(crate) fn start(
        options: &CameraOptions,
        feeder: &Arc<feeder::Shared>,
        packets: &Packets,
    ) -> Result<Self, TestCameraError> {
        let failed = |what: &str| TestCameraError::GStreamer(what.into());
        let certificate = options.tls.as_ref().map(certificate).transpose()?;
        let context = glib::MainContext::new();
        let server = RTSPServer::new();
        server.set_address(&options.address.to_string());
        // Behind the relay, which has the port that clients know, any will do.
        let service = if options.has_relay() { 0 } else { options.port };
        server.set_service(&service.to_string());
        // The default of 5 makes a crowd of clients that connect at once wait for SYN retries.
        server.set_backlog(128);
        let threads = RTSPThreadPool::new();
        // Clients are served by the server's own thread: one thread less to end.
        threads.set_max_threads(0);
        server.set_thread_pool(Some(&threads));
        let open_auth = open_auth(options, certificate.as_ref());
        let refusing_auth = RTSPAuth::new();
        refusing_auth.set_supported_methods(RTSPAuthMethod::Digest);
        refusing_auth.set_tls_certificate(certificate.as_ref());
        server.set_auth(open_auth.as_ref());
        let living = Arc::new(Living::default());
        let mounts = server.mount_points().ok_or_else(|| failed("the RTSP server has no mount points"))?;
        mounts.add_factory(MOUNT_POINT, factory(options, feeder, packets, &living)?);
        let source = server
            .create_source(gio::Cancellable::NONE)
            .map_err(|error| failed(&format!("the RTSP server cannot listen: {error}")))?;
        source.attach(Some(&context));
        let port = u16::try_from(server.bound_port()).map_err(|_| failed("the RTSP server has no port"))?;
        let main_loop = glib::MainLoop::new(Some(&context), false);
        let (thread_context, thread_loop) = (context.clone(), main_loop.clone());
        let thread = std::thread::Builder::new()
            .name("testcam-rtsp".into())
            .spawn(move || {
                let _ = thread_context.with_thread_default(|| thread_loop.run());
            })
            .map_err(|error| failed(&format!("no thread can be started: {error}")))?;
        let address = SocketAddr::from((options.address, port));
        let thread = Some(thread);
        let (options, feeder, packets) = (options.clone(), feeder.clone(), packets.clone());
        Ok(Self {
            server,
            address,
            context,
            main_loop,
            source,
            open_auth,
            refusing_auth,
            living,
            options,
            feeder,
            packets,
            thread,
        })
    }

    /// Clients that are connected.
    pub(crate) fn clients(&self) -> usize {
        self.server.client_filter(None).len()
    }

    /// Where the server listens.
    pub(crate) fn address(&self) -> SocketAddr {
        self.address
    }

    /// Answers every authentication of new connections with 401 while `refusing`.
    pub(crate) fn refuse_credentials(&self, refusing: bool) {
        if refusing {
            self.server.set_auth(Some(&self.refusing_auth));
        } else {
            self.server.set_auth(self.open_auth.as_ref());
        }
    }

    /// Serves new sessions in this codec, with media of their own; `None` is the camera's.
    pub(crate) fn set_codec(&self, codec: Option<Codec>) -> Result<(), TestCameraError> {
        let codec = codec.unwrap_or(self.options.codec);
        media::check_elements(codec)?;
        let options = CameraOptions { codec, ..self.options.clone() };
        let factory = factory(&options, &self.feeder, &self.packets, &self.living)?;
        if let Some(mounts) = self.server.mount_points() {
            mounts.add_factory(MOUNT_POINT, factory);
        }
        Ok(())
    }

    /// RTP payloads of a second of video in this codec.
    pub(crate) fn foreign_payloads(&self, codec: Codec) -> Result<Vec<Vec<u8>>, TestCameraError> {
        media::payloads(&CameraOptions { codec, ..self.options.clone() })
    }

    /// Runs `work` on the server's thread and waits for it.
    fn on_thread(&self, work: impl FnOnce() + Send + 'static) {
        let (done, wait): (SyncSender<()>, _) = sync_channel(1);
        self.context.invoke(move || {
            work();
            let _ = done.send(());
        });
        let _ = wait.recv_timeout(STOP_PATIENCE);
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.source.destroy();
        let server = self.server.clone();
        self.on_thread(move || {
            server.client_filter(Some(&mut |_, _| RTSPFilterResult::Remove));
            if let Some(sessions) = server.session_pool() {
                sessions.filter(Some(&mut |_, _| RTSPFilterResult::Remove));
            }
            if let Some(mounts) = server.mount_points() {
                mounts.remove_factory(MOUNT_POINT);
            }
        });
        self.living.wait_for_none();
        self.main_loop.quit();
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
        // GLib keeps idle threads for later media for 15 s.
        glib::ThreadPool::stop_unused_threads();
    }
}

impl Living {
    fn add(self: &Arc<Self>, media: &gst_rtsp_server::RTSPMedia) {
        self.count.fetch_add(1, SeqCst);
        let living = self.clone();
        let _ = media.add_weak_ref_notify(move || {
            let _guard = living.lock.lock();
            living.count.fetch_sub(1, SeqCst);
            living.changed.notify_all();
        });
    }

    fn wait_for_none(&self) {
        let Ok(guard) = self.lock.lock() else { return };
        let _ = self.changed.wait_timeout_while(guard, STOP_PATIENCE, |()| self.count.load(SeqCst) > 0);
    }
}

fn factory(
    options: &CameraOptions,
    feeder: &Arc<feeder::Shared>,
    packets: &Packets,
    living: &Arc<Living>,
) -> Result<RTSPMediaFactory, TestCameraError> {
    let factory = RTSPMediaFactory::new();
    factory.set_launch(&media::launch_line(options));
    // One encoder for all clients.
    factory.set_shared(true);
    factory.set_protocols(RTSPLowerTrans::UDP | RTSPLowerTrans::TCP);
    let addresses = RTSPAddressPool::new();
    let address = options.address.to_string();
    addresses
        .add_range(&address, &address, *UDP_PORTS.start(), *UDP_PORTS.end(), 0)
        .map_err(|_| TestCameraError::GStreamer("the UDP ports are not accepted".into()))?;
    factory.set_address_pool(Some(&addresses));
    let viewer = gst::Structure::builder(VIEWER)
        .field("media.factory.access", true)
        .field("media.factory.construct", true)
        .build();
    factory.add_role_from_structure(&viewer);
    let (feeder, packets, living, codec) = (feeder.clone(), packets.clone(), living.clone(), options.codec);
    factory.connect_media_configure(move |_, media| {
        living.add(media);
        media::configure(media, codec, &feeder, &packets);
    });
    Ok(factory)
}

/// Authentication as the options want it: none, a password, or everybody (over TLS, which needs an
/// authentication to hold the certificate).
fn open_auth(options: &CameraOptions, certificate: Option<&gio::TlsCertificate>) -> Option<RTSPAuth> {
    if options.credentials.is_none() && certificate.is_none() {
        return None;
    }
    let auth = RTSPAuth::new();
    auth.set_tls_certificate(certificate);
    let mut viewer = RTSPToken::builder().field("media.factory.role", VIEWER).build();
    match &options.credentials {
        Some(credentials) => {
            auth.set_supported_methods(RTSPAuthMethod::Digest);
            auth.add_digest(&credentials.user, &credentials.password, &viewer);
        }
        None => auth.set_default_token(Some(&mut viewer)),
    }
    Some(auth)
}

fn certificate(tls: &Tls) -> Result<gio::TlsCertificate, TestCameraError> {
    let loaded = match tls {
        Tls::SelfSigned => gio::TlsCertificate::from_pem(concat!(
            include_str!("../tls/certificate.pem"),
            include_str!("../tls/key.pem")
        )),
        Tls::Files { certificate, key } => gio::TlsCertificate::from_files(certificate, key),
    };
    loaded.map_err(|error| {
        TestCameraError::Tls(format!("{error}; it must be PEM, and glib-networking must be installed"))
    })
}
