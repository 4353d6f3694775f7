//! Kill -9 at any moment: while the daemon starts, runs, publishes or stops, while a model is added. The next
//! start is clean: it says nothing of the past, serves its sockets, and finds its state as it was.

mod program;

use std::fs;
use std::io::{BufRead, BufReader};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::time::Duration;

use program::{PATIENCE, Running, contents, eventually, pause, root, run, watchpost};
use rustix::process::Signal;

const ROUNDS: u32 = 30;

/// Numbers that look like chance, the same in every run.
struct Chance(u64);

impl Chance {
    /// Below `limit`.
    fn below(&mut self, limit: u64) -> u64 {
        // xorshift64* (Vigna 2016).
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        (self.0.wrapping_mul(0x2545_F491_4F6C_DD1D) >> 33) % limit
    }
}

/// A box: a configuration, a state folder with a model in it, a runtime folder.
struct Scene {
    folder: tempfile::TempDir,
}

impl Scene {
    fn new() -> Self {
        let folder = tempfile::tempdir().expect("a folder");
        let models = folder.path().join("state/models");
        fs::create_dir_all(&models).expect("made");
        for name in ["demo.toml", "demo.onnx"] {
            fs::copy(root().join("engines/models").join(name), models.join(name)).expect("copied");
        }
        for name in ["run", "cache"] {
            fs::create_dir(folder.path().join(name)).expect("made");
        }
        let config = format!(
            "[detector]\nmodel = \"demo\"\n[camera.scene]\nurl = \"test://scene?fps=30&width=320&height=192\"\n\
             [output.local]\ntype = \"unix\"\npath = \"{0}/run/records.sock\"\n[debug]\nsocket = \"{0}/run/debug.sock\"\n",
            folder.path().display()
        );
        fs::write(folder.path().join("config.toml"), config).expect("written");
        Self { folder }
    }

    fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    fn start(&self) -> Running {
        let mut command = watchpost(self.folder.path());
        command.args(["run", "-c"]).arg(self.path("config.toml"));
        command.env("STATE_DIRECTORY", self.path("state")).env("CACHE_DIRECTORY", self.path("cache"));
        Running::start(&mut command)
    }

    /// The first detections that a reader gets.
    fn serves(&self) {
        let mut connected = None;
        eventually("the socket is served", || {
            connected = UnixStream::connect(self.path("run/records.sock")).ok();
            connected.is_some()
        });
        let reader = connected.expect("connected");
        reader.set_read_timeout(Some(PATIENCE)).expect("a timeout");
        let mut lines = BufReader::new(reader).lines().map(|line| line.expect("a line"));
        assert!(lines.any(|line| program::record(&line)["type"] == "detections"));
    }

    /// What must not change: bytes and all.
    fn state(&self) -> Vec<(PathBuf, Vec<u8>)> {
        let files = ["state", "cache"].map(|name| contents(&self.path(name)));
        let paths = files.into_iter().flatten().map(|(path, _)| path).filter(|path| path.is_file());
        paths.map(|path| (path.clone(), fs::read(&path).expect("readable"))).collect()
    }
}

#[test]
fn a_daemon_killed_at_any_moment_leaves_nothing_that_hurts_the_next_one() {
    let scene = Scene::new();
    let before = scene.state();
    let mut chance = Chance(0x5eed);
    let mut stale = 0;
    for round in 0..ROUNDS {
        // While it starts, runs or, every third time, stops.
        let victim = scene.start();
        pause(Duration::from_millis(chance.below(500)));
        if round % 3 == 2 {
            victim.signal(Signal::TERM);
            pause(Duration::from_micros(chance.below(30_000)));
        }
        drop(victim);
        stale += usize::from(scene.path("run/records.sock").exists());
        // The next one serves; and is killed while it does.
        let next = scene.start();
        scene.serves();
        if round % 2 == 0 {
            next.signal(Signal::KILL);
            let ended = next.end();
            assert_eq!(ended.code, None, "{}", ended.stderr);
            for word in ["WARN", "ERROR", "panicked"] {
                assert!(!ended.stderr.contains(word), "round {round}:\n{}", ended.stderr);
            }
        } else {
            drop(next);
        }
        assert_eq!(scene.state(), before, "round {round}");
    }
    println!("{} kills, {stale} of the first of each round left a socket behind", 2 * ROUNDS);
    assert!(stale > 5, "the kills came too early to leave anything");
    let last = scene.start();
    scene.serves();
    let ended = last.stop();
    assert_eq!(ended.code, Some(0), "{}", ended.stderr);
    assert!(contents(&scene.path("run")).is_empty(), "{:?}", contents(&scene.path("run")));
    assert_eq!(scene.state(), before);
}

/// The manifest is whole or not there, and what is half there does not keep anybody from trying again.
#[test]
fn a_model_whose_adding_is_killed_is_there_or_not_and_can_be_added_again() {
    let folder = tempfile::tempdir().expect("a folder");
    let model = folder.path().join("mine.onnx");
    fs::write(&model, program::blind_detector(2)).expect("written");
    let models = folder.path().join("models");
    fs::create_dir(&models).expect("made");
    let add = || {
        let mut command = watchpost(folder.path());
        command.args(["model", "add", "--name", "mine", "--copy", "--force", "--dir"]);
        command.arg(&models).arg(&model);
        command
    };
    let show = |name: &Path| run(watchpost(folder.path()).args(["model", "show"]).arg(name));
    let mut chance = Chance(0xadd);
    for _ in 0..ROUNDS {
        let adding = Running::start(&mut add());
        pause(Duration::from_micros(chance.below(60_000)));
        drop(adding);
        let manifest = models.join("mine.toml");
        if manifest.exists() {
            let shown = show(&manifest);
            assert_eq!(shown.code, Some(0), "{}", shown.stderr);
        }
    }
    let added = run(&mut add());
    assert_eq!(added.code, Some(0), "{}", added.stderr);
    assert_eq!(show(&models.join("mine.toml")).code, Some(0));
    let names: Vec<_> = contents(&models).into_keys().collect();
    assert_eq!(names.len(), 2, "nothing but the model and its manifest: {names:?}");
}
