//! Manifests and model files as users have them: written by `model add`, found by name or path, broken in
//! every way we could think of. All files are made here.

#[path = "../engines/builtin/tests/onnx_writer/mod.rs"]
mod onnx_writer;

use std::fs;
use std::path::{Path, PathBuf};

use clap::Parser;
use onnx_writer::{Dim, F16, F32, I64, Onnx, U8, bytes, dims, node, number, tensor};
use watchpost::cli::{self, Failure, exit};
use watchpost::model::{self, ConcludeError, HeadRecipe, InspectError, ModelError, Overrides};

#[derive(Parser)]
struct Line {
    #[command(flatten)]
    model: cli::model::ModelArgs,
}

/// Runs `watchpost model ARGS…`.
fn watchpost_model(args: &[&str]) -> Result<String, Failure> {
    let line = Line::try_parse_from(["model"].iter().chain(args)).unwrap();
    let mut out = Vec::new();
    cli::model::run(&line.model, &mut out).map(|()| String::from_utf8(out).unwrap())
}

/// A YOLOv8-shaped model without weights: 64x64 has 84 cells on strides 8, 16, 32.
fn yolov8(classes: u64, names: Option<&str>) -> Onnx {
    let mut onnx = detector(&dims(&[1, 3, 64, 64]), &dims(&[1, 4 + classes, 84]));
    if let Some(names) = names {
        onnx.metadata = vec![("task", "detect".to_owned()), ("names", names.to_owned())];
    }
    onnx
}

fn yolox(classes: u64) -> Onnx {
    let mut onnx = detector(&dims(&[1, 3, 64, 64]), &dims(&[1, 84, 5 + classes]));
    onnx.nodes = vec![
        node("Sigmoid", &["images"], &["scores"]),
        node("Concat", &["images", "scores"], &["pieces"]),
        node("Transpose", &["pieces"], &["output"]),
    ];
    onnx
}

fn detector(input: &[Dim], output: &[Dim]) -> Onnx {
    Onnx {
        inputs: vec![tensor("images", F32, input)],
        outputs: vec![tensor("output", F32, output)],
        nodes: vec![node("Sigmoid", &["images"], &["output"])],
        ..Onnx::default()
    }
}

fn conclude(onnx: &Onnx) -> Result<model::Conclusion, ConcludeError> {
    let facts = model::inspect_bytes(&onnx.encode()).unwrap();
    model::conclude(&facts, "test", &Overrides::default())
}

fn write(folder: &Path, name: &str, bytes: impl AsRef<[u8]>) -> PathBuf {
    let path = folder.join(name);
    fs::write(&path, bytes).unwrap();
    path
}

fn path_text(path: &Path) -> &str {
    path.to_str().unwrap()
}

#[test]
fn facts_are_what_the_file_says() {
    let mut onnx = yolov8(2, Some("{0: 'a', 1: 'b'}"));
    onnx.weights = vec![onnx_writer::weights("w", &[4], &[0.0; 4])];
    // Old files list their weights among the inputs.
    onnx.inputs.push(tensor("w", F32, &dims(&[4])));
    onnx.inputs[0] = tensor("images", F32, &[Dim::Open("batch"), Dim::N(3), Dim::N(64), Dim::Open("")]);
    let facts = model::inspect_bytes(&onnx.encode()).unwrap();
    assert_eq!(facts.inputs.len(), 1);
    assert_eq!(facts.inputs[0].to_string(), "images f32 [batch, 3, 64, ?]");
    assert_eq!(facts.outputs[0].to_string(), "output f32 [1, 6, 84]");
    assert_eq!((facts.producer.as_str(), facts.ir_version, facts.opsets[""]), ("test", 8, 17));
    assert_eq!(facts.op_histogram()["Sigmoid"], 1);
    assert_eq!(facts.initializer_count, 1);
    assert_eq!(facts.metadata["names"], "{0: 'a', 1: 'b'}");
}

#[test]
fn bad_files_have_their_own_errors() {
    assert!(matches!(model::inspect_bytes(b""), Err(InspectError::Empty)));
    let noise: Vec<u8> = (0..4096_u32).map(|i| (i.wrapping_mul(2_654_435_761) >> 24) as u8).collect();
    for not_onnx in
        [&b"\x89PNG\r\n\x1a\n"[..], b"just some text\n", b"<html>", b"PK\x03\x04zip", &noise, &[0; 99]]
    {
        let error = model::inspect_bytes(not_onnx).unwrap_err();
        assert!(matches!(error, InspectError::NotOnnx { .. }), "{error:?}");
    }
    let lfs = model::inspect_bytes(b"version https://git-lfs.github.com/spec/v1\n").unwrap_err();
    assert!(lfs.to_string().contains("git lfs pull"), "{lfs}");
    let whole = yolov8(2, None).encode();
    for length in 3..whole.len() {
        let error = model::inspect_bytes(&whole[..length]).unwrap_err();
        assert!(matches!(error, InspectError::Truncated { .. }), "{length} bytes: {error:?}");
    }
    // A name that claims to be longer than the node it is in.
    let graph = bytes(7, &bytes(1, &[0x0a, 0x7f, b'x']));
    let lying = [number(1, 8), graph, bytes(8, &number(2, 17))].concat();
    assert!(matches!(model::inspect_bytes(&lying), Err(InspectError::Damaged { .. })));
    assert!(matches!(model::inspect(Path::new("/nowhere/x.onnx")), Err(InspectError::Unreadable(_))));
    assert!(matches!(model::inspect(Path::new("/")), Err(InspectError::NotOnnx { .. })));
}

proptest::proptest! {
    #[test]
    fn no_bytes_make_the_inspection_panic(
        flips in proptest::collection::vec((0_usize..400, proptest::num::u8::ANY), 1..12),
    ) {
        let mut onnx = yolox(3);
        onnx.metadata = vec![("names", "{0: 'a'}".to_owned()), ("imgsz", "[64, 64]".to_owned())];
        let mut bytes = onnx.encode();
        for (at, value) in flips {
            let at = at % bytes.len();
            bytes[at] = value;
        }
        if let Ok(facts) = model::inspect_bytes(&bytes) {
            let _ = model::conclude(&facts, "mutant", &Overrides::default());
        }
    }
}

#[test]
fn labels_come_from_metadata_in_any_script_or_are_coco_or_are_numbered_with_a_word() {
    let said = conclude(&yolov8(2, Some("{0: '人', 1: \"chien d'aveugle\"}"))).unwrap();
    assert_eq!(said.manifest.labels, ["人", "chien d'aveugle"]);
    assert_eq!(said.unknown, Vec::<String>::new());

    let coco = conclude(&yolov8(80, None)).unwrap();
    assert_eq!(coco.manifest.labels[0], "person");
    assert!(coco.unknown.join("\n").contains("80 of COCO were assumed"));

    let numbered = conclude(&yolox(3)).unwrap();
    assert_eq!(numbered.manifest.labels, ["class0", "class1", "class2"]);
    assert!(numbered.unknown.join("\n").contains("--labels FILE"));

    let error = conclude(&yolov8(3, Some("{0: 'a', 1: 'b'}"))).unwrap_err();
    assert!(error.to_string().contains("has 3 classes and its metadata 2 labels"), "{error}");
}

#[test]
fn one_class_is_a_detector_too() {
    let said = conclude(&yolov8(1, Some("['дрон']"))).unwrap();
    assert_eq!((said.manifest.head, said.manifest.labels), (HeadRecipe::YOLOV8, vec!["дрон".to_owned()]));
    assert_eq!(conclude(&yolox(1)).unwrap().manifest.labels.len(), 1);
}

#[test]
fn open_sizes_need_metadata_or_the_user() {
    let open = [Dim::Open("n"), Dim::N(3), Dim::Open("h"), Dim::Open("w")];
    let mut onnx = detector(&open, &[Dim::Open("n"), Dim::N(6), Dim::Open("boxes")]);
    let error = conclude(&onnx).unwrap_err();
    assert!(error.to_string().contains("--size"), "{error}");
    let facts = model::inspect_bytes(&onnx.encode()).unwrap();
    let sized = Overrides { size: Some((640, 384)), ..Overrides::default() };
    let input = model::conclude(&facts, "x", &sized).unwrap().manifest.input;
    assert_eq!((input.width, input.height), (640, 384));
    // Ultralytics says height first.
    onnx.metadata = vec![("imgsz", "[384, 640]".to_owned())];
    let input = conclude(&onnx).unwrap().manifest.input;
    assert_eq!((input.width, input.height), (640, 384));
    // What the file fixes cannot be asked for otherwise.
    let facts = model::inspect_bytes(&yolov8(2, None).encode()).unwrap();
    let error = model::conclude(&facts, "x", &sized).unwrap_err();
    assert!(matches!(error, ConcludeError::Contradiction { .. }), "{error:?}");
}

#[test]
fn what_is_no_supported_detector_is_refused_in_its_own_words() {
    let image = dims(&[1, 3, 64, 64]);
    let output = dims(&[1, 6, 84]);
    let mut no_outputs = detector(&image, &output);
    no_outputs.outputs.clear();
    let with_input = |dtype, shape: &[Dim]| Onnx {
        inputs: vec![tensor("images", dtype, shape)],
        ..detector(&image, &output)
    };
    let mut two_inputs = detector(&image, &output);
    two_inputs.inputs.push(tensor("mask", F32, &dims(&[1, 1])));
    let mut raw = yolox(2);
    raw.nodes.remove(0);
    for (onnx, words) in [
        (no_outputs, "no outputs"),
        // A number per class would be a classifier; but nothing here looks at a picture.
        (detector(&image, &dims(&[1, 1000])), "is not known here"),
        (detector(&image, &dims(&[1, 1, 64, 64])), "is a picture"),
        (detector(&image, &dims(&[1, 7, 77])), "is not known here"),
        (detector(&image, &dims(&[84, 6])), "is not known here"),
        (with_input(I64, &image), "takes i64"),
        (with_input(F32, &dims(&[1, 64, 64, 4])), "64 channels"),
        (with_input(F32, &dims(&[1, 1, 64, 64])), "grey"),
        (with_input(F32, &dims(&[1, 4, 64, 64])), "4 channels"),
        (with_input(F32, &dims(&[80, 3, 64, 64])), "80 pictures at once"),
        (with_input(F32, &dims(&[64, 64])), "[1, 3, height, width]"),
        (with_input(F32, &dims(&[1, 3, 16, 16])), "outside 32"),
        (two_inputs, "2 inputs"),
        (raw, "without the sigmoid"),
    ] {
        let error = conclude(&onnx).unwrap_err().to_string();
        assert!(error.contains(words), "{words:?} is not in: {error}");
    }
    // Half precision goes in where engines convert.
    let notes = conclude(&with_input(F16, &image)).unwrap().notes.join("\n");
    assert!(notes.contains("takes f16"), "{notes}");
}

#[test]
fn channels_last_bytes_and_fixed_batches_are_recognised() {
    for (dtype, input, output, words) in [
        (F32, [1, 64, 64, 3], [1, 6, 84], "has channels last"),
        (U8, [1, 64, 64, 3], [1, 6, 84], "takes bytes"),
        (F32, [8, 3, 64, 64], [8, 6, 84], "takes 8 pictures at once"),
    ] {
        let onnx = Onnx {
            inputs: vec![tensor("images", dtype, &dims(&input))],
            ..detector(&dims(&input), &dims(&output))
        };
        let conclusion = conclude(&onnx).unwrap();
        let notes = conclusion.notes.join("\n");
        assert!(notes.contains(words), "{notes}");
        let manifest = conclusion.manifest;
        assert_eq!((manifest.input.width, manifest.input.height), (64, 64));
        assert_eq!((manifest.head, manifest.labels.len()), (HeadRecipe::YOLOV8, 2));
        // What makes numbers of 0..1 of bytes is in the model.
        assert_eq!(manifest.input.scale == [1.0; 3], dtype == U8);
    }
}

#[test]
fn add_writes_a_manifest_that_is_found_and_reads_back_the_same() {
    let folder = tempfile::tempdir().unwrap();
    let onnx = write(folder.path(), "gate cam.onnx", yolov8(2, Some("{0: 'véhicule', 1: '\"x\"'}")).encode());
    let before = model::find(path_text(&onnx), &[]).unwrap();
    assert!(!before.notes.is_empty());

    let report = watchpost_model(&["add", path_text(&onnx), "--name", "gate"]).unwrap();
    assert!(report.contains("Concluded:") && report.contains("Nothing had to be assumed"), "{report}");
    let manifest = model::Manifest::load(&folder.path().join("gate cam.toml")).unwrap();
    assert_eq!(manifest.name, "gate");
    assert_eq!(manifest.labels, ["véhicule", "\"x\""]);
    assert_eq!((&manifest.input, &manifest.head), (&before.input, &before.head));
    // By name in its folder, by the path of either file.
    let dirs = [folder.path().to_owned()];
    for name in ["gate", path_text(&onnx), path_text(&folder.path().join("gate cam.toml"))] {
        let found = model::find(name, &dirs).unwrap();
        assert_eq!((found.name.as_str(), found.notes.len()), ("gate", 0), "{name}");
    }
    let names: Vec<_> = fs::read_dir(folder.path()).unwrap().map(|e| e.unwrap().file_name()).collect();
    assert_eq!(names.len(), 2, "nothing temporary is left: {names:?}");

    let again = watchpost_model(&["add", path_text(&onnx)]).unwrap_err();
    assert_eq!(again.code, exit::USAGE);
    assert!(again.message.contains("--force"), "{again}");
    watchpost_model(&["add", path_text(&onnx), "--force", "--channels", "bgr", "--fit", "stretch"]).unwrap();
    let forced = model::find(path_text(&onnx), &[]).unwrap();
    assert_eq!((forced.name.as_str(), forced.input.fit), ("gate-cam", model::Fit::Stretch));
    assert_eq!(forced.input.channels, model::ChannelOrder::Bgr);
}

#[test]
fn add_into_a_folder_names_the_file_or_copies_it() {
    let folder = tempfile::tempdir().unwrap();
    let store = folder.path().join("store/models");
    let onnx = write(folder.path(), "a.onnx", yolox(2).encode());
    let labels = write(folder.path(), "labels.txt", "猫\n犬\n");
    let add = ["add", path_text(&onnx), "--labels", path_text(&labels), "--dir", path_text(&store)];
    watchpost_model(&[&add[..], &["--dry-run"]].concat()).unwrap();
    assert!(!store.exists(), "a dry run writes nothing");
    watchpost_model(&[&add[..], &["--name", "linked"]].concat()).unwrap();
    watchpost_model(&[&add[..], &["--name", "copied", "--copy"]].concat()).unwrap();
    let dirs = [store.clone()];
    assert_eq!(model::find("linked", &dirs).unwrap().file().unwrap(), &fs::canonicalize(&onnx).unwrap());
    let copied = model::find("copied", &dirs).unwrap();
    assert_eq!(copied.file().unwrap(), &store.join("a.onnx"));
    assert_eq!(copied.labels, ["猫", "犬"]);
    fs::remove_file(&onnx).unwrap();
    assert!(model::find("copied", &dirs).is_ok());
    // The same weights lie under the same name in a searched folder.
    assert_eq!(model::find("linked", &dirs).unwrap().file().unwrap(), &store.join("a.onnx"));

    let error =
        watchpost_model(&["add", path_text(&store.join("a.onnx")), "--labels", "/nowhere"]).unwrap_err();
    assert_eq!(error.code, exit::NO_INPUT);
    let one = write(folder.path(), "one.txt", "only\n");
    let copy = store.join("a.onnx");
    let add = ["add", path_text(&copy), "--labels", path_text(&one), "--dry-run"];
    assert!(
        watchpost_model(&add).unwrap_err().message.contains("2 classes and the labels file has 1 labels")
    );
}

#[test]
fn unreadable_models_end_with_66_and_say_which_file() {
    let folder = tempfile::tempdir().unwrap();
    let whole = yolov8(2, None).encode();
    for (name, bytes, words) in [
        ("empty.onnx", &b""[..], "is empty"),
        ("text.onnx", b"hello there, I am text", "is not an ONNX model"),
        ("half.onnx", &whole[..whole.len() / 2], "is truncated"),
    ] {
        let path = write(folder.path(), name, bytes);
        for args in [["add", path_text(&path)], ["show", path_text(&path)]] {
            let failure = watchpost_model(&args).unwrap_err();
            assert_eq!(failure.code, exit::NO_INPUT);
            assert!(failure.message.contains(words) && failure.message.contains(name), "{failure}");
        }
        assert!(!path.with_extension("toml").exists());
    }
    let absent = watchpost_model(&["show", path_text(&folder.path().join("absent.onnx"))]).unwrap_err();
    assert_eq!(absent.code, exit::NO_INPUT);
    assert!(absent.message.contains("absent.onnx") && absent.message.contains("No such file"), "{absent}");
}

#[test]
fn an_unknown_name_gets_the_nearest_one_and_the_places() {
    let folder = tempfile::tempdir().unwrap();
    let onnx = write(folder.path(), "front-door.onnx", yolov8(2, None).encode());
    watchpost_model(&["add", path_text(&onnx)]).unwrap();
    let error = model::find("front-dor", &[folder.path().to_owned()]).unwrap_err().to_string();
    for words in
        ["no model \"front-dor\"", "did you mean \"front-door\"?", path_text(folder.path()), "model add"]
    {
        assert!(error.contains(words), "{words:?} is not in: {error}");
    }
    assert!(matches!(model::find("a/b", &[]), Err(ModelError::Unknown { .. })));
}

#[test]
fn weights_may_lie_in_another_folder_than_their_manifest() {
    let folder = tempfile::tempdir().unwrap();
    let (shipped, own) = (folder.path().join("shipped"), folder.path().join("own"));
    fs::create_dir(&shipped).unwrap();
    fs::create_dir(&own).unwrap();
    let onnx = write(&shipped, "m.onnx", yolov8(2, None).encode());
    watchpost_model(&["add", path_text(&onnx)]).unwrap();
    let dirs = [shipped.clone(), own.clone()];
    fs::rename(&onnx, own.join("m.onnx")).unwrap();
    assert_eq!(model::find("m", &dirs).unwrap().file().unwrap(), &own.join("m.onnx"));
    // Only the described file will do.
    fs::write(own.join("m.onnx"), yolov8(3, None).encode()).unwrap();
    assert!(matches!(model::find("m", &dirs), Err(ModelError::Digest { .. })));
    fs::remove_file(own.join("m.onnx")).unwrap();
    let error = model::find("m", &dirs).unwrap_err();
    assert!(matches!(&error, ModelError::FileMissing { path, .. } if *path == onnx), "{error:?}");
}

#[test]
fn another_file_than_the_described_one_is_noticed() {
    let folder = tempfile::tempdir().unwrap();
    let onnx = write(folder.path(), "m.onnx", yolov8(2, None).encode());
    watchpost_model(&["add", path_text(&onnx)]).unwrap();
    fs::write(&onnx, yolov8(3, None).encode()).unwrap();
    let error = model::find(path_text(&onnx), &[]).unwrap_err();
    assert!(matches!(error, ModelError::Digest { .. }), "{error:?}");
}

/// A manifest for the file that `yolov8(2)` makes, with one line replaced.
fn manifest_with(folder: &Path, line: &str, replacement: &str) -> Result<model::Manifest, ModelError> {
    let onnx = write(folder, "m.onnx", yolov8(2, Some("['a', 'b']")).encode());
    watchpost_model(&["add", path_text(&onnx), "--force"]).unwrap();
    let path = folder.join("m.toml");
    let text = fs::read_to_string(&path).unwrap();
    let found =
        text.lines().find(|found| found.starts_with(line)).unwrap_or_else(|| panic!("{line}: {text}"));
    write(folder, "m.toml", text.replace(found, replacement));
    model::find(path_text(&path), &[])
}

#[test]
fn mistakes_in_a_manifest_are_shown_with_line_and_column() {
    let folder = tempfile::tempdir().unwrap();
    for (line, replacement, words) in [
        ("schema", "schema = 2", "m.toml:1:10: schema 2 is unknown"),
        ("name", "naem = \"m\"", "m.toml:2:1: key \"naem\" is unknown; did you mean \"name\"?"),
        ("file", "", "needs the key \"file\""),
        ("sha256", "sha256 = \"12\"", "m.toml:4:10: sha256 must be 64"),
        ("width", "width = 0", "width = 0 is outside"),
        ("width", "width = \"64\"", "must be a whole number"),
        ("height", "hight = 64", "did you mean \"height\"?"),
        ("channels", "channels = \"rbg\"", "did you mean \"rgb\"?"),
        ("fit", "fit = \"letterbox\"", "known: letterbox-center"),
        ("pad", "pad = 256", "outside 0..=255"),
        ("scale", "scale = [1.0, 1.0]", "three numbers"),
        ("offset", "offset = [nan, 0.0, 0.0]", "three numbers"),
        ("family", "family = \"yolo8\"", "did you mean \"yolov8\"?"),
        ("family", "family = \"yolox\"\nstrides = [0]", "strides must be"),
        ("names", "names = [\"\",", "label 1 is empty"),
        ("names", "file = \"absent.txt\"\nnames = [", "and not both"),
        ("[input]", "[input", "m.toml:8"),
    ] {
        let error = manifest_with(folder.path(), line, replacement).unwrap_err();
        assert!(matches!(error, ModelError::Manifest { .. }), "{error:?}");
        assert!(error.to_string().contains(words), "{words:?} is not in: {error}");
    }
}

#[test]
fn a_manifest_that_contradicts_its_model_is_refused() {
    let folder = tempfile::tempdir().unwrap();
    for (line, replacement, words) in [
        ("width", "width = 96", "96x64"),
        ("names", "names = [\"one more\",", "2 classes and [labels] has 3 names"),
        ("family", "family = \"yolox\"\nstrides = [8]", "6 rows, and the strides in [head] give 64"),
        ("name", "name = \"n\"", ""),
    ] {
        match manifest_with(folder.path(), line, replacement) {
            Err(error) => {
                assert!(matches!(error, ModelError::Mismatch { .. }), "{error:?}");
                assert!(error.to_string().contains(words), "{words:?} is not in: {error}");
            }
            // The control: a change that contradicts nothing.
            Ok(manifest) => assert_eq!((words, manifest.name.as_str()), ("", "n")),
        }
    }
}

#[test]
fn list_and_show_speak_json() {
    let folder = tempfile::tempdir().unwrap();
    let onnx = write(folder.path(), "m.onnx", yolov8(2, Some("['猫', 'b']")).encode());
    let text = watchpost_model(&["show", path_text(&onnx), "--json"]).unwrap();
    let shown: serde_json::Value = serde_json::from_str(&text).unwrap();
    assert_eq!((&shown["labels"][0], &shown["head"]["family"]), (&"猫".into(), &"yolov8".into()));
    assert_eq!(shown["onnx"]["outputs"][0]["tensor"], "output f32 [1, 6, 84]");
    let text = watchpost_model(&["list", "--json"]).unwrap();
    let listed: serde_json::Value = serde_json::from_str(&text).unwrap();
    // The tests run in the repository's root, where engines/models is.
    let names: Vec<&str> = listed.as_array().unwrap().iter().filter_map(|m| m["name"].as_str()).collect();
    assert!(names.contains(&"yolox-nano"), "{names:?}");
    assert!(watchpost_model(&["list"]).unwrap().contains("yolox-nano"));
    assert!(watchpost_model(&["show", path_text(&onnx)]).unwrap().contains("There is no manifest"));
}
