//! What a user reads when the configuration is wrong, and what never appears in it.
//!
//! Golden files: `tests/fixtures/config/NAME.toml` with the expected messages in `NAME.txt`. After a
//! wanted change run `UPDATE_GOLDEN=1 cargo test --test config_messages` and read the difference.

use std::fmt::Write as _;
use std::fs;
use std::path::{Path, PathBuf};
use std::time::Duration;

use proptest::prelude::*;
use watchpost::config::{
    self, Auto, ConfigErrors, Demands, KEYS, LINE_KEYS, Loaded, Locator, OutputKind, Severity, Transport,
    ZONE_KEYS, load, load_layers, load_str, report,
};

const CANARY: &str = "canary-hunter2";

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
fn layers_win_key_by_key_and_keep_their_origin() {
    let main = "[detector]\nmodel = \"m\"\n[defaults]\ndetect_fps = 5\n[camera.gate]\nurl = \"csi://0\"\nslots = 3\n";
    let drop_in = "[camera.gate]\nslots = 4\n[camera.yard]\nurl = \"csi://1\"\n";
    let environment = variables([
        ("WATCHPOST__CAMERA__GATE__STALL_TIMEOUT", "7s"),
        ("WATCHPOST__CAMERA__ROOF__URL", "csi://2"),
        ("WATCHPOST__DETECTOR__MAX_BATCH_SIZE", "8"),
        ("WATCHPOST_LOG", "not ours"),
    ]);
    let loaded =
        load_layers(&[("config.toml", main), ("conf.d/10-site.toml", drop_in)], environment, Demands::RUN)
            .unwrap_or_else(|errors| panic!("{errors}"));
    let names: Vec<_> = loaded.config.cameras.iter().map(|camera| camera.name.as_str()).collect();
    assert_eq!(names, ["gate", "roof", "yard"]);
    let gate = &loaded.config.cameras[0];
    assert_eq!((gate.slots, gate.detect_fps, gate.stall_timeout), (4, Some(5.0), Duration::from_secs(7)));
    assert_eq!(loaded.config.detector.max_batch_size, Auto::Fixed(8));
    let origin = |path: &str| loaded.origins.get(path).expect(path).origin.to_string();
    assert_eq!(origin("camera.gate.url"), "config.toml:6");
    assert_eq!(origin("camera.gate.slots"), "conf.d/10-site.toml:2");
    assert_eq!(origin("camera.gate.detect_fps"), "config.toml:4");
    assert_eq!(origin("camera.gate.stall_timeout"), "WATCHPOST__CAMERA__GATE__STALL_TIMEOUT");
    assert_eq!(origin("camera.gate.latency"), "default");
    assert_eq!(origin("camera.roof.url"), "WATCHPOST__CAMERA__ROOF__URL");
    let json = report::to_json(&loaded);
    assert_eq!(json["config"]["camera"]["gate"]["slots"]["value"], 4);
    assert_eq!(json["config"]["camera"]["gate"]["slots"]["origin"], "conf.d/10-site.toml:2");
}

#[test]
fn variables_find_names_that_a_variable_cannot_spell() {
    let text = "[detector]\nmodel = \"m\"\n[camera.Front-Door]\nurl = \"csi://0\"\n";
    let environment =
        variables([("WATCHPOST__CAMERA__FRONT_DOOR__USERNAME", "123"), ("WATCHPOST__DETECTOR__MODEL", "7")]);
    let loaded = load_layers(&[("a", text)], environment, Demands::RUN).expect("valid");
    assert_eq!(loaded.config.cameras.len(), 1);
    assert_eq!(loaded.config.detector.model, "7");
}

#[test]
fn variables_reach_into_zones_and_lines() {
    let text = "[detector]\nmodel = \"m\"\n[camera.Front-Door]\nurl = \"csi://0\"\n[camera.Front-Door.zone.The-Mat]\n\
                polygon = [[0, 0], [1, 0], [1, 1]]\n";
    let environment = variables([
        ("WATCHPOST__CAMERA__FRONT_DOOR__ZONE__THE_MAT__DWELL", "10s"),
        ("WATCHPOST__CAMERA__FRONT_DOOR__LINE__SILL__FROM", "[0.1, 0.5]"),
        ("WATCHPOST__CAMERA__FRONT_DOOR__LINE__SILL__TO", "[0.9, 0.5]"),
        ("WATCHPOST__CAMERA__FRONT_DOOR__PRIVACY_MASKS", "[[[0, 0], [0.1, 0], [0.1, 0.1]]]"),
    ]);
    let loaded = load_layers(&[("a", text)], environment, Demands::RUN).unwrap_or_else(|e| panic!("{e}"));
    let camera = &loaded.config.cameras[0];
    assert_eq!((loaded.config.cameras.len(), camera.zones.len(), camera.lines.len()), (1, 1, 1));
    assert_eq!(camera.zones[0].dwell, Some(Duration::from_secs(10)));
    assert_eq!((camera.lines[0].name.as_str(), camera.privacy_masks.len(), camera.track), ("sill", 1, true));
}

#[test]
fn mistaken_variables_are_told_by_name() {
    let text =
        "[detector]\nmodel = \"m\"\n[camera.a-b]\nurl = \"csi://0\"\n[camera.a_b]\nurl = \"csi://1\"\n";
    let environment = variables([
        ("WATCHPOST__CAMERA__A_B__SLOTS", "3"),
        ("WATCHPOST__CAMERA__SLOTS", "3"),
        ("WATCHPOST__DETECTOR__PRECISION", "fp15"),
        ("WATCHPOST__DETEKTOR__MODEL", "m"),
        ("WATCHPOST__MEMORY__SOFT_LIMIT", "600"),
        ("WATCHPOST__memory__soft_limit", "600MiB"),
        ("WATCHPOST__MEMORY__SOFT_LIMITS", "1"),
    ]);
    let errors = load_layers(&[("a.toml", text)], environment, Demands::RUN).expect_err("mistakes");
    let shown = errors.to_string();
    for part in [
        "WATCHPOST__CAMERA__A_B__SLOTS: error: this name could mean a-b or a_b",
        "WATCHPOST__CAMERA__SLOTS: error: this name addresses no setting: write WATCHPOST__CAMERA__NAME__KEY",
        "did you mean `fp16`",
        "there is no section `detektor`; did you mean `detector`",
        "`soft_limit` needs a unit",
        "WATCHPOST__memory__soft_limit: error: another variable sets `memory.soft_limit` already",
        "did you mean `soft_limit`",
        "7 mistakes in the environment",
    ] {
        assert!(shown.contains(part), "{part}\n{shown}");
    }
}

/// Writes a configuration folder and loads it.
fn load_folder(
    files: &[(&str, &str)],
    environment: impl Iterator<Item = (String, String)>,
) -> (tempfile::TempDir, Result<Loaded, ConfigErrors>) {
    let folder = tempfile::tempdir().expect("a folder");
    for (name, text) in files {
        let path = folder.path().join(name);
        fs::create_dir_all(path.parent().expect("a parent")).expect("created");
        fs::write(path, text).expect("written");
    }
    let outcome = load(&folder.path().join("config.toml"), environment);
    (folder, outcome)
}

#[test]
fn drop_ins_are_read_in_the_order_of_their_names() {
    let (_folder, outcome) = load_folder(
        &[
            ("config.toml", "[detector]\nmodel = \"m\"\n[camera.a]\nurl = \"csi://0\"\npriority = 1\n"),
            ("conf.d/20-b.toml", "[camera.a]\npriority = 3\n"),
            ("conf.d/10-a.toml", "[camera.a]\npriority = 2\nslots = 5\n"),
            ("conf.d/30-note.txt", "not TOML"),
            ("conf.d/.#40-editor.toml", "not TOML"),
        ],
        std::iter::empty(),
    );
    let loaded = outcome.expect("valid");
    assert_eq!((loaded.config.cameras[0].priority, loaded.config.cameras[0].slots), (3, 5));
    let rendered = report::render(&loaded);
    assert!(
        rendered
            .lines()
            .any(|line| line.starts_with("priority = 3") && line.ends_with("# conf.d/20-b.toml:2"))
    );
    assert!(
        rendered
            .lines()
            .any(|line| line.starts_with("url = \"csi://0\"") && line.ends_with("# config.toml:4"))
    );
}

#[test]
fn what_is_rendered_is_a_configuration_again() {
    let text = fs::read_to_string(example()).expect("the example");
    let zones = fs::read_to_string(fixtures().join("zones.toml")).expect("zones");
    for text in [text, zones] {
        let loaded = load_str("config.toml", &text).unwrap_or_else(|errors| panic!("{errors}"));
        let again =
            load_str("again.toml", &report::render(&loaded)).unwrap_or_else(|errors| panic!("{errors}"));
        assert_eq!(again.config, loaded.config);
    }
}

#[test]
fn mistakes_of_all_layers_are_told_at_once_in_their_order() {
    let (_folder, outcome) = load_folder(
        &[
            ("config.toml", "[detector]\nmodel = \"m\"\nbackend = \"cuda\"\n[camera.a]\nslots = 99\n"),
            ("conf.d/10.toml", "[camera.b\nurl = \"csi://0\"\n"),
            ("conf.d/20.toml", "[camera.c]\nurl = \"csi://0\"\ncolour = 1\n"),
        ],
        variables([("WATCHPOST__CAMERA__C__SLOTS", "many")]),
    );
    let errors = outcome.expect_err("mistakes");
    let shown = errors.to_string();
    let positions: Vec<_> = [
        "`backend` must",
        "`slots` must be a whole number from 1 to 16",
        "closing ] of a section",
        "`colour`",
        "C__SLOTS",
    ]
    .iter()
    .map(|part| shown.find(part).unwrap_or_else(|| panic!("{part}\n{shown}")))
    .collect();
    assert!(positions.is_sorted(), "{positions:?}\n{shown}");
    assert!(shown.ends_with("5 mistakes in 3 files and the environment"), "{shown}");
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
fn passwords_come_from_a_file_a_variable_or_systemd() {
    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path().join("gate");
    fs::write(&path, "from-file\n").expect("written");
    let camera = |name: &str, line: &str| {
        format!("[camera.{name}]\nurl = \"rtsp://10.0.0.2/s\"\nusername = \"u\"\n{line}\n")
    };
    let text = format!(
        "[detector]\nmodel = \"m\"\n{}{}{}{}",
        camera("a", &format!("password_file = \"{}\"", path.display())),
        camera("b", "password_env = \"B_PASSWORD\""),
        camera("c", "password_credential = \"gate\""),
        "[camera.d]\nurl = \"rtsp://us%40er:from%3Aurl@10.0.0.2/s\"\n",
    );
    let folder_name = folder.path().to_str().expect("UTF-8");
    let environment = variables([("B_PASSWORD", "from-variable"), ("CREDENTIALS_DIRECTORY", folder_name)]);
    let loaded = load_layers(&[("a.toml", &text)], environment, Demands::RUN)
        .unwrap_or_else(|errors| panic!("{errors}"));
    let passwords: Vec<_> =
        loaded.config.cameras.iter().map(|camera| camera.password.as_ref().expect("set").expose()).collect();
    assert_eq!(passwords, ["from-file", "from-variable", "from-file", "from:url"]);
    assert_eq!(loaded.config.cameras[3].username.as_deref(), Some("us@er"));
    let shown = everything_shown(&Ok(loaded));
    for secret in passwords_of_this_test() {
        assert!(!shown.contains(secret), "{secret}\n{shown}");
    }
    assert!(shown.contains("the URL holds user and password"), "{shown}");
    assert!(shown.contains("every user of this box can read"), "{shown}");
}

fn passwords_of_this_test() -> [&'static str; 4] {
    ["from-file", "from-variable", "from:url", "from%3Aurl"]
}

#[test]
fn a_password_that_is_not_there_names_the_camera() {
    let folder = tempfile::tempdir().expect("a folder");
    let write = |name: &str, text: &[u8]| {
        let path = folder.path().join(name);
        fs::write(&path, text).expect("written");
        path.display().to_string()
    };
    let [empty, lines, large] =
        [write("empty", b"\n"), write("lines", b"one\ntwo\n"), write("large", &[b'x'; 5000])];
    let missing = folder.path().join("missing").display().to_string();
    for (line, part) in [
        (
            format!("password_file = \"{missing}\""),
            "camera `gate`: `password_file` names a file that does not exist",
        ),
        (format!("password_file = \"{empty}\""), "leads to an empty password"),
        (format!("password_file = \"{lines}\""), "line break"),
        (format!("password_file = \"{large}\""), "is larger than"),
        ("password_file = \"/dev/zero\"".into(), "is not a regular file"),
        ("password_file = \"secrets/gate\"".into(), "absolute path"),
        (
            "password_env = \"NOT_SET\"".into(),
            "camera `gate`: `password_env` must name an environment variable",
        ),
        (
            "password_credential = \"gate\"".into(),
            "camera `gate`: `password_credential` needs LoadCredential=",
        ),
        ("password_env = 5".into(), "must be a text"),
    ] {
        let text = format!(
            "[detector]\nmodel = \"m\"\n[camera.gate]\nurl = \"rtsp://h/s\"\nusername = \"u\"\n{line}\n"
        );
        let shown = load_str("a.toml", &text).expect_err(&line).to_string();
        assert!(shown.contains(part), "{line}: {shown}");
        assert!(shown.ends_with("1 mistake in 1 file"), "{line}: {shown}");
    }
    let folder_name = folder.path().display().to_string();
    let text =
        "[detector]\nmodel = \"m\"\n[camera.gate]\nurl = \"rtsp://h/s\"\npassword_credential = \"nope\"\n";
    let environment = variables([("CREDENTIALS_DIRECTORY", folder_name.as_str())]);
    let shown = load_layers(&[("a", text)], environment, Demands::RUN).expect_err("missing").to_string();
    assert!(shown.contains("names a credential that does not exist"), "{shown}");
}

#[test]
fn what_only_the_service_is_given_is_a_warning_for_check() {
    let text = "[detector]\nmodel = \"m\"\n[defaults]\nusername = \"u\"\n\
                [camera.a]\nurl = \"rtsp://h/1\"\npassword_credential = \"a\"\n\
                [camera.b]\nurl = \"rtsp://h/2\"\npassword_env = \"B\"\n";
    let errors = load_layers(&[("a.toml", text)], std::iter::empty(), Demands::RUN).expect_err("not given");
    assert_eq!(errors.errors().count(), 2, "{errors}");
    let loaded = load_layers(&[("a.toml", text)], std::iter::empty(), Demands::CHECK).expect("valid");
    assert_eq!(loaded.warnings.len(), 2);
    assert!(
        loaded
            .warnings
            .iter()
            .all(|warning| warning.hint.as_ref().is_some_and(|hint| hint.contains("service")))
    );
}

#[test]
fn a_password_of_the_defaults_gives_way_to_the_cameras_own() {
    let text = "[detector]\nmodel = \"m\"\n[defaults]\nusername = \"all\"\npassword_env = \"ALL\"\n\
                [camera.a]\nurl = \"rtsp://h/1\"\n\
                [camera.b]\nurl = \"rtsp://h/2\"\npassword_env = \"OWN\"\n\
                [camera.c]\nurl = \"rtsp://me:mine@h/3\"\n\
                [camera.d]\nurl = \"csi://0\"\n";
    let environment = variables([("ALL", "for-all"), ("OWN", "for-b")]);
    let loaded = load_layers(&[("a.toml", text)], environment, Demands::RUN)
        .unwrap_or_else(|errors| panic!("{errors}"));
    let password = |index: usize| {
        let camera = &loaded.config.cameras[index];
        (camera.username.as_deref(), camera.password.as_ref().map(|password| password.expose()))
    };
    assert_eq!(password(0), (Some("all"), Some("for-all")));
    assert_eq!(password(1), (Some("all"), Some("for-b")));
    assert_eq!(password(2), (Some("me"), Some("mine")));
    assert_eq!(password(3), (None, None));
    assert_eq!(loaded.origins.get("camera.d.username"), None);
    // A mistake in [defaults] is told once, not once a camera.
    let errors =
        load_layers(&[("a.toml", text)], variables([("OWN", "x")]), Demands::RUN).expect_err("unset");
    assert_eq!(errors.errors().count(), 1, "{errors}");
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

/// Texts that hold the canary where people put passwords, broken in many ways.
fn with_canary() -> impl Strategy<Value = String> {
    let line = prop_oneof![
        Just(format!("url = \"rtsp://admin:{CANARY}@10.0.0.2/s\"")),
        Just(format!("url = \"rtsp://admin:{CANARY}@10.0.0.999/s\"")),
        Just(format!("url = \"rtsp://admin:{CANARY}@\"")),
        Just(format!("url = \"rtsp://admin:{CANARY}/s\"")),
        Just(format!("url = \"rtsp://admin:{CANARY}")),
        Just(format!("url = \"rtsp://h/s?user=a&password={CANARY}\"")),
        Just(format!("url = \"rtsp://u:{CANARY}@h/s?fps=\"")),
        Just(format!("url = rtsp://admin:{CANARY}@h/s")),
        Just(format!("url = \"admin:{CANARY}@h/s\"")),
        Just(format!("url = \"http://admin:{CANARY}@h/s\"")),
        Just(format!("url = 'v4l2://admin:{CANARY}@h/s'")),
        Just(format!("url = [\"rtsp://admin:{CANARY}@h/s\"]")),
        Just(format!("password = \"{CANARY}\"")),
        Just(format!("password = {CANARY}")),
        Just(format!("password = [\n  \"{CANARY}\",\n  5 6\n]")),
        Just(format!("password = \"\"\"\n{CANARY}")),
        Just(format!("Password = '{CANARY}'")),
        Just(format!("passwort = \"{CANARY}\"")),
        Just(format!("pasword = \"{CANARY}\" oops")),
        Just(format!("password_env = \"{CANARY}\"")),
        Just(format!("password_file = \"{CANARY}\"")),
        Just(format!("password_file = \"/{CANARY}\"")),
        Just(format!("password_credential = \"{CANARY}\"")),
        Just(format!("secret_key = \"{CANARY}\"")),
        Just(format!("key = \"{CANARY}\"")),
        Just(format!("key = \"{CANARY}")),
        Just(format!("key = {CANARY}")),
        Just(format!("camera.gate.key = {CANARY}")),
        Just(format!("password.value = \"{CANARY}\"")),
        Just(format!("inline = {{ password = \"{CANARY}\", slots = 0 }}")),
    ];
    let other = prop_oneof![
        Just("slots = 0".to_owned()),
        Just("[camera.gate]".to_owned()),
        Just("[camera.yard".to_owned()),
        Just("[defaults]".to_owned()),
        Just("[detector]\nmodel = \"m\"".to_owned()),
        Just("username = \"u\"".to_owned()),
        Just("= \"".to_owned()),
        Just("]".to_owned()),
    ];
    proptest::collection::vec(prop_oneof![line, other], 1..8).prop_map(|lines| lines.join("\n"))
}

/// TOML-like soup: reaches deeper than arbitrary bytes.
fn soup() -> impl Strategy<Value = String> {
    let piece = prop_oneof![
        Just("[camera.a]\n"),
        Just("[camera]\n"),
        Just("[[camera.a]]\n"),
        Just("[detector]\n"),
        Just("[output.o]\n"),
        Just("[defaults]\n"),
        Just("[memory]\n"),
        Just("url = "),
        Just("model = "),
        Just("type = "),
        Just("slots = "),
        Just("classes = "),
        Just("mode = "),
        Just("listen = "),
        Just("detect_fps = "),
        Just("soft_limit = "),
        Just("\"rtsp://u:p@h/x\"\n"),
        Just("\"test://scene?fps=3\"\n"),
        Just("'tcp'\n"),
        Just("5\n"),
        Just("-1\n"),
        Just("nan\n"),
        Just("inf\n"),
        Just("0o660\n"),
        Just("99999999999999999999999\n"),
        Just("[]\n"),
        Just("[1,'a']\n"),
        Just("{}\n"),
        Just("{ a.b = 1 }\n"),
        Just("\"600MiB\"\n"),
        Just("\"5s\"\n"),
        Just("\"\"\"\n"),
        Just("'''"),
        Just("= "),
        Just("\n"),
        Just("\u{feff}"),
        Just("ü\u{1f600}"),
        Just("#"),
        Just("\\"),
        Just("\t\r\n"),
    ];
    proptest::collection::vec(piece, 0..40).prop_map(|pieces| pieces.concat())
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 512, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn any_bytes_are_judged_without_a_panic(bytes in proptest::collection::vec(any::<u8>(), 0..200)) {
        let _ = everything_shown(&load_str("a.toml", &String::from_utf8_lossy(&bytes)));
    }

    #[test]
    fn any_toml_is_judged_without_a_panic(text in soup(), name in "WATCHPOST__[A-Z_]{0,30}", value in "\\PC{0,20}") {
        let environment = [(name, value)].into_iter();
        let outcome = load_layers(&[("a.toml", &text), ("b.toml", &text)], environment, Demands::RUN);
        let _ = everything_shown(&outcome);
        if let Err(errors) = outcome {
            prop_assert!(errors.errors().count() > 0, "refused without a reason");
        }
    }

    #[test]
    fn a_password_in_a_file_is_never_shown(text in with_canary()) {
        for demands in [Demands::RUN, Demands::CHECK] {
            let environment = variables([("CREDENTIALS_DIRECTORY", "/nonexistent")]);
            let shown = everything_shown(&load_layers(&[("a.toml", &text)], environment, demands));
            prop_assert!(!shown.contains(CANARY), "{}\n=====\n{}", text, shown);
        }
    }

    #[test]
    fn a_password_in_the_environment_is_never_shown(
        (key, before, after) in prop_oneof![
            ("PASSWORD|PASSWORD_ENV|PASSWORD_FILE|PASSWORD_CREDENTIAL|PASWORD|SECRET|KEY", "|/|rtsp://u:", "|/s|@h/s|\n"),
            ("URL", "rtsp://admin:|rtsp://admin:pass:|rtsp:/admin:|admin:", "@10.0.0.2/s|@/s|/s|\n@h/s| @h/s|@h:x/s"),
            ("URL", "rtsp://|rtsp:", ":@/s|:x@h:0"),
        ],
        resolved in any::<bool>(),
    ) {
        let mut environment = vec![
            (format!("WATCHPOST__CAMERA__GATE__{key}"), format!("{before}{CANARY}{after}")),
            ("GATE".to_owned(), CANARY.to_owned()),
        ];
        if resolved {
            environment.push(("CREDENTIALS_DIRECTORY".to_owned(), "/nonexistent".to_owned()));
            environment.push(("WATCHPOST__CAMERA__YARD__PASSWORD_ENV".to_owned(), "GATE".to_owned()));
        }
        let text = "[detector]\nmodel = \"m\"\n[camera.gate]\nurl = \"rtsp://h/x\"\n[camera.yard]\nurl = \"rtsp://h/y\"\n";
        let demands = if resolved { Demands::RUN } else { Demands::CHECK };
        let outcome = load_layers(&[("a.toml", text)], environment.into_iter(), demands);
        let shown = everything_shown(&outcome);
        prop_assert!(!shown.contains(CANARY), "{:?} {:?}\n=====\n{}", before, after, shown);
    }

    #[test]
    fn the_last_layer_that_sets_a_key_wins(values in proptest::collection::vec(proptest::option::of(1usize..=16), 1..6)) {
        let texts: Vec<(String, String)> = values.iter().enumerate().map(|(index, slots)| {
            let slots = slots.map(|slots| format!("slots = {slots}\n")).unwrap_or_default();
            let first = if index == 0 { "[detector]\nmodel = \"m\"\n[camera.a]\nurl = \"csi://0\"\n" } else { "[camera.a]\n" };
            (format!("{index}.toml"), format!("{first}{slots}"))
        }).collect();
        let layers: Vec<(&str, &str)> = texts.iter().map(|(name, text)| (name.as_str(), text.as_str())).collect();
        let loaded = load_layers(&layers, std::iter::empty(), Demands::RUN).expect("valid");
        let winner = values.iter().rposition(Option::is_some);
        let expected = winner.and_then(|index| values[index]).unwrap_or(2);
        prop_assert_eq!(loaded.config.cameras[0].slots, expected);
        let origin = loaded.origins.get("camera.a.slots").expect("there").origin.to_string();
        match winner {
            Some(index) => prop_assert!(origin.starts_with(&format!("{index}.toml:")), "{}", origin),
            None => prop_assert_eq!(origin, "default"),
        }
    }
}

#[test]
fn deep_nesting_is_refused_and_not_followed() {
    for text in [
        "a.".repeat(100_000) + "a = 1",
        "a = ".to_owned() + &"[".repeat(100_000),
        format!("[{}a]", "a.".repeat(50_000)),
    ] {
        assert!(load_str("a.toml", &text).is_err());
    }
}

/// Not a timed test: what grew with the square of the file would take minutes here.
#[test]
fn a_large_file_full_of_mistakes_is_judged_in_bounded_work() {
    let many = |line: &dyn Fn(usize) -> String| (0..40_000).map(line).collect::<String>();
    for text in [
        many(&|index| format!("k{index} = 1\n")),
        many(&|index| format!("k{index} = x\n")),
        many(&|index| format!("[camera.c{index}]\n")),
        format!("camera = {{ {} }}", many(&|index| format!("c{index} = 1, "))),
        format!("a = [{}", many(&|_| "= ".to_owned())),
        format!("url = \"rtsp://h/{}\"", many(&|_| "pass=@".to_owned())),
    ] {
        let errors = load_str("a.toml", &text).expect_err("mistakes");
        assert!((1..=1000).contains(&errors.problems().len()), "{}", errors.problems().len());
    }
}

#[test]
fn the_environment_of_the_process_can_be_read() {
    assert!(config::process_environment().any(|(name, _)| name == "PATH"));
}
