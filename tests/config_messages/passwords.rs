//! Passwords: where they come from, and that none is ever shown.

use std::fs;

use proptest::prelude::*;
use watchpost::config::{Demands, load_layers, load_str};

use super::{everything_shown, variables};

const CANARY: &str = "canary-hunter2";

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

proptest! {
    #![proptest_config(ProptestConfig { cases: 512, failure_persistence: None, ..ProptestConfig::default() })]

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
}
