//! What a user reads when the configuration is wrong, and what never appears in it.
//!
//! Golden files: `tests/fixtures/config/NAME.toml` with the expected messages in `NAME.txt`. After a
//! wanted change run `UPDATE_GOLDEN=1 cargo test --test config_messages` and read the difference.

mod any_input;
mod layers;
mod passwords;

use std::fmt::Write as _;
use std::fs;
use std::path::{Path, PathBuf};
use std::time::Duration;

use watchpost::config::{
    Auto, ConfigErrors, Demands, KEYS, LINE_KEYS, Loaded, Locator, OutputKind, Severity, Transport,
    ZONE_KEYS, load, load_layers, load_str, report,
};

fn fixtures() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/config")
}

fn variables<const N: usize>(pairs: [(&str, &str); N]) -> impl Iterator<Item = (String, String)> {
    pairs.map(|(name, value)| (name.to_owned(), value.to_owned())).into_iter()
}

/// Everything a user can get to see of an attempt to load.
fn everything_shown(outcome: &Result<Loaded, ConfigErrors>) -> String {
    let mut shown = format!("{outcome:?}\n");
    match outcome {
        Ok(loaded) => {
            for warning in &loaded.warnings {
                let _ = writeln!(shown, "{warning}\n{}", report::problem_json(warning));
            }
            let _ = writeln!(shown, "{}\n{}", report::render(loaded), report::to_json(loaded));
        }
        Err(errors) => {
            let _ = writeln!(shown, "{errors}\n{errors:#?}");
            for problem in errors.problems() {
                let _ = writeln!(shown, "{}", report::problem_json(problem));
            }
        }
    }
    shown
}

/// The whole text that a golden file holds for one fixture.
fn messages_of(name: &str, text: &str) -> String {
    match load_layers(&[(name, text)], std::iter::empty(), Demands::RUN) {
        Ok(loaded) => {
            let warnings: String = loaded.warnings.iter().map(|warning| format!("{warning}\n\n")).collect();
            format!("{warnings}{}", report::render(&loaded))
        }
        Err(errors) => format!("{errors}\n"),
    }
}

#[test]
fn every_fixture_gives_its_golden_messages() {
    let mut fixture_count = 0;
    let mut differences = String::new();
    let mut paths: Vec<_> = fs::read_dir(fixtures())
        .expect("fixtures")
        .map(|entry| entry.expect("entry").path())
        .filter(|path| path.extension().is_some_and(|extension| extension == "toml"))
        .collect();
    paths.sort();
    for path in paths {
        fixture_count += 1;
        let name = path.file_name().expect("a name").to_string_lossy().into_owned();
        let text = fs::read_to_string(&path).expect("readable");
        let actual = messages_of(&name, &text);
        let golden = path.with_extension("txt");
        if std::env::var_os("UPDATE_GOLDEN").is_some() {
            fs::write(&golden, &actual).expect("writable");
        }
        let expected = fs::read_to_string(&golden).unwrap_or_default();
        if actual != expected {
            let _ = writeln!(differences, "--- {name}: expected\n{expected}\n--- {name}: actual\n{actual}");
        }
        assert!(!actual.contains("hunter2"), "{name} shows a password:\n{actual}");
    }
    assert!(fixture_count >= 15, "only {fixture_count} fixtures");
    assert!(differences.is_empty(), "run with UPDATE_GOLDEN=1 if this is wanted\n{differences}");
}

#[test]
fn golden_files_without_a_fixture_are_noticed() {
    for entry in fs::read_dir(fixtures()).expect("fixtures") {
        let path = entry.expect("entry").path();
        if path.extension().is_some_and(|extension| extension == "txt") {
            assert!(path.with_extension("toml").exists(), "{} has no fixture", path.display());
        }
    }
}

#[test]
fn a_short_configuration_is_complete() {
    let text = "[detector]\nmodel = \"m\"\n[camera.gate]\nurl = \"rtsp://10.0.0.12/stream2\"\n";
    let loaded = load_str("config.toml", text).expect("valid");
    let camera = &loaded.config.cameras[0];
    assert_eq!((camera.name.as_str(), camera.transport, camera.slots), ("gate", Transport::Tcp, 2));
    assert_eq!(camera.locator, Locator::Rtsp { url: "rtsp://10.0.0.12/stream2".into() });
    assert_eq!((camera.stall_timeout, camera.freeze_timeout), (Duration::from_secs(5), None));
    assert_eq!(loaded.config.outputs.len(), 1);
    assert_eq!(loaded.config.outputs[0].kind, OutputKind::Stdout);
    assert_eq!(loaded.config.outputs[0].name, "console");
    assert_eq!(loaded.config.detector.max_batch_size, Auto::Auto);
    assert_eq!(loaded.config.debug_socket, None);
    assert_eq!(loaded.warnings, []);
}

#[test]
fn a_missing_file_is_one_message_that_says_what_to_do() {
    let folder = tempfile::tempdir().expect("a folder");
    let errors = load(&folder.path().join("none.toml"), std::iter::empty()).expect_err("missing");
    let shown = errors.to_string();
    assert_eq!(errors.problems().len(), 1);
    for part in [
        "none.toml: error: there is no configuration file",
        "watchpost demo",
        "[camera.gate]",
        "url = \"rtsp://",
    ] {
        assert!(shown.contains(part), "{part}\n{shown}");
    }
}

#[test]
fn unreadable_files_are_mistakes_like_any_other() {
    let folder = tempfile::tempdir().expect("a folder");
    let main = folder.path().join("config.toml");
    fs::write(&main, b"[detector]\nmodel = \"\xff\"\n").expect("written");
    let shown = load(&main, std::iter::empty()).expect_err("not UTF-8").to_string();
    assert!(shown.contains("is not UTF-8 text (line 2)"), "{shown}");
    fs::write(&main, vec![b'#'; (1 << 20) + 1]).expect("written");
    let shown = load(&main, std::iter::empty()).expect_err("too large").to_string();
    assert!(shown.contains("is larger than 1MiB"), "{shown}");
    fs::remove_file(&main).expect("removed");
    fs::create_dir(&main).expect("created");
    let shown = load(&main, std::iter::empty()).expect_err("a folder").to_string();
    assert!(shown.contains("is not a regular file"), "{shown}");
}

#[test]
fn a_configuration_without_cameras_is_told_so_only_where_one_is_needed() {
    let text = "[detector]\nmodel = \"m\"\n";
    assert!(load_str("a.toml", text).is_ok());
    let errors = load_layers(&[("a.toml", text)], std::iter::empty(), Demands::RUN).expect_err("none");
    assert!(errors.to_string().contains("no camera is configured"), "{errors}");
}

#[test]
fn the_debug_socket_follows_systemd_the_session_and_the_user() {
    let base = "[detector]\nmodel = \"m\"\n";
    let socket = |text: &str, environment: &[(&str, &str)]| {
        let environment = environment.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned()));
        let loaded = load_layers(&[("a", text)], environment, Demands::LOOK).expect("valid");
        loaded.config.debug_socket.map(|path| path.display().to_string())
    };
    let both = [("RUNTIME_DIRECTORY", "/run/watchpost:/run/other"), ("XDG_RUNTIME_DIR", "/run/user/7")];
    assert_eq!(socket(base, &both).as_deref(), Some("/run/watchpost/debug.sock"));
    assert_eq!(socket(base, &both[1..]).as_deref(), Some("/run/user/7/watchpost/debug.sock"));
    assert_eq!(socket(base, &[]), None);
    assert_eq!(socket(&format!("{base}[debug]\nsocket = \"/tmp/d\"\n"), &both).as_deref(), Some("/tmp/d"));
    assert_eq!(socket(&format!("{base}[debug]\nsocket = \"off\"\n"), &both), None);
    assert_eq!(socket(&format!("{base}[debug]\nsocket = \"\"\n"), &both), None);
}

#[test]
fn a_port_open_to_others_is_a_warning() {
    let text = "[detector]\nmodel = \"m\"\n[output.a]\ntype = \"tcp\"\nlisten = 9000\n[output.b]\ntype = \"tcp\"\nlisten = \"0.0.0.0:9001\"\n";
    let loaded = load_str("a.toml", text).expect("valid");
    assert_eq!(loaded.config.outputs[0].kind, OutputKind::Tcp { listen: ([127, 0, 0, 1], 9000).into() });
    assert_eq!(loaded.warnings.len(), 1);
    assert_eq!(loaded.warnings[0].severity, Severity::Warning);
    assert!(loaded.warnings[0].message.contains("anyone who reaches this port"), "{}", loaded.warnings[0]);
}

fn example() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("systemd/config.toml")
}

#[test]
fn the_example_is_valid_and_explains_every_key() {
    let text = fs::read_to_string(example()).expect("the example");
    let loaded = load_layers(&[("config.toml", &text)], std::iter::empty(), Demands::RUN)
        .unwrap_or_else(|errors| panic!("{errors}"));
    assert_eq!(loaded.warnings, []);
    for (section, keys) in KEYS {
        for key in keys {
            let explained = text.lines().any(|line| {
                line.trim_start_matches(['#', ' '])
                    .strip_prefix(key)
                    .is_some_and(|rest| rest.trim_start().starts_with('='))
            });
            assert!(explained, "[{section}] {key} is not in {}", example().display());
        }
    }
    for key in ZONE_KEYS.iter().chain(LINE_KEYS) {
        let explained = text.lines().any(|line| line.starts_with(&format!("# {key} = ")));
        assert!(explained, "{key} of zones or lines is not in {}", example().display());
    }
}

/// The list of keys is what suggestions and the example are checked against: it must be what is read.
#[test]
fn the_list_of_keys_is_what_is_read() {
    let text = fs::read_to_string(example()).expect("the example");
    let loaded = load_str("config.toml", &text).expect("valid");
    let watched = "[detector]\nmodel = \"m\"\n[camera.a]\nurl = \"csi://0\"\n[camera.a.line.l]\nfrom = [0, 0]\nto = [1, 1]\n\
                   [camera.a.zone.z]\nanchor = \"overlap\"\npolygon = [[0, 0], [1, 0], [1, 1]]\n";
    let watched = load_str("config.toml", watched).expect("valid");
    for setting in loaded.origins.iter().chain(watched.origins.iter()) {
        let path: Vec<&str> = setting.section.split('.').collect();
        let keys = match path.as_slice() {
            [_, _, "zone", _] => ZONE_KEYS,
            [_, _, "line", _] => LINE_KEYS,
            [section, ..] => KEYS.iter().find(|(known, _)| known == section).expect("known").1,
            [] => panic!("a setting without a section"),
        };
        assert!(keys.contains(&setting.key), "{path:?} {} is not in KEYS", setting.key);
    }
    for (kind, keys) in [("zone", ZONE_KEYS), ("line", LINE_KEYS)] {
        for key in keys {
            let text = format!("[camera.x.{kind}.y]\n{key} = 1979-05-27\n");
            let shown = load_str("a.toml", &text).expect_err("a date is never right").to_string();
            assert!(!shown.contains("unknown key"), "{kind} {key}: {shown}");
            assert!(shown.contains(&format!("`{key}` ")), "{kind} {key}: {shown}");
        }
    }
    for (section, keys) in KEYS {
        for key in keys {
            let text = match section {
                "output" if *key != "type" => {
                    let kind = if ["path", "mode", "group"].contains(key) { "unix" } else { "tcp" };
                    format!("[output.x]\ntype = \"{kind}\"\n{key} = 1979-05-27\n")
                }
                "camera" | "output" => format!("[{section}.x]\n{key} = 1979-05-27\n"),
                _ => format!("[{section}]\n{key} = 1979-05-27\n"),
            };
            let shown = load_str("a.toml", &text).expect_err("a date is never right").to_string();
            assert!(!shown.contains("unknown key"), "{section}.{key}: {shown}");
            assert!(shown.contains(&format!("`{key}` ")), "{section}.{key}: {shown}");
        }
    }
}
