//! `detect --annotate`: every frame is there, at its time, with what was detected; and nothing half-written.

#[path = "program/disk.rs"]
mod disk;
mod program;

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::io::{BufReader, Read};
use std::path::Path;
use std::process::Command;
use std::time::Duration;

use disk::Disk;
use program::onnx_writer::{F32, Onnx, dims, node, tensor, weights};
use program::{PATIENCE, Running, contents, run, watchpost};
use rustix::process::Signal;
use watchpost_pipelines::{Layout, Pipeline, Pull, Recording, SourceKind, Spec};

/// A YOLOv8 detector with a fixed idea: whatever it is shown, there is one object, at 0.9, in the middle 24 by 16 of its
/// 64 by 64 pixels.
fn stubborn_detector(label: &str) -> Vec<u8> {
    let shape = [1, 6, 84];
    let mut output = vec![0.0; 6 * 84];
    for (row, value) in [32.0, 32.0, 24.0, 16.0, 0.9].into_iter().enumerate() {
        output[row * 84] = value;
    }
    let onnx = Onnx {
        inputs: vec![tensor("images", F32, &dims(&[1, 3, 64, 64]))],
        outputs: vec![tensor("output", F32, &dims(&shape))],
        nodes: vec![node("Identity", &["w"], &["output"])],
        weights: vec![weights("w", &shape, &output)],
        metadata: vec![("task", "detect".to_owned()), ("names", format!("{{0: '{label}', 1: 'other'}}"))],
    };
    onnx.encode()
}

/// A folder with the detector and a clip of `count` grey pictures, 320 by 320, at uneven times; their times in microseconds.
fn workplace(label: &str, count: u64) -> (tempfile::TempDir, Vec<u64>) {
    let folder = tempfile::tempdir().expect("a folder");
    fs::write(folder.path().join("m.onnx"), stubborn_detector(label)).expect("written");
    let mut recording = Recording::start(&folder.path().join("clip.mp4"), 320, 320).expect("an encoder");
    let mut times_us = Vec::new();
    let mut at_us = 0;
    for index in 0..count {
        let grey = vec![80 + (index % 40) as u8; 3 * 320 * 320];
        recording.push(&grey, 320, 320, at_us * 1000, Duration::from_millis(30)).expect("pushed");
        times_us.push(at_us);
        at_us += 20_000 + index % 5 * 10_000;
    }
    recording.finish().expect("whole");
    (folder, times_us)
}

fn detect(folder: &Path, args: &[&str]) -> Command {
    let mut command = watchpost(folder);
    command.args(["detect", "-m", "m.onnx", "-o", "/dev/null"]).args(args);
    command
}

/// What a film shows: the time of each frame in microseconds, and its size with luma planes.
fn film(path: &Path) -> Vec<(u64, usize, usize, Vec<u8>)> {
    let spec = Spec { realtime: false, ..Spec::new(SourceKind::File { path: path.to_owned() }) };
    let pipeline = Pipeline::start_pull(&spec, "film").expect("a film");
    let mut frames = Vec::new();
    loop {
        match pipeline.pull(PATIENCE) {
            Pull::Frame(frame) => {
                let picture = frame.picture().expect("in system memory");
                let (width, height) = (picture.width as usize, picture.height as usize);
                let Layout::Planar { y, .. } = picture.layout else { panic!("{:?}", picture.layout) };
                let luma = (0..height).flat_map(|row| y.row(row, width).to_vec()).collect();
                frames.push((frame.pts_ns().expect("a time") / 1000, width, height, luma));
            }
            Pull::Eos => return frames,
            other => panic!("{other:?}"),
        }
    }
}

fn png(path: &Path) -> (usize, usize, Vec<u8>) {
    let mut reader =
        png::Decoder::new(BufReader::new(File::open(path).expect("a picture"))).read_info().expect("PNG");
    let mut pixels = vec![0; reader.output_buffer_size().expect("a size")];
    let info = reader.next_frame(&mut pixels).expect("whole");
    (info.width as usize, info.height as usize, pixels)
}

fn names(folder: &Path) -> Vec<String> {
    let mut names: Vec<String> = fs::read_dir(folder)
        .expect("a folder")
        .map(|entry| entry.expect("an entry").file_name().to_string_lossy().into_owned())
        .collect();
    names.sort();
    names
}

#[test]
fn a_film_has_every_frame_at_its_time_with_the_box_in_it() {
    let (folder, times_us) = workplace("person", 40);
    let ended = run(&mut detect(folder.path(), &["clip.mp4", "--annotate", "seen.mp4"]));
    ended.expect("a film", 0, &[]);
    let frames = film(&folder.path().join("seen.mp4"));
    assert_eq!(frames.len(), times_us.len());
    for (index, ((at, width, height, luma), expected)) in frames.iter().zip(&times_us).enumerate() {
        assert_eq!((*width, *height), (320, 320));
        assert!(at.abs_diff(*expected) < 100, "frame {index} is at {at} µs and was at {expected} µs");
        // The box is 100..220 by 120..200, its color lighter than the ground.
        let pixel = |x: usize, y: usize| i32::from(luma[y * 320 + x]);
        let ground = pixel(160, 160);
        for (x, y) in [(100, 160), (219, 160), (160, 120), (160, 199)] {
            assert!(pixel(x, y) - ground > 25, "frame {index}: {} on {ground} at {x} {y}", pixel(x, y));
        }
        assert!(
            (pixel(90, 160) - ground).abs() < 12 && (pixel(160, 250) - ground).abs() < 12,
            "frame {index}"
        );
        // The label's plate above it.
        assert!((pixel(140, 116) - ground).abs() > 20, "frame {index}: no label");
    }
    assert_eq!(names(folder.path()), ["clip.mp4", "m.onnx", "seen.mp4"]);
}

#[test]
fn a_folder_has_a_picture_for_each_frame_in_order() {
    let (folder, _) = workplace("person", 12);
    let args = ["clip.mp4", "--annotate", "seen", "--every", "3", "--max-frames", "10"];
    run(&mut detect(folder.path(), &args)).expect("a folder", 0, &[]);
    let expected = [1, 4, 7, 10].map(|seq| format!("0001-clip-{seq:08}.png"));
    assert_eq!(names(&folder.path().join("seen")), expected);
    let (width, height, pixels) = png(&folder.path().join("seen").join(&expected[1]));
    assert_eq!((width, height), (320, 320));
    let pixel = |x: usize, y: usize| &pixels[3 * (y * 320 + x)..][..3];
    assert_eq!(pixel(100, 160), [86, 180, 233], "the first class's color");
    assert_eq!(pixel(219, 160), [86, 180, 233]);
    assert!(pixel(160, 160)[0].abs_diff(83) < 8, "the ground shows through: {:?}", pixel(160, 160));
}

#[test]
fn a_camera_s_zones_lines_and_masks_are_drawn() {
    let (folder, _) = workplace("person", 2);
    let model = folder.path().join("m.onnx");
    let config = format!(
        r#"
        [detector]
        model = "{}"
        [camera.gate]
        url = "test://scene"
        privacy_masks = [[[0.0, 0.0], [0.25, 0.0], [0.25, 0.25], [0.0, 0.25]]]
        [camera.gate.zone.door]
        polygon = [[0.75, 0.75], [1.0, 0.75], [1.0, 1.0], [0.75, 1.0]]
        [camera.gate.line.kerb]
        from = [0.1, 0.9]
        to = [0.5, 0.9]
        "#,
        model.display()
    );
    fs::write(folder.path().join("w.toml"), config).expect("written");
    let args =
        ["detect", "clip.mp4", "--as", "gate", "-c", "w.toml", "--annotate", "seen", "-o", "/dev/null"];
    run(watchpost(folder.path()).args(args)).expect("zones", 0, &[]);
    let seen = folder.path().join("seen");
    let (_, _, pixels) = png(&seen.join(&names(&seen)[0]));
    let pixel = |x: usize, y: usize| &pixels[3 * (y * 320 + x)..][..3];
    assert_eq!(
        (pixel(0, 0), pixel(40, 40), pixel(79, 79)),
        (&[0; 3][..], &[0; 3][..], &[0; 3][..]),
        "the mask"
    );
    assert!(pixel(90, 40)[0].abs_diff(80) < 8, "beside the mask: {:?}", pixel(90, 40));
    assert!(pixel(280, 300)[2] > pixel(280, 300)[0], "the zone is bluish: {:?}", pixel(280, 300));
    assert!((286..291).any(|y| pixel(130, y)[0] > 120), "the line");
}

#[test]
fn pictures_of_every_size_go_into_a_folder_and_into_a_film() {
    let folder = tempfile::tempdir().expect("a folder");
    fs::write(folder.path().join("m.onnx"), stubborn_detector("行人")).expect("written");
    fs::create_dir(folder.path().join("photos")).expect("made");
    for (name, width, height) in [("a b.png", 301, 200), ("人.png", 64, 333), ("c.png", 640, 480)] {
        let file = File::create(folder.path().join("photos").join(name)).expect("made");
        let mut encoder = png::Encoder::new(file, width, height);
        encoder.set_color(png::ColorType::Rgb);
        let pixels = vec![120; (3 * width * height) as usize];
        encoder.write_header().expect("written").write_image_data(&pixels).expect("written");
    }
    run(&mut detect(folder.path(), &["photos", "--annotate", "seen"])).expect("a folder", 0, &[]);
    let seen = folder.path().join("seen");
    assert_eq!(names(&seen), ["0001-a-b.png", "0002-c.png", "0003-人.png"]);
    let sizes: Vec<_> =
        names(&seen).iter().map(|name| png(&seen.join(name))).map(|(w, h, _)| (w, h)).collect();
    assert_eq!(sizes, [(301, 200), (640, 480), (64, 333)]);
    run(&mut detect(folder.path(), &["photos", "--annotate", "seen.mp4"])).expect("a film", 0, &[]);
    let frames = film(&folder.path().join("seen.mp4"));
    let shown: Vec<_> =
        frames.iter().map(|(at, width, height, _)| (at / 1_000_000, *width, *height)).collect();
    assert_eq!(shown, [(0, 302, 200), (1, 302, 200), (2, 302, 200)], "a second for each");
}

#[test]
fn what_is_not_ours_stays_as_it_is() {
    let (folder, _) = workplace("person", 5);
    let path = |name: &str| folder.path().join(name);
    fs::create_dir(path("full")).expect("made");
    fs::write(path("full/diary.txt"), "mine").expect("written");
    fs::write(path("note"), "mine").expect("written");
    fs::create_dir(path("folder.mp4")).expect("made");
    std::os::unix::fs::symlink("clip.mp4", path("link.mp4")).expect("made");
    let before = contents(folder.path());
    for (target, code, words) in [
        ("full", 64, &["not empty; empty it, or name another one"][..]),
        ("note", 64, &["no folder; name a folder, or a file that ends in .mp4"]),
        ("folder.mp4", 64, &["no file; choose another name"]),
        ("seen.png", 64, &["only a folder or a file that ends in .mp4"]),
        ("seen.mkv", 64, &["only a folder or a file that ends in .mp4"]),
        ("clip.mp4", 64, &["in use by this command; choose another one"]),
        ("link.mp4", 64, &["in use by this command; choose another one"]),
        ("nowhere/seen", 74, &["its folder does not exist; create it"]),
        ("nowhere/seen.mp4", 74, &["its folder does not exist; create it"]),
    ] {
        run(&mut detect(folder.path(), &["clip.mp4", "--annotate", target])).expect(target, code, words);
        assert_eq!(contents(folder.path()), before, "{target}");
    }
    let same = ["detect", "clip.mp4", "-m", "m.onnx", "-o", "one.mp4", "--annotate", "one.mp4"];
    run(watchpost(folder.path()).args(same)).expect("twice the same", 64, &["one.mp4", "choose another one"]);
    // A film that is there is replaced, as every output is, when the new one is whole.
    fs::write(path("old.mp4"), "old").expect("written");
    run(&mut detect(folder.path(), &["clip.mp4", "--annotate", "old.mp4"])).expect("again", 0, &[]);
    assert_eq!(film(&path("old.mp4")).len(), 5);
    // Nothing could be read: there is no film, and the old one is as it was.
    fs::write(path("broken.mp4"), "no film").expect("written");
    let before = contents(folder.path());
    run(&mut detect(folder.path(), &["broken.mp4", "--annotate", "old.mp4"])).expect(
        "broken",
        66,
        &["broken.mp4"],
    );
    assert_eq!(contents(folder.path()), before);
}

#[test]
fn a_full_disk_is_told_and_nothing_half_written_is_left() {
    let (folder, _) = workplace("person", 300);
    let Some(disk) = Disk::mount(folder.path().join("disk"), "size=48k") else { return };
    let full = |target: &str, words: &[&str]| {
        let ended = run(&mut detect(folder.path(), &["clip.mp4", "--annotate", target]));
        ended.expect(target, 74, words);
    };
    full(
        "disk/seen.mp4",
        &["disk/seen.mp4", "the disk is full; make room and try again", "nothing is left of it"],
    );
    assert_eq!(contents(&disk.0), BTreeMap::new());
    full("disk/seen", &["the disk is full; make room and try again", "pictures were written before"]);
    let left = names(&disk.0.join("seen"));
    assert!(!left.is_empty() && left.len() < 300, "{left:?}");
    for name in left {
        png(&disk.0.join("seen").join(name));
    }
}

/// A run that is in the middle of its work: nobody reads its records but the first, so it waits when the pipe is full.
fn held_up(folder: &Path) -> Running {
    let mut command = watchpost(folder);
    let args = ["detect", "clip.mp4", "-m", "m.onnx", "--annotate", "seen.mp4"];
    let mut running = Running::start(command.args(args));
    let stdout = running.stdout.as_mut().expect("piped");
    let first = BufReader::new(stdout).bytes().take_while(|byte| !matches!(byte, Ok(b'\n')));
    assert!(first.count() > 100, "the first record");
    running
}

#[test]
fn who_stops_it_early_has_what_was_seen_so_far() {
    let (folder, _) = workplace("person", 900);
    let running = held_up(folder.path());
    running.signal(Signal::INT);
    let ended = running.end();
    assert_eq!(ended.code, Some(0), "{}", ended.stderr);
    let frames = film(&folder.path().join("seen.mp4")).len();
    let told = format!("stopped early: seen.mp4 holds {frames} frames");
    assert!(ended.stderr.contains(&told), "{told}: {}", ended.stderr);
    assert_eq!(frames, 1 + ended.records().len());
    assert!((1..900).contains(&frames), "{frames}");
    assert_eq!(names(folder.path()), ["clip.mp4", "m.onnx", "seen.mp4"]);
}

#[test]
fn two_processes_do_not_write_one_film() {
    let (folder, _) = workplace("person", 900);
    let first = held_up(folder.path());
    let refused = run(&mut detect(folder.path(), &["clip.mp4", "--annotate", "seen.mp4"]));
    assert_eq!(refused.code, Some(64), "{}", refused.stderr);
    assert!(refused.stderr.contains("another process is writing this file"), "{}", refused.stderr);
    assert_eq!(first.stop().code, Some(0));
    assert!(!film(&folder.path().join("seen.mp4")).is_empty());
}

#[test]
fn characters_that_no_font_has_are_named_once() {
    // Tangut is in no package that a box has by default.
    let (folder, _) = workplace("𗼇𘟙", 8);
    let ended = run(&mut detect(folder.path(), &["clip.mp4", "--annotate", "seen.mp4"]));
    ended.expect("Tangut", 0, &["𗼇", "install the Debian package fonts-noto-core"]);
    assert_eq!(ended.stderr.matches("no font on this box").count(), 1, "{}", ended.stderr);
}

#[test]
fn memory_does_not_grow_with_the_film() {
    let (folder, _) = workplace("person", 2500);
    let max_rss_mib = |frames: &str| {
        let args =
            ["clip.mp4", "--max-frames", frames, "--annotate", "seen.mp4", "--summary", "s.json", "--track"];
        run(&mut detect(folder.path(), &args)).expect(frames, 0, &[]);
        let summary = fs::read_to_string(folder.path().join("s.json")).expect("a summary");
        let summary: serde_json::Value = serde_json::from_str(&summary).expect("JSON");
        summary["max_rss_mib"].as_f64().expect("a number")
    };
    let (short, long) = (max_rss_mib("250"), max_rss_mib("2500"));
    println!("{short} MiB after 250 frames, {long} MiB after 2500");
    // One frame's red, green and blue are 300 KiB: a hundred that are kept would be seen.
    assert!(long < short + 12.0, "{short} MiB after 250 frames, {long} MiB after 2500");
}
