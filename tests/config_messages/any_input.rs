//! Whatever a file holds, it is judged in bounded work and without a panic.

use proptest::prelude::*;
use watchpost::config::{Demands, load_layers, load_str};

use super::everything_shown;

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
}
