//! Files, images, and templates of one's own.

mod common;

use std::path::PathBuf;
use std::time::Duration;

use common::{Recorder, Seen, make, now, seen, shared};
use gstreamer as gst;
use watchpost_pipelines::{
    Failure, FailureClass, Pipeline, PixelFormat, Pull, SourceKind, Spec, StartError, probe,
};

const PATIENCE: Duration = Duration::from_secs(20);

fn file(path: impl Into<PathBuf>) -> Spec {
    Spec { realtime: false, ..Spec::new(SourceKind::File { path: path.into() }) }
}

fn image(path: impl Into<PathBuf>) -> Spec {
    Spec { realtime: false, ..Spec::new(SourceKind::Image { path: path.into() }) }
}

/// All frames, or the failure that came instead of the end.
fn all(spec: &Spec) -> Result<Vec<Seen>, Failure> {
    let pipeline = Pipeline::start_pull(spec, "file").map_err(StartError::into_failure)?;
    let mut frames = Vec::new();
    loop {
        match pipeline.pull(PATIENCE) {
            Pull::Frame(frame) => frames.push(seen(&frame)),
            Pull::Eos => return Ok(frames),
            Pull::Error(failure) => return Err(failure),
            Pull::TimedOut => panic!("nothing for {PATIENCE:?} after {} frames", frames.len()),
        }
    }
}

#[test]
fn every_frame_of_a_clip_is_pulled_once_and_in_order() {
    let Some(shared) = shared() else { return };
    for (name, count, size) in
        [("car-detection.mp4", 377, (768, 432)), ("people-walking-720p.mp4", 314, (1280, 720))]
    {
        for decode_threads in [1, 3] {
            let frames = all(&Spec { decode_threads, ..file(shared.join("footage").join(name)) }).unwrap();
            assert_eq!(frames.len(), count, "{name} with {decode_threads} threads");
            assert!(frames.iter().all(|frame| frame.size == size), "{name}");
            assert!(frames.is_sorted_by(|a, b| a.pts_ns < b.pts_ns), "{name}");
            assert_eq!(frames[0].pts_ns, Some(0), "{name}");
        }
    }
}

#[test]
fn a_slow_reader_gets_every_frame_too() {
    let Some(shared) = shared() else { return };
    let pipeline = Pipeline::start_pull(&file(shared.join("footage/car-detection.mp4")), "slow").unwrap();
    let mut count = 0;
    loop {
        match pipeline.pull(PATIENCE) {
            Pull::Frame(_) => count += 1,
            Pull::Eos => break,
            other => panic!("{other:?}"),
        }
        if count % 50 == 0 {
            std::thread::park_timeout(Duration::from_millis(30));
        }
    }
    assert_eq!(count, 377);
    assert!(matches!(pipeline.pull(PATIENCE), Pull::Eos), "the end stays the end");
}

#[test]
fn a_pull_pipeline_stops_in_the_middle() {
    let Some(shared) = shared() else { return };
    let pipeline =
        Pipeline::start_pull(&file(shared.join("footage/people-walking-720p.mp4")), "half").unwrap();
    for _ in 0..10 {
        assert!(matches!(pipeline.pull(PATIENCE), Pull::Frame(_)));
    }
    let asked = now();
    pipeline.stop();
    assert!(asked.elapsed() < Duration::from_secs(2), "stopping took {:?}", asked.elapsed());
}

#[test]
fn a_file_in_real_time_plays_at_its_own_pace() {
    let Some(shared) = shared() else { return };
    let recorder = Recorder::new();
    let spec = Spec { realtime: true, ..file(shared.join("footage/car-detection.mp4")) };
    let started = now();
    let pipeline = Pipeline::start(&spec, "paced", recorder.clone()).unwrap();
    let last = recorder.wait("11 frames", 20, |memory| memory.frames_total >= 11).frames[10].pts_ns;
    // Ten gaps of 80 ms.
    assert!(started.elapsed() >= Duration::from_millis(800), "{:?}", started.elapsed());
    assert_eq!(last, Some(800_000_000));
    pipeline.stop();
}

#[test]
fn a_file_that_is_pulled_in_real_time_keeps_its_pace_and_loses_nothing() {
    let Some(shared) = shared() else { return };
    let spec = Spec { realtime: true, ..file(shared.join("footage/car-detection.mp4")) };
    let started = now();
    let pipeline = Pipeline::start_pull(&spec, "paced").unwrap();
    for number in 0..11 {
        let Pull::Frame(frame) = pipeline.pull(PATIENCE) else { panic!("frame {number}") };
        let pts = Duration::from_millis(80 * number);
        assert_eq!(frame.pts_ns().map(Duration::from_nanos), Some(pts), "none is left out");
        assert!(started.elapsed() >= pts, "frame {number} came after {:?}", started.elapsed());
    }
    pipeline.stop();
}

#[test]
fn photos_are_one_frame_each() {
    let Some(shared) = shared() else { return };
    for (name, size) in [
        ("bus.jpg", (810, 1080)),
        ("zidane.jpg", (1280, 720)),
        ("dog.jpg", (768, 576)),
        ("sofa-cats.jpg", (640, 480)),
    ] {
        let frames = all(&image(shared.join("footage/photos").join(name))).unwrap();
        assert_eq!(frames.iter().map(|frame| frame.size).collect::<Vec<_>>(), [size], "{name}");
    }
}

#[test]
fn images_of_every_kind_open_in_odd_sizes() {
    let folder = tempfile::tempdir().unwrap();
    for (kind, encoder) in [
        ("jpg", "jpegenc"),
        ("png", "pngenc"),
        ("webp", "webpenc"),
        ("bmp", "videoconvert ! video/x-raw,format=BGR ! avenc_bmp"),
    ] {
        let path = folder.path().join(format!("picture.{kind}"));
        let source = "videotestsrc num-buffers=1 pattern=white ! video/x-raw,width=321,height=123";
        make(&format!("{source} ! videoconvert ! {encoder}"), &path);
        for spec in [image(&path), file(&path)] {
            let frames = all(&spec).unwrap_or_else(|failure| panic!("{kind}: {failure}"));
            assert_eq!(frames.iter().map(|frame| frame.size).collect::<Vec<_>>(), [(321, 123)], "{kind}");
            assert!(frames[0].luma > 230.0, "{kind}: white has luma {}", frames[0].luma);
        }
    }
}

#[test]
fn containers_and_codecs_beyond_the_table_open() {
    let folder = tempfile::tempdir().unwrap();
    let source = "videotestsrc num-buffers=12 ! video/x-raw,width=160,height=120,framerate=25/1,format=I420";
    for (name, encode) in [
        ("a.webm", "vp8enc deadline=1 ! webmmux"),
        ("a.mkv", "x265enc ! h265parse ! matroskamux"),
        ("a.ts", "x264enc ! h264parse ! mpegtsmux"),
        ("jpeg.avi", "jpegenc ! avimux"),
        ("raw.avi", "avimux"),
        ("mpeg4.avi", "avenc_mpeg4 ! avimux"),
    ] {
        let path = folder.path().join(name);
        make(&format!("{source} ! {encode}"), &path);
        let frames = all(&file(&path)).unwrap_or_else(|failure| panic!("{name}: {failure}"));
        assert_eq!(frames.len(), 12, "{name}");
        assert!(frames.iter().all(|frame| frame.size == (160, 120)), "{name}");
    }
}

#[test]
fn sound_beside_the_pictures_is_no_trouble() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("both.mkv");
    make(
        "matroskamux name=mux videotestsrc num-buffers=50 ! video/x-raw,framerate=25/1 ! x264enc ! h264parse ! mux. \
         audiotestsrc num-buffers=100 ! flacenc ! mux. mux.",
        &path,
    );
    assert_eq!(all(&file(&path)).unwrap().len(), 50);
}

#[test]
fn sound_alone_is_no_video() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("sound.wav");
    make("audiotestsrc num-buffers=10 ! wavenc", &path);
    let failure = all(&file(&path)).unwrap_err();
    // parsebin may give up before it has shown the sound.
    assert!(matches!(failure.class, FailureClass::NoVideo | FailureClass::Decode), "{failure}");
    assert!(
        failure.message.contains("no video stream") || failure.message.contains("not a video"),
        "{failure}"
    );
}

#[test]
fn what_is_not_there_or_not_a_video_is_said_clearly() {
    let folder = tempfile::tempdir().unwrap();
    let write = |name: &str, bytes: &[u8]| {
        let path = folder.path().join(name);
        std::fs::write(&path, bytes).unwrap();
        path
    };
    let noise: Vec<u8> = (0..65_536_u32).map(|i| (i.wrapping_mul(2_654_435_761) >> 13) as u8).collect();
    let mut box_of_noise = b"\0\0\0\x18ftypmp42\0\0\0\0mp42isom".to_vec();
    box_of_noise.extend(&noise);
    for (path, class, words) in [
        (folder.path().join("missing.mp4"), FailureClass::NotFound, "does not exist"),
        (folder.path().to_owned(), FailureClass::Decode, "folder"),
        (write("empty.mp4", b""), FailureClass::Decode, "is empty"),
        (write("noise.mp4", &noise), FailureClass::Decode, "not a video"),
        (write("text.mp4", b"this is a text and no video\n"), FailureClass::Decode, "not a video"),
        (write("box.mp4", &box_of_noise), FailureClass::Decode, "not a video"),
        (write("cut.jpg", b"\xff\xd8\xff\xe0\0\x10JFIF\0"), FailureClass::Decode, "not a video"),
    ] {
        for spec in [file(&path), image(&path)] {
            let failure = all(&spec).unwrap_err();
            assert_eq!(failure.class, class, "{}: {failure}", path.display());
            assert!(failure.message.contains(words), "{failure}");
            assert!(failure.message.contains(&path.display().to_string()), "{failure}");
        }
    }
}

#[test]
fn a_truncated_clip_fails_or_ends_and_never_hangs() {
    let Some(shared) = shared() else { return };
    let whole = std::fs::read(shared.join("footage/car-detection.mp4")).unwrap();
    let folder = tempfile::tempdir().unwrap();
    for part in [0.02, 0.5, 0.99] {
        let path = folder.path().join("cut.mp4");
        std::fs::write(&path, &whole[..(whole.len() as f64 * part) as usize]).unwrap();
        match all(&file(&path)) {
            Ok(frames) => assert!(frames.len() < 377, "{part}: {}", frames.len()),
            Err(failure) => assert_eq!(failure.class, FailureClass::Decode, "{part}: {failure}"),
        }
    }
}

#[test]
fn damage_in_the_middle_costs_frames_and_nothing_else() {
    let Some(shared) = shared() else { return };
    let mut clip = std::fs::read(shared.join("footage/people-walking-720p.mp4")).unwrap();
    let middle = clip.len() / 2;
    for byte in &mut clip[middle..middle + 20_000] {
        *byte = byte.wrapping_mul(31).wrapping_add(7);
    }
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("damaged.mp4");
    std::fs::write(&path, clip).unwrap();
    match all(&file(&path)) {
        Ok(frames) => assert!(frames.len() > 150 && frames.len() <= 314, "{}", frames.len()),
        Err(failure) => assert_eq!(failure.class, FailureClass::Decode, "{failure}"),
    }
}

#[test]
fn the_size_may_change_in_mid_stream() {
    let template = "videotestsrc num-buffers=5 ! video/x-raw,format=I420,width=320,height=240 ! concat name=all \
                    ! videoconvert ! appsink name=sink \
                    videotestsrc num-buffers=5 ! video/x-raw,format=NV12,width=641,height=361 ! all.";
    let spec = Spec { template: Some(template.to_owned()), ..file("/dev/zero") };
    let frames = all(&spec).unwrap();
    let shapes: Vec<_> = frames.iter().map(|frame| (frame.size, frame.format)).collect();
    assert_eq!(shapes[..5], [((320, 240), PixelFormat::I420); 5]);
    assert_eq!(shapes[5..], [((641, 361), PixelFormat::Nv12); 5]);
}

#[test]
fn other_formats_are_converted_and_ours_are_left_alone() {
    for (from, to) in [
        ("I420", PixelFormat::I420),
        ("NV12", PixelFormat::Nv12),
        ("Y42B", PixelFormat::Y42b),
        ("Y444", PixelFormat::Y444),
        ("GRAY8", PixelFormat::Gray8),
        ("YUY2", PixelFormat::Y42b),
        ("BGRx", PixelFormat::Y444),
        ("I420_10LE", PixelFormat::I420),
    ] {
        let template = format!(
            "videotestsrc num-buffers=1 pattern=white ! video/x-raw,format={from},width=63,height=47 \
             ! videoconvert n-threads=1 ! appsink name=sink"
        );
        let frames = all(&Spec { template: Some(template), ..file("/dev/zero") }).unwrap();
        assert_eq!(frames.iter().map(|frame| frame.format).collect::<Vec<_>>(), [to], "{from}");
        assert!(frames[0].luma > 230.0, "{from}: white has luma {}", frames[0].luma);
    }
}

#[test]
fn a_camera_element_gets_the_decoder_that_its_format_takes() {
    for camera in [
        "videotestsrc name=camera num-buffers=3",
        "videotestsrc num-buffers=3 ! video/x-raw,format=I420 ! jpegenc name=camera",
        "videotestsrc num-buffers=3 ! x264enc name=camera",
    ] {
        let template = format!("{camera} videoconvert name=raw ! appsink name=sink");
        let frames = all(&Spec { template: Some(template), ..file("/dev/zero") });
        assert_eq!(frames.map(|frames| frames.len()), Ok(3), "{camera}");
    }
}

#[test]
fn a_template_that_cannot_work_says_what_it_needs() {
    let start = |template: &str| {
        let spec = Spec { template: Some(template.to_owned()), ..file("/dev/zero") };
        Pipeline::start_pull(&spec, "template").map(drop).unwrap_err()
    };
    for (template, words) in [
        ("videotestsrc ! fakesink", "appsink name=sink"),
        ("videotestsrc ! fakesink name=sink", "appsink name=sink"),
        ("appsink name=sink", "single element"),
        ("videotestsrc ! video/x-raw,width={width} ! appsink name=sink", "{width}"),
        ("rtspsrc location={url} ! appsink name=sink", "{url}"),
        ("videotestsrc no-such-property=1 ! appsink name=sink", "no-such-property"),
        ("videotestsrc ! ! appsink name=sink", "syntax"),
        ("", "empty"),
    ] {
        let error = start(template);
        assert!(matches!(error, StartError::Template { .. }), "{template}: {error:?}");
        assert!(error.to_string().contains(words), "{template}: {error}");
    }
    let missing = start("nosuchelement ! appsink name=sink").into_failure();
    assert!(matches!(missing.class, FailureClass::MissingElement { .. }), "{missing:?}");
    assert!(missing.message.contains("nosuchelement"), "{missing}");
}

#[test]
fn a_csi_camera_without_its_elements_names_the_packages() {
    watchpost_pipelines::init().unwrap();
    if ["libcamerasrc", "nvarguscamerasrc"].iter().any(|name| gst::ElementFactory::find(name).is_some()) {
        eprintln!("NOT TESTED: this machine has an element for CSI cameras");
        return;
    }
    let spec = Spec::new(SourceKind::Csi { sensor_index: 0 });
    let failure = Pipeline::start(&spec, "csi", Recorder::new()).unwrap_err().into_failure();
    assert!(matches!(failure.class, FailureClass::MissingElement { .. }), "{failure:?}");
    for word in ["gstreamer1.0-libcamera", "nvidia-l4t-gstreamer"] {
        assert!(failure.message.contains(word), "{failure}");
    }
}

#[test]
fn a_v4l2_device_that_is_none_is_said_clearly() {
    let missing = Spec::new(SourceKind::V4l2 { device: "/dev/video-nowhere".into() });
    let failure = Pipeline::start(&missing, "usb", Recorder::new()).unwrap_err().into_failure();
    assert_eq!(failure.class, FailureClass::NotFound, "{failure}");
    let null = Spec::new(SourceKind::V4l2 { device: "/dev/null".into() });
    let failure = Pipeline::start(&null, "usb", Recorder::new()).unwrap_err().into_failure();
    assert!(failure.message.contains("/dev/null"), "{failure}");
}

#[test]
fn probe_reads_a_file() {
    let Some(shared) = shared() else { return };
    let report = probe(&file(shared.join("footage/car-detection.mp4")), PATIENCE).unwrap();
    assert_eq!((report.width, report.height, report.fps), (768, 432, Some(12.5)));
    assert_eq!(report.codec.as_deref(), Some("H.264"));
    assert_eq!(report.transport, None);
}
