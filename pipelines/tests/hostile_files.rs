//! Damaged files and damaged RTP: thousands of seeded mutations of real streams, decoded in child processes that may not
//! crash, hang or take memory without end.
//!
//! `HOSTILE_ROUNDS=100` tries a hundred times as many.

#[path = "../../fuzz/mutate.rs"]
mod mutate;

use std::fmt::Write as _;
use std::fs;
use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::mpsc::{RecvTimeoutError, sync_channel};
use std::time::Duration;

use gstreamer as gst;
use gstreamer::prelude::*;
use mutate::Mutator;
use watchpost_pipelines::{DecoderChoice, Pipeline, Pull, SourceKind, Spec};

/// Mutations of one seed file, unless `HOSTILE_ROUNDS` says more.
const MUTATIONS: usize = 10;
/// Frames that are read of one file.
const FRAMES_MAX: usize = 40;
/// A child that says nothing for so long hangs, however loaded the machine is.
const HANG: Duration = Duration::from_secs(60);
/// How long one pull may take before the file counts as one at which nothing comes any more.
const SILENCE: Duration = Duration::from_secs(10);
/// What a child may take at most: GStreamer, its decoders, a few pictures of the sizes below, and heaps that are in pieces.
const RSS_MAX_KIB: u64 = 400 << 10;
/// Tells the child where its files are.
const FOLDER: &str = "HOSTILE_FOLDER";

/// How a seed is made, and the ending that says how it is read.
const SEEDS: [(&str, &str); 14] = [
    ("x264enc tune=zerolatency key-int-max=8 ! h264parse ! mp4mux", "h264.mp4"),
    ("x264enc tune=zerolatency key-int-max=8 ! h264parse ! matroskamux", "h264.mkv"),
    (
        "x264enc bframes=2 key-int-max=8 ! h264parse ! video/x-h264,stream-format=byte-stream ! filter",
        "raw.h264",
    ),
    ("x265enc speed-preset=ultrafast key-int-max=8 ! h265parse ! mp4mux", "h265.mp4"),
    ("x265enc speed-preset=ultrafast key-int-max=8 ! h265parse ! matroskamux", "h265.mkv"),
    (
        "x265enc speed-preset=ultrafast key-int-max=8 ! video/x-h265,stream-format=byte-stream ! filter",
        "raw.h265",
    ),
    ("jpegenc ! avimux", "mjpeg.avi"),
    ("jpegenc ! matroskamux", "mjpeg.mkv"),
    ("x264enc key-int-max=8 ! mpegtsmux", "h264.ts"),
    ("jpegenc ! filter", "still.jpg"),
    ("videoconvert ! pngenc ! filter", "still.png"),
    (
        "x264enc tune=zerolatency key-int-max=8 ! rtph264pay pt=96 config-interval=-1 ! rtpstreampay",
        "H264.rtp",
    ),
    (
        "x265enc tune=zerolatency speed-preset=ultrafast key-int-max=8 ! rtph265pay pt=96 config-interval=-1 ! rtpstreampay",
        "H265.rtp",
    ),
    ("jpegenc ! rtpjpegpay pt=96 ! rtpstreampay", "JPEG.rtp"),
];

/// Writes a seed; false, with a loud word, where this machine lacks an encoder.
fn make(encode: &str, path: &Path) -> bool {
    watchpost_pipelines::init().unwrap();
    let is_still = path.file_name().is_some_and(|name| name.to_string_lossy().starts_with("still"));
    let count = if is_still { 1 } else { 16 };
    let encode = encode.trim_end_matches("! filter");
    let encode = encode.trim_end().trim_end_matches('!');
    let line = format!(
        "videotestsrc num-buffers={count} ! video/x-raw,format=I420,width=160,height=96,framerate=15/1 ! {encode} \
         ! filesink location={}",
        path.display()
    );
    let pipeline = match gst::parse::launch(&line) {
        Ok(pipeline) => pipeline,
        Err(error) => {
            eprintln!("NOT TESTED: {}: {error}", path.display());
            return false;
        }
    };
    pipeline.set_state(gst::State::Playing).unwrap();
    let end = pipeline.bus().unwrap().timed_pop_filtered(
        gst::ClockTime::from_seconds(60),
        &[gst::MessageType::Eos, gst::MessageType::Error],
    );
    pipeline.set_state(gst::State::Null).unwrap();
    assert!(matches!(end.map(|end| end.type_()), Some(gst::MessageType::Eos)), "{line}");
    true
}

/// Damages single packets of a recording, loses some, doubles some and changes their order; its framing stays.
fn damage_packets(bytes: &[u8], mutator: &mut Mutator) -> Vec<u8> {
    let mut packets = Vec::new();
    let mut rest = bytes;
    while let Some((size, after)) = rest.split_first_chunk::<2>() {
        let (packet, next) = after.split_at(usize::from(u16::from_be_bytes(*size)).min(after.len()));
        packets.push(packet.to_vec());
        rest = next;
    }
    for _ in 0..1 + mutator.below(packets.len()) {
        let at = mutator.below(packets.len());
        match mutator.below(10) {
            0 => drop(packets.remove(at)),
            1 => packets.insert(at, packets[at].clone()),
            2 => packets.swap(at, 0),
            // A payload of very few bytes is where lengths are counted wrongly.
            3 | 4 => packets[at].truncate(12 + mutator.below(8)),
            // With a header that is right it gets further.
            5 if packets[at].len() > 12 => {
                let mut body = packets[at].split_off(12);
                mutator.damage(&mut body);
                packets[at].extend(body);
            }
            _ => mutator.damage(&mut packets[at]),
        }
        if packets.is_empty() {
            break;
        }
    }
    let mut out = Vec::new();
    for packet in packets {
        let size = u16::try_from(packet.len()).unwrap_or(u16::MAX);
        out.extend(size.to_be_bytes());
        out.extend(&packet[..usize::from(size)]);
    }
    out
}

/// How a file is opened: what its name ends with says.
fn spec(path: &Path) -> Spec {
    let name = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
    let path = path.to_owned();
    let kind = match name.rsplit('.').next() {
        Some("jpg" | "png") => SourceKind::Image { path },
        _ => SourceKind::File { path },
    };
    let template = name.strip_suffix(".rtp").map(|stem| {
        let encoding = stem.rsplit('-').next().unwrap_or_default();
        format!(
            "filesrc location={{path}} ! application/x-rtp-stream,media=video,encoding-name={encoding},clock-rate=90000 \
             ! rtpstreamdepay ! rtpptdemux name=streams\n\
             videoconvert name=raw n-threads=1 ! appsink name=sink"
        )
    });
    Spec { realtime: false, decoder: DecoderChoice::Software, template, ..Spec::new(kind) }
}

/// The child: reads every file of the folder and says so before and after.
#[test]
fn child() {
    let Some(folder) = std::env::var_os(FOLDER) else { return };
    let mut paths: Vec<PathBuf> = fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path()).collect();
    paths.sort();
    for path in paths {
        println!("begin {}", path.display());
        let mut frames = 0;
        let end = match Pipeline::start_pull(&spec(&path), "hostile") {
            Err(_) => "refused",
            Ok(pipeline) => loop {
                match pipeline.pull(SILENCE) {
                    Pull::Frame(frame) => {
                        // Every row is read, as the letterbox would.
                        let picture = frame.picture().expect("in system memory");
                        std::hint::black_box(format!("{picture:?}"));
                        frames += 1;
                        if frames == FRAMES_MAX {
                            break "enough";
                        }
                    }
                    Pull::Eos => break "eos",
                    Pull::Error(_) => break "failed",
                    Pull::TimedOut => break "silent",
                }
            },
        };
        println!("end {end} {frames} {}", rss_kib());
    }
}

/// The most memory that this process has held.
fn rss_kib() -> u64 {
    let status = fs::read_to_string("/proc/self/status").unwrap_or_default();
    let line = status.lines().find(|line| line.starts_with("VmHWM:")).unwrap_or_default();
    line.split_whitespace().nth(1).and_then(|kib| kib.parse().ok()).unwrap_or(0)
}

/// What children did with their files.
#[derive(Default, Debug)]
struct Tally {
    files: usize,
    frames: usize,
    refused: usize,
    failed: usize,
    silent: Vec<String>,
    crashed: Vec<String>,
    hung: Vec<String>,
    rss_max_kib: u64,
    rss_max_at: String,
}

/// Ends with whoever holds it.
struct Owned(Child);

impl Drop for Owned {
    fn drop(&mut self) {
        let _gone = self.0.kill();
        let _reaped = self.0.wait();
    }
}

/// Lets children read a folder until every file was begun; a file that ended one is put away into `kept`.
fn read_all(folder: &Path, kept: &Path, tally: &mut Tally) {
    while fs::read_dir(folder).unwrap().next().is_some() {
        let mut command = Command::new(std::env::current_exe().unwrap());
        command.args(["--exact", "child", "--nocapture", "--test-threads=1"]).env(FOLDER, folder);
        let mut child = Owned(command.stdout(Stdio::piped()).stderr(Stdio::null()).spawn().unwrap());
        let stdout = child.0.stdout.take().unwrap();
        let (sender, lines) = sync_channel(64);
        let reader = std::thread::spawn(move || {
            BufReader::new(stdout).lines().map_while(Result::ok).try_for_each(|line| sender.send(line)).ok()
        });
        let mut open: Option<PathBuf> = None;
        let hangs = loop {
            match lines.recv_timeout(HANG) {
                Ok(line) => note(&line, &mut open, tally),
                Err(RecvTimeoutError::Timeout) => break true,
                Err(RecvTimeoutError::Disconnected) => break false,
            }
        };
        if hangs {
            let _gone = child.0.kill();
        }
        let status = child.0.wait().unwrap();
        drop(lines);
        let _read = reader.join();
        let Some(path) = open else {
            assert!(status.success(), "a child ended between files: {status}");
            return;
        };
        let name = path.file_name().unwrap().to_string_lossy().into_owned();
        if hangs {
            tally.hung.push(name)
        } else {
            tally.crashed.push(format!("{name} ({status})"))
        }
        fs::copy(&path, kept.join(path.file_name().unwrap())).unwrap();
        fs::remove_file(&path).unwrap();
    }
}

fn note(line: &str, open: &mut Option<PathBuf>, tally: &mut Tally) {
    // The harness writes its own words before the first.
    if let Some(at) = line.find("begin /") {
        *open = Some(PathBuf::from(&line[at + 6..]));
    } else if let Some(rest) = line.strip_prefix("end ") {
        let Some(path) = open.take() else { return };
        let name = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
        let mut words = rest.split(' ');
        match words.next() {
            Some("refused") => tally.refused += 1,
            Some("failed") => tally.failed += 1,
            Some("silent") => tally.silent.push(name.clone()),
            _ => {}
        }
        let mut number = || words.next().and_then(|word| word.parse::<u64>().ok()).unwrap_or(0);
        tally.files += 1;
        tally.frames += number() as usize;
        let rss_kib = number();
        if rss_kib > tally.rss_max_kib {
            (tally.rss_max_kib, tally.rss_max_at) = (rss_kib, name);
        }
        let _gone = fs::remove_file(path);
    }
}

#[test]
fn damaged_files_and_packets_end_no_process_and_take_no_memory() {
    if std::env::var_os(FOLDER).is_some() {
        return;
    }
    let rounds: usize = std::env::var("HOSTILE_ROUNDS").map_or(1, |text| text.parse().expect("a number"));
    let kept = std::env::var_os("HOSTILE_KEEP").map(PathBuf::from);
    let folder = tempfile::tempdir().unwrap();
    let (seeds, work, lost) = ["seeds", "work", "lost"].map(|name| folder.path().join(name)).into();
    for folder in [&seeds, &work, &lost] {
        fs::create_dir(folder).unwrap();
    }
    let mut tally = Tally::default();
    let mut whole = Vec::new();
    for (encode, name) in SEEDS {
        if make(encode, &seeds.join(name)) {
            whole.push((name, fs::read(seeds.join(name)).unwrap()));
        }
    }
    for (name, bytes) in &whole {
        fs::write(work.join(format!("whole-{name}")), bytes).unwrap();
    }
    read_all(&work, &lost, &mut tally);
    assert!(tally.frames >= 10 * whole.len(), "the undamaged ones are read: {tally:?}");
    for round in 0..rounds {
        for (index, (name, bytes)) in whole.iter().enumerate() {
            for number in 0..MUTATIONS {
                let seed = (round * MUTATIONS + number) * 100 + index;
                let mut mutator = Mutator::new(seed as u64);
                let mutated = if name.ends_with(".rtp") {
                    damage_packets(bytes, &mut mutator)
                } else {
                    let mut bytes = bytes.clone();
                    mutator.damage(&mut bytes);
                    bytes
                };
                fs::write(work.join(format!("{seed}-{name}")), mutated).unwrap();
            }
        }
        read_all(&work, kept.as_deref().unwrap_or(&lost), &mut tally);
        if rounds > 1 {
            eprintln!("round {round}: {tally:?}");
        }
    }
    let mut said = String::new();
    let Tally { files, frames, refused, failed, rss_max_kib, rss_max_at, .. } = &tally;
    let _infallible = write!(
        said,
        "BAD INPUTS TRIED: {files} damaged files and recordings of RTP; {frames} frames came out, {refused} were \
         refused, {failed} failed; {} crashed, {} hung, {} fell silent; at most {} MiB ({rss_max_at})",
        tally.crashed.len(),
        tally.hung.len(),
        tally.silent.len(),
        rss_max_kib >> 10,
    );
    eprintln!("{said}");
    assert!(tally.crashed.is_empty() && tally.hung.is_empty(), "{tally:#?}");
    assert!(*rss_max_kib <= RSS_MAX_KIB, "{said}");
}
