//! temp
#[path = "../tests/common/mod.rs"]
mod common;
fn main() {
    let a: Vec<String> = std::env::args().collect();
    let mut o = common::ServerOptions {
        mounts: vec![
            ("/stream", common::launch(&a[1])),
            ("/audio", "( audiotestsrc is-live=true ! alawenc ! rtppcmapay name=pay0 )".into()),
            ("/vp8", format!("( {} ! vp8enc deadline=1 ! rtpvp8pay name=pay0 )", common::PICTURES)),
            (
                "/both",
                format!(
                    "( {} ! x264enc tune=zerolatency ! rtph264pay name=pay0 audiotestsrc is-live=true ! alawenc ! rtppcmapay name=pay1 )",
                    common::PICTURES
                ),
            ),
        ],
        ..Default::default()
    };
    if a.len() > 2 && a[2] != "-" {
        o.login = Some(("viewer", "Canary77"));
    }
    if a.len() > 3 {
        o.certificate = Some(a[3].clone().into());
    }
    let s = common::Server::start(o);
    println!("{}", s.url(""));
    loop {
        std::thread::park();
    }
}
