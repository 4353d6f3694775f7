//! The daemon as it is used: cameras in, records out, at what rate and age, and its memory over restarts.

use std::collections::BTreeMap;
use std::fs;
use std::io::{BufRead, BufReader, Write as _};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use crossbeam_channel::{Receiver, bounded};
use rustix::process::Signal;
use serde_json::{Value, json};
use watchpost::clock;
use watchpost_cuda::Gpu;
use watchpost_prove::child::{self, Running};
use watchpost_prove::outcome::{Figures, Outcome, Stop, demand, percentiles, rounded};
use watchpost_prove::settings::Settings;

/// An engine may have to be built first.
const START_WITHIN: Duration = Duration::from_secs(600);
/// All cameras are restarted within this time.
const RESTART_WITHIN: Duration = Duration::from_secs(60);
/// The daemon promises to be gone after 2 s.
const STOP_WITHIN: Duration = Duration::from_secs(10);
/// What memory may move by without growing: allocators and drivers hold on to pieces.
const HOST_SLACK_BYTES: u64 = 16 << 20;
const GPU_SLACK_BYTES: u64 = 8 << 20;
const LINES_MAX: usize = 65_536;

pub fn run(settings: &Settings, figures: &mut Figures) -> Result<(), Stop> {
    watchpost_tensorrt::find()
        .map_err(|why| Stop::skipped(format!("the engine would run on the CPU: {why}")))?;
    let gpu = super::gpu()?;
    let program = settings.program("watchpost");
    match child::run(Command::new(&program).arg("--version"), RESTART_WITHIN) {
        Err(error) => return Err(Stop::skipped(format!("{}: {error}", program.display()))),
        Ok(ended) => ended.missing_library().map_or(Ok(()), |missing| Err(Stop::skipped(missing)))?,
    }
    let deadline = clock::now() + settings.time_left();
    let cameras = Cameras::start(settings)?;
    figures.insert("cameras".to_owned(), json!({ "count": settings.cameras, "source": cameras.source }));
    let mut daemon = Daemon::start(settings, &cameras)?;
    daemon.until_all_are_beyond(0, clock::now() + START_WITHIN.min(settings.time_left()))?;
    rates(&daemon, settings, figures)?;
    let flat = restarts(&mut daemon, &cameras, &gpu, settings, deadline, figures);
    let ended = daemon.stop();
    flat.and(ended)
}

/// Where pictures come from.
struct Cameras {
    urls: Vec<String>,
    source: &'static str,
    _testcam: Option<Running>,
}

impl Cameras {
    /// The test camera where it runs, which needs a decoder as any camera does; else drawn scenes.
    fn start(settings: &Settings) -> Result<Self, Stop> {
        if !settings.quick
            && let Some(cameras) = Self::testcam(settings)?
        {
            return Ok(cameras);
        }
        let url = |index| format!("test://scene?seed={index}&fps={}&width=320&height=192", settings.fps);
        Ok(Self {
            urls: (0..settings.cameras).map(url).collect(),
            source: "scenes drawn on the CPU",
            _testcam: None,
        })
    }

    fn testcam(settings: &Settings) -> Result<Option<Self>, Stop> {
        let mut command = Command::new(settings.program("watchpost-testcam"));
        command.args(["serve", "--cameras", &settings.cameras.to_string()]);
        match &settings.clip {
            Some(clip) => command.arg("--clip").arg(clip),
            None => {
                command.args(["--scene", "seed=1,width=1280,height=720,fps=30", "--bitrate-kbps", "2000"])
            }
        };
        let spawned =
            Running::start(command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::null()));
        let Ok(mut running) = spawned else { return Ok(None) };
        let Some(stdout) = running.0.stdout.take() else { return Ok(None) };
        let mut line = String::new();
        BufReader::new(stdout).read_line(&mut line)?;
        let ready: Value = serde_json::from_str(&line).unwrap_or_default();
        let urls =
            ready["urls"].as_array().into_iter().flatten().filter_map(Value::as_str).map(str::to_owned);
        let urls: Vec<String> = urls.collect();
        // It says nothing where GStreamer or its encoder is missing.
        Ok((!urls.is_empty()).then_some(Self {
            urls,
            source: "watchpost-testcam, H.264",
            _testcam: Some(running),
        }))
    }
}

/// `watchpost run`, and what it writes.
struct Daemon {
    running: Running,
    records: Receiver<(Instant, Value)>,
    folder: PathBuf,
    model: String,
    generations: BTreeMap<String, u64>,
}

impl Daemon {
    fn start(settings: &Settings, cameras: &Cameras) -> Result<Self, Stop> {
        let folder = settings.out.join("daemon");
        fs::create_dir_all(&folder)?;
        let model = settings.model.first().cloned().unwrap_or_default();
        let model = match fs::canonicalize(&model) {
            Ok(path) if model.ends_with(".onnx") => path.to_string_lossy().into_owned(),
            _ => model,
        };
        configure(&folder, &model, cameras, 0)?;
        let mut command = Command::new(settings.program("watchpost"));
        command.args(["--log-level", "warn", "run", "-c"]).arg(folder.join("config.toml"));
        command.env("CACHE_DIRECTORY", settings.out.join("cache"));
        let log = fs::File::create(folder.join("log"))?;
        command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(log);
        let mut running = Running::start(&mut command)?;
        let stdout = running.0.stdout.take().ok_or_else(|| Stop::failed("the daemon has no stdout"))?;
        let (to_records, records) = bounded(LINES_MAX);
        std::thread::spawn(move || {
            for line in BufReader::new(stdout).lines().map_while(Result::ok) {
                let record = serde_json::from_str(&line).unwrap_or_default();
                if to_records.send((clock::now(), record)).is_err() {
                    return;
                }
            }
        });
        let generations = BTreeMap::new();
        let mut daemon = Self { running, records, folder, model, generations };
        for index in 0..cameras.urls.len() {
            daemon.generations.insert(name(index), 0);
        }
        Ok(daemon)
    }

    /// The next record of detections; its camera's generation is noted.
    fn next(&mut self, deadline: Instant) -> Result<Option<Value>, Stop> {
        loop {
            match self.records.recv_deadline(deadline) {
                Err(error) if error.is_timeout() => return Ok(None),
                Err(_) => return Err(Stop::failed(format!("the daemon ended: {}", self.last_words()))),
                Ok((_, record)) if record["type"] == "detections" => {
                    let camera = record["camera"].as_str().unwrap_or_default();
                    if let Some(generation) = self.generations.get_mut(camera) {
                        *generation = record["generation"].as_u64().unwrap_or(0);
                    }
                    return Ok(Some(record));
                }
                Ok(_) => {}
            }
        }
    }

    fn until_all_are_beyond(&mut self, generation: u64, deadline: Instant) -> Result<(), Stop> {
        while self.generations.values().any(|&now| now <= generation) {
            if self.next(deadline)?.is_none() {
                let late = self.generations.iter().filter(|(_, now)| **now <= generation);
                let late: Vec<_> = late.map(|(name, _)| name.as_str()).collect();
                let words = format!("no record came of {}: {}", late.join(", "), self.last_words());
                return Err(Stop::Failed(words));
            }
        }
        Ok(())
    }

    fn last_words(&self) -> String {
        let log = fs::read_to_string(self.folder.join("log")).unwrap_or_default();
        log.lines().last().unwrap_or("it said nothing").to_owned()
    }

    fn rss_bytes(&self) -> u64 {
        let statm = fs::read_to_string(format!("/proc/{}/statm", self.running.0.id())).unwrap_or_default();
        let pages: u64 = statm.split_whitespace().nth(1).and_then(|pages| pages.parse().ok()).unwrap_or(0);
        pages * rustix::param::page_size() as u64
    }

    fn stop(mut self) -> Result<(), Stop> {
        self.running.signal(Signal::TERM);
        let status = self.running.wait(STOP_WITHIN);
        let Some(status) = status else { return Err(Stop::failed("the daemon did not stop in time")) };
        demand(status.success(), || format!("the daemon ended with {status}: {}", self.last_words()))
    }
}

fn name(index: usize) -> String {
    format!("cam{index}")
}

/// The configuration; every other one differs in a key that takes a restart of each camera.
fn configure(folder: &Path, model: &str, cameras: &Cameras, turn: u32) -> Result<(), Stop> {
    let mut text = format!(
        "[detector]\nmodel = {model:?}\nbackend = \"tensorrt\"\n\n[defaults]\n\
         stall_timeout = \"{}s\"\n\n[output.console]\ntype = \"stdout\"\n",
        5 + turn % 2
    );
    for (index, url) in cameras.urls.iter().enumerate() {
        text += &format!("\n[camera.{}]\nurl = {url:?}\n", name(index));
    }
    // A new file takes the place of the old one: the daemon never sees half of it.
    let new = folder.join("config.toml.new");
    fs::File::create(&new)?.write_all(text.as_bytes())?;
    Ok(fs::rename(new, folder.join("config.toml"))?)
}

/// Frames a second and their age; the engine's own rate for comparison.
fn rates(daemon: &Daemon, settings: &Settings, figures: &mut Figures) -> Result<(), Stop> {
    let time = if settings.quick { Duration::from_secs(1) } else { Duration::from_secs(20) };
    // What has been waiting to be read is older than the measurement.
    daemon.records.try_iter().for_each(drop);
    let began = clock::now();
    let (mut latencies, mut dropped) = (Vec::new(), 0);
    while let Ok((_, record)) = daemon.records.recv_deadline(began + time) {
        if record["type"] == "detections" {
            demand(record["model"]["backend"] == "tensorrt", || format!("inferred by {}", record["model"]))?;
            latencies.extend(record["latency_ms"].as_f64());
            dropped += record["dropped_since_last"].as_u64().unwrap_or(0);
        }
    }
    let detected = latencies.len() as f64 / time.as_secs_f64();
    let [p50, p95, p99] = percentiles(&mut latencies)
        .ok_or_else(|| Stop::failed(format!("no record came: {}", daemon.last_words())))?;
    let alone = engine_alone(settings);
    figures.insert("frames_per_second".to_owned(), rounded(detected));
    figures.insert("frames_dropped_per_second".to_owned(), rounded(dropped as f64 / time.as_secs_f64()));
    figures.insert(
        "latency_ms".to_owned(),
        json!({ "p50": rounded(p50), "p95": rounded(p95), "p99": rounded(p99) }),
    );
    figures.insert("engine_alone_frames_per_second".to_owned(), alone.map_or(Value::Null, rounded));
    figures
        .insert("fraction_of_engine_alone".to_owned(), alone.map_or(Value::Null, |a| rounded(detected / a)));
    // Without drops the cameras were the limit, and the fraction says nothing about us.
    let bound = if dropped > 0 {
        "the engine and what surrounds it"
    } else {
        "the cameras: give more of them, or more --fps"
    };
    figures.insert("bounded_by".to_owned(), bound.into());
    Ok(())
}

/// What the check before found for the same model.
fn engine_alone(settings: &Settings) -> Option<f64> {
    let found = fs::read_to_string(settings.out.join("engine.json")).ok()?;
    let found: Outcome = serde_json::from_str(&found).ok()?;
    let model = settings.model.first()?;
    let short = Path::new(model).file_stem()?.to_str()?;
    found.figures.get(short)?["best_frames_per_second"].as_f64()
}

/// Every camera again and again; memory of the host and of the GPU after each round.
fn restarts(
    daemon: &mut Daemon,
    cameras: &Cameras,
    gpu: &Gpu,
    settings: &Settings,
    deadline: Instant,
    figures: &mut Figures,
) -> Result<(), Stop> {
    let (mut host, mut free) = (Vec::new(), Vec::new());
    let mut leak = Vec::new();
    for turn in 1..=settings.cycles {
        if clock::now() + RESTART_WITHIN / 4 > deadline {
            break;
        }
        let before = daemon.generations.values().copied().max().unwrap_or(0);
        configure(&daemon.folder, &daemon.model, cameras, turn)?;
        daemon.running.signal(Signal::HUP);
        daemon.until_all_are_beyond(before, clock::now() + RESTART_WITHIN)?;
        if settings.control {
            leak.push(watchpost_cuda::Buffer::new(gpu, watchpost_cuda::Owner::Slots, 16 << 20)?);
        }
        host.push(daemon.rss_bytes());
        free.push(gpu.free_bytes()?);
    }
    let done = host.len();
    let (host_first, host_last) = ends(&host);
    let (free_first, free_last) = ends(&free);
    figures.insert(
        "restarts".to_owned(),
        json!({ "rounds": done, "asked": settings.cycles, "host_rss_bytes": [host_first, host_last],
            "gpu_free_bytes": [free_first, free_last] }),
    );
    demand(done == settings.cycles as usize, || {
        format!("{done} of {} restarts were done: give more --minutes", settings.cycles)
    })?;
    demand(host_last <= host_first + HOST_SLACK_BYTES, || {
        format!("the daemon grew from {host_first} to {host_last} bytes over {done} restarts")
    })?;
    demand(free_last + GPU_SLACK_BYTES >= free_first, || {
        format!("free memory of the GPU went from {free_first} to {free_last} bytes over {done} restarts")
    })
}

/// The median of the second tenth, and of the last: the first tenth warms up.
fn ends(samples: &[u64]) -> (u64, u64) {
    let tenth = samples.len().div_ceil(10);
    let median = |part: &[u64]| {
        let mut part = part.to_vec();
        part.sort_unstable();
        part.get(part.len() / 2).copied().unwrap_or(0)
    };
    let second = samples.get(tenth..2 * tenth).unwrap_or(samples);
    (median(second), median(&samples[samples.len().saturating_sub(tenth)..]))
}
