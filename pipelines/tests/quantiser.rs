//! How coarsely pictures are coded is read from their headers as the encoder was told, in whichever form they come.

mod common;

use std::path::Path;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use common::{make, now};
use watchpost_pipelines::{CodedPicture, Event, Frame, Judgement, PictureKind};
use watchpost_pipelines::{Pipeline, Receiver, SourceKind, Spec};

#[derive(Default)]
struct Seen {
    coded: Vec<CodedPicture>,
    over: bool,
}

#[derive(Default)]
struct Reader(Mutex<Seen>);

impl Receiver for Reader {
    fn frame(&self, _frame: Frame) {}

    fn event(&self, event: Event) {
        if matches!(event, Event::Eos | Event::Error(_)) {
            assert_eq!(event, Event::Eos);
            self.0.lock().unwrap().over = true;
        }
    }

    fn judge(&self, picture: CodedPicture) -> Judgement {
        self.0.lock().unwrap().coded.push(picture);
        Judgement::Decode
    }
}

fn coded(path: &Path) -> Vec<CodedPicture> {
    let kind = SourceKind::File { path: path.to_owned() };
    let spec = Spec { realtime: false, ..Spec::new(kind) };
    let reader = Arc::new(Reader::default());
    let pipeline = Pipeline::start(&spec, "reader", reader.clone()).expect("it starts");
    let deadline = now() + Duration::from_secs(60);
    while !reader.0.lock().unwrap().over {
        assert!(now() < deadline, "no end");
        std::thread::park_timeout(Duration::from_millis(5));
    }
    pipeline.stop();
    std::mem::take(&mut reader.0.lock().unwrap().coded)
}

/// At a constant quantiser x264 and x265 code predicted pictures with just that.
#[test]
fn the_quantiser_is_the_one_that_the_encoder_was_told() {
    let folder = tempfile::tempdir().unwrap();
    for (number, (encode, name)) in [
        // CAVLC, one slice and several; lengths, and parameter sets out of band.
        ("x264enc tune=zerolatency pass=quant quantizer=QP ! video/x-h264,profile=baseline ! h264parse ! mp4mux", "mp4"),
        // CABAC, weighted and reordered references, 8x8 transforms; start codes, and parameter sets in band.
        (
            "x264enc bframes=3 b-pyramid=true weightb=true ref=4 dct8x8=true pass=quant quantizer=QP option-string=weightp=2 \
             ! video/x-h264,profile=high ! h264parse ! mpegtsmux",
            "ts",
        ),
        // Fields.
        ("x264enc interlaced=true bframes=2 pass=quant quantizer=QP ! h264parse ! mpegtsmux", "ts"),
        ("x264enc pass=quant quantizer=QP ! video/x-h264,profile=high-4:4:4 ! h264parse ! matroskamux", "mkv"),
        ("x265enc qp=QP option-string=bframes=0:weightp=1 ! h265parse ! matroskamux", "mkv"),
        ("x265enc qp=QP option-string=bframes=4:b-pyramid=1:ref=4:weightb=1:slices=2 ! h265parse ! mpegtsmux", "ts"),
    ]
    .into_iter()
    .enumerate()
    {
        for qp in [19_i8, 38] {
            let path = folder.path().join(format!("{number}-{qp}.{name}"));
            let format = if encode.contains("4:4:4") { "Y444" } else { "I420" };
            let source = format!(
                "videotestsrc num-buffers=30 pattern=smpte horizontal-speed=3 ! video/x-raw,width=320,height=256,format={format}"
            );
            make(&format!("{source} ! {}", encode.replace("QP", &qp.to_string())), &path);
            let coded = coded(&path);
            assert!(coded.len() >= 30, "{encode}: {}", coded.len());
            assert!(coded.iter().all(|picture| picture.qp.is_some()), "{encode}: {coded:?}");
            let is_told = |picture: &&CodedPicture| picture.qp == Some(qp);
            let told = coded.iter().filter(is_told).count();
            assert!(told >= coded.len() / 5, "{encode}: {told} of {coded:?}");
            // Key pictures are finer, those that nobody needs coarser, by a fixed step.
            let near = |picture: &CodedPicture| picture.qp.is_some_and(|own| (own - qp).abs() <= 6);
            assert!(coded.iter().all(near), "{encode}: {coded:?}");
            let disposable = coded.iter().filter(|one| one.kind == PictureKind::Disposable);
            assert!(disposable.clone().all(|one| one.qp >= Some(qp)), "{encode}");
        }
    }
}
