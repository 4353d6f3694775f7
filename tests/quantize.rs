//! `watchpost engine build --precision int8 --backend cpu`: an INT8 model is made of the user's pictures, kept if it sees nearly
//! as much, and nothing of it stays if not. Where this machine has no Python with the tool, a script stands in for it.

mod program;

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use program::{Ended, contents, engine_library, run, shared, watchpost};
use serde_json::Value;

/// A folder with a few labelled pictures, and the library that measures.
struct Bench {
    folder: tempfile::TempDir,
    library: PathBuf,
    model: PathBuf,
    quantized: PathBuf,
}

impl Bench {
    fn new(pictures_count: usize) -> Option<Self> {
        let library = engine_library("WATCHPOST_OPENVINO_LIB", "libopenvino_c.so")?;
        let (model, quantized) = (shared("models/yolov8n.onnx")?, shared("models/yolov8n-int8-qdq.onnx")?);
        let coco = shared("footage/coco-val")?;
        let folder = tempfile::tempdir().expect("a folder");
        for part in ["images", "labels"] {
            let to = folder.path().join("pictures").join(part);
            fs::create_dir_all(&to).expect("made");
            let mut files: Vec<PathBuf> = fs::read_dir(coco.join(part))
                .expect("there")
                .map(|file| file.expect("a file").path())
                .collect();
            files.sort();
            let is_class_list = |path: &PathBuf| path.ends_with("classes.txt");
            let (lists, numbered): (Vec<_>, Vec<_>) = files.into_iter().partition(is_class_list);
            for file in lists.iter().chain(numbered.iter().take(pictures_count)) {
                fs::copy(file, to.join(file.file_name().expect("a name"))).expect("copied");
            }
        }
        Some(Self { folder, library, model, quantized })
    }

    /// A tool that does this with the file `$4` that it is to write.
    fn tool(&self, writes: &str) -> PathBuf {
        let path = self.folder.path().join("tool");
        let text = format!(
            "#!/bin/sh\ncase \"$2\" in \"import \"*) exit 0;; esac\nwc -c > bytes\necho \"$3 $5 $6 $7\" > asked\n{writes}\n"
        );
        fs::write(&path, text).expect("written");
        fs::set_permissions(&path, fs::Permissions::from_mode(0o755)).expect("set");
        path
    }

    fn build(&self, python: &Path, args: &[&str]) -> Ended {
        let mut command = watchpost(self.folder.path());
        command.env("WATCHPOST_OPENVINO_LIB", &self.library).env("WATCHPOST_PYTHON", python);
        command.args(["engine", "build"]).arg(&self.model);
        command
            .args(["--precision", "int8", "--backend", "cpu", "--calibration", "pictures/images"])
            .args(args);
        run(&mut command)
    }

    /// Everything but what the stand-in for the tool and the caches leave.
    fn files(&self) -> Vec<PathBuf> {
        let mut known = contents(self.folder.path());
        known.retain(|path, _| {
            let name = path.strip_prefix(self.folder.path()).expect("below").to_string_lossy().into_owned();
            !["tool", "bytes", "asked"].contains(&name.as_str()) && !name.starts_with("cache")
        });
        known.into_keys().collect()
    }
}

#[test]
fn a_model_that_sees_nearly_as_much_is_kept_with_its_manifest_and_another_is_not() {
    let Some(bench) = Bench::new(6) else { return };
    let before = bench.files();
    let copies = format!("cp '{}' \"$4\" && chmod u+w \"$4\"", bench.quantized.display());
    // Weights of one layer are gone: it runs, and sees less.
    let worse =
        format!("{copies} && dd if=/dev/zero of=\"$4\" bs=1000 seek=800 count=200 conv=notrunc 2>/dev/null");
    let refused = bench.build(&bench.tool(&worse), &["--max-loss", "0.1"]);
    refused.expect("less", 69, &["not accepted and not kept", "mAP 50-95 fell from", "--max-loss"]);
    assert_eq!(bench.files(), before);
    // What the tool was sent are six pictures of the model's input.
    let read = |name: &str| fs::read_to_string(bench.folder.path().join(name)).expect("written");
    assert_eq!(read("bytes").trim().parse::<usize>().expect("a number"), 6 * 4 * 3 * 640 * 640);
    assert!(
        read("asked").trim_end().ends_with("yolov8n.onnx images 1,3,640,640 openvino"),
        "{}",
        read("asked")
    );

    let kept = bench.build(&bench.tool(&copies), &["--max-loss", "0.1", "--json"]);
    assert_eq!(kept.code, Some(0), "{}", kept.stderr);
    let report: Value = serde_json::from_str(&kept.stdout).expect("JSON");
    assert_eq!((&report["file"], &report["pictures"]), (&"yolov8n-int8.onnx".into(), &6.into()), "{report}");
    assert!(report["map_50_95"]["int8"].as_f64().is_some_and(|map| map > 0.2), "{report}");
    assert_eq!(bench.files().len(), before.len() + 2);
    // It is what a configuration can name.
    let mut detect = watchpost(bench.folder.path());
    detect.env("WATCHPOST_OPENVINO_LIB", &bench.library);
    detect.args(["detect", "-m", "yolov8n-int8.onnx", "--backend", "openvino", "--precision", "int8"]);
    let ended = run(detect.arg("pictures/images"));
    let records = ended.records();
    assert_eq!((records.len(), &records[0]["model"]["name"]), (6, &"yolov8n-int8".into()));
    assert_eq!(records[0]["model"]["precision"], "int8");
    // It is not replaced unless that is asked for.
    bench.build(&bench.tool(&copies), &[]).expect("again", 64, &["already there; --force"]);
}

#[test]
fn whatever_fails_says_what_to_do_and_leaves_nothing() {
    let Some(bench) = Bench::new(1) else { return };
    let before = bench.files();
    let check = |what: &str, ended: Ended, code: i32, words: &[&str]| {
        ended.expect(what, code, words);
        assert_eq!(bench.files(), before, "{what}");
    };
    let absent = bench.folder.path().join("absent");
    check("no Python", bench.build(&absent, &[]), 69, &["WATCHPOST_PYTHON=", "pip install onnxruntime onnx"]);
    check("no package", bench.build(Path::new("/bin/false"), &[]), 69, &["pip install onnxruntime onnx"]);
    for (what, writes, code, words) in [
        ("the tool fails", "cat > /dev/null; echo 'it is broken'; exit 1", 70, "it is broken"),
        ("the tool writes nothing", "cat > /dev/null; echo hm", 70, "hm"),
        ("a package of the tool is missing", "echo 'the package sympy is missing'; exit 3", 69, "sympy"),
        ("no such model", "echo 'two inputs'; exit 4", 66, "cannot be quantized: two inputs"),
        ("junk", "echo junk > \"$4\"", 66, "int8.onnx"),
    ] {
        check(what, bench.build(&bench.tool(writes), &[]), code, &[words]);
    }
    let tool = bench.tool("true");
    let with = |args: &[&str]| bench.build(&tool, args);
    check("no labels", with(&["--labels", "/"]), 66, &["labels file"]);
    check("a name", with(&["--output", "model.bin"]), 64, &["ends with .onnx"]);
    let mut plain = watchpost(bench.folder.path());
    plain.args(["engine", "build", "demo", "--backend", "cpu"]);
    check("no precision", run(&mut plain), 64, &["--precision int8 and --calibration DIR"]);
    let mut done = watchpost(bench.folder.path());
    done.args([
        "engine",
        "build",
        "--backend",
        "cpu",
        "--precision",
        "int8",
        "--calibration",
        "pictures/images",
    ]);
    check("INT8 already", run(done.arg(&bench.quantized)), 64, &["quantized already"]);
}

/// With the real tool, where it is.
#[test]
fn the_tool_itself_makes_a_model_that_is_accepted() {
    let Some(mut bench) = Bench::new(6) else { return };
    // One that sees nothing any more when each layer has one scale for all channels of its input.
    bench.model = shared("models/yolox_nano.onnx").expect("beside the others");
    let named = std::env::var_os("WATCHPOST_PYTHON").unwrap_or_else(|| "python3".into());
    let mut asked = std::process::Command::new(&named);
    asked.args(["-c", "import onnx, onnxruntime.quantization"]).stderr(std::process::Stdio::null());
    if !asked.status().is_ok_and(|status| status.success()) {
        eprintln!(
            "NOT TESTED: {} has no onnxruntime and onnx; name one with WATCHPOST_PYTHON",
            named.display()
        );
        return;
    }
    let ended = bench.build(Path::new(&named), &["--max-loss", "0.05", "--json"]);
    assert_eq!(ended.code, Some(0), "{}", ended.stderr);
}
