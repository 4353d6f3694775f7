//! Files, drop-ins and variables: which of them wins, and where a value came from.

use std::fs;
use std::time::Duration;

use proptest::prelude::*;
use watchpost::config::{self, Auto, ConfigErrors, Demands, Loaded, load, load_layers, load_str, report};

use super::{example, fixtures, variables};

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
fn the_environment_of_the_process_can_be_read() {
    assert!(config::process_environment().any(|(name, _)| name == "PATH"));
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 512, failure_persistence: None, ..ProptestConfig::default() })]

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
