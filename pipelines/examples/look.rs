//! Prints what a source says: `look URL|FILE [USER PASSWORD]`.
use std::sync::Arc;
use watchpost_pipelines::*;
struct P;
impl Receiver for P {
    fn frame(&self, f: Frame) {
        println!("{f:?} age {:?} cap {:?} {:?} {:?}", f.age(), f.capture_unix_ns(), f.matrix(), f.range());
    }
    fn event(&self, e: Event) {
        println!("EVENT {e:?}");
    }
}
#[allow(clippy::disallowed_methods)]
fn main() {
    tracing_subscriber::fmt().with_env_filter(tracing_subscriber::EnvFilter::from_default_env()).init();
    let a: Vec<String> = std::env::args().collect();
    let kind = if a[1].starts_with("rtsp") {
        SourceKind::Rtsp { url: a[1].clone() }
    } else if a[1].starts_with("/dev") {
        SourceKind::V4l2 { device: a[1].clone().into() }
    } else {
        SourceKind::File { path: a[1].clone().into() }
    };
    let mut spec = Spec::new(kind);
    spec.realtime = std::env::var_os("FAST").is_none();
    spec.template = std::env::var("TEMPLATE").ok();
    if std::env::var_os("UDP").is_some() {
        spec.transport = Transport::Udp;
    }
    if a.len() > 3 {
        spec.credentials = Some(Credentials { username: a[2].clone(), password: a[3].clone() });
    }
    let secs: u64 = std::env::var("SECS").map_or(3, |s| s.parse().unwrap());
    if std::env::var_os("PROBE").is_some() {
        println!("{:#?}", probe(&spec, std::time::Duration::from_secs(secs)));
        return;
    }
    let t = std::time::Instant::now();
    let p = Pipeline::start(&spec, "look", Arc::new(P));
    println!("start took {:?}", t.elapsed());
    match p {
        Err(e) => println!("START ERROR {e:?}"),
        Ok(p) => {
            std::thread::sleep(std::time::Duration::from_secs(secs));
            let t = std::time::Instant::now();
            p.stop();
            println!("stop took {:?}", t.elapsed());
        }
    }
    println!("open {} live {:?}", open_pipelines(), live_objects());
}
