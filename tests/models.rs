//! Real models of the shared folder: what is concluded about them, and that the built-in engine computes
//! what ONNX Runtime computes. `tools/reference/onnx_reference.py` made the numbers.

use std::path::{Path, PathBuf};

use watchpost::engine::Engine;
use watchpost::engine::builtin::BuiltinEngine;
use watchpost::frame::SlotMemory;
use watchpost::model::{self, ChannelOrder, Extra, Fit, HeadRecipe, ModelError};

/// The shared models, or `None` with a loud word on stderr.
fn shared_models() -> Option<PathBuf> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let shared = std::env::var_os("WATCHPOST_SHARED").map_or_else(|| root.join("../shared"), PathBuf::from);
    let models = shared.join("models");
    if models.is_dir() {
        return Some(models);
    }
    eprintln!(
        "NOT TESTED: {} is not there; set WATCHPOST_SHARED to the folder with models/ and footage/",
        models.display()
    );
    None
}

fn find(path: &Path) -> Result<model::Manifest, ModelError> {
    model::find(path.to_str().unwrap(), &[])
}

/// 0..=255, as the reference script makes it.
fn pseudo_random(count: usize) -> impl Iterator<Item = f32> {
    (0..count as u64).map(|index| ((index * 2_654_435_761 % (1 << 32)) >> 24) as f32)
}

fn compare_with_onnx_runtime(model_file: &str, tolerance: f64) {
    let Some(models) = shared_models() else { return };
    let fixture = Path::new(env!("CARGO_MANIFEST_DIR"))
        .join(format!("tests/fixtures/reference/raw-{}.json", model_file.trim_end_matches(".onnx")));
    let reference: serde_json::Value =
        serde_json::from_str(&std::fs::read_to_string(fixture).unwrap()).unwrap();
    let manifest = find(&models.join(model_file)).unwrap();
    let mut engine = BuiltinEngine::load(&manifest, 1).unwrap();
    let scale = reference["scale"].as_f64().unwrap() as f32;
    let input = pseudo_random(manifest.input.len()).map(|value| value * scale);
    let input = SlotMemory::Host(input.collect());
    let mut frames = 0;
    engine
        .infer(&[&input], &mut |index, outputs| {
            frames += 1;
            assert_eq!((index, outputs.len()), (0, 1));
            assert_eq!(serde_json::json!(outputs[0].shape), reference["shape"]);
            assert_eq!(serde_json::json!(outputs[0].name), reference["output"]);
            let sum: f64 = outputs[0].data.iter().map(|&value| f64::from(value)).sum();
            let expected = reference["sum"].as_f64().unwrap();
            assert!((sum - expected).abs() <= expected.abs() * 1e-4, "sum {sum}, expected {expected}");
            for sample in reference["samples"].as_array().unwrap() {
                let at = sample[0].as_u64().unwrap() as usize;
                let (value, expected) = (f64::from(outputs[0].data[at]), sample[1].as_f64().unwrap());
                assert!((value - expected).abs() <= tolerance, "[{at}]: {value}, expected {expected}");
            }
        })
        .unwrap();
    assert_eq!(frames, 1);
}

#[test]
fn the_builtin_engine_computes_what_onnx_runtime_computes_on_yolox_nano() {
    compare_with_onnx_runtime("yolox_nano.onnx", 1e-3);
}

#[test]
fn the_builtin_engine_computes_what_onnx_runtime_computes_on_yolov8n() {
    // Boxes are in pixels, up to 640.
    compare_with_onnx_runtime("yolov8n.onnx", 1e-2);
}

#[test]
fn yolox_is_recognised_with_its_grids_and_what_it_does_not_tell_is_said() {
    let Some(models) = shared_models() else { return };
    let manifest = find(&models.join("yolox_nano.onnx")).unwrap();
    assert_eq!(manifest.head, HeadRecipe::Yolox { strides: vec![8, 16, 32] });
    assert_eq!((manifest.input.width, manifest.input.height), (416, 416));
    assert_eq!((manifest.input.channels, manifest.input.fit), (ChannelOrder::Bgr, Fit::LetterboxTopLeft));
    assert_eq!(manifest.input.scale, [1.0; 3]);
    assert_eq!((manifest.labels.len(), manifest.labels[2].as_str()), (80, "car"));
    let notes = manifest.notes.join("\n");
    for words in ["Sigmoid", "--channels", "COCO", "--labels"] {
        assert!(notes.contains(words), "{words} is not in:\n{notes}");
    }
}

#[test]
fn ultralytics_models_say_everything_themselves() {
    let Some(models) = shared_models() else { return };
    for name in ["yolov8n", "yolo11n", "yolov8n-fp16", "yolov8n-int8-qdq", "yolov8n-dynamic-batch"] {
        let path = models.join(format!("{name}.onnx"));
        let facts = model::inspect(&path).unwrap();
        let conclusion = model::conclude(&facts, name, &model::Overrides::default()).unwrap();
        assert_eq!(conclusion.unknown, Vec::<String>::new(), "{name}");
        let manifest = conclusion.manifest;
        assert_eq!((manifest.head, manifest.input.fit), (HeadRecipe::YOLOV8, Fit::LetterboxCentre), "{name}");
        assert_eq!((manifest.input.width, manifest.input.height), (640, 640), "{name}");
        assert_eq!((manifest.labels.len(), manifest.labels[79].as_str()), (80, "toothbrush"), "{name}");
        assert!((manifest.input.scale[0] * 255.0 - 1.0).abs() < 1e-6, "{name}");
        assert!(manifest.license.contains("AGPL"), "{name}");
    }
}

#[test]
fn each_family_is_recognised_with_its_task_and_its_own_tool_s_customs() {
    let Some(models) = shared_models() else { return };
    let pose = Extra::Keypoints { count: 17, dims: 3 };
    let cases = [
        ("nanodet", "nanodet", "detect", Extra::None, Fit::Stretch, ChannelOrder::Bgr, 80),
        ("deimv2-atto", "listed", "detect", Extra::None, Fit::Stretch, ChannelOrder::Rgb, 80),
        ("yolov8n-nms", "end-to-end", "detect", Extra::None, Fit::LetterboxCentre, ChannelOrder::Rgb, 80),
        ("yolov8n-pose", "yolov8", "pose", pose, Fit::LetterboxCentre, ChannelOrder::Rgb, 1),
        (
            "yolov8n-seg",
            "yolov8",
            "segment",
            Extra::Mask { coefficients: 32 },
            Fit::LetterboxCentre,
            ChannelOrder::Rgb,
            80,
        ),
    ];
    for (file, family, task, extra, fit, channels, labels) in cases {
        let manifest = find(&models.join(format!("{file}.onnx"))).unwrap();
        assert_eq!(
            (manifest.head.family(), manifest.head.task(), manifest.head.extra()),
            (family, task, extra),
            "{file}"
        );
        assert_eq!(
            (manifest.input.fit, manifest.input.channels, manifest.labels.len()),
            (fit, channels, labels),
            "{file}"
        );
        // What is written down is what is read back.
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("m.toml");
        let onnx = models.join(format!("{file}.onnx"));
        std::fs::write(&path, manifest.to_toml(onnx.to_str().unwrap())).unwrap();
        let read = model::Manifest::load(&path).unwrap();
        assert_eq!(
            (read.head, read.input, read.labels),
            (manifest.head, manifest.input, manifest.labels),
            "{file}"
        );
    }
}

#[test]
fn every_kind_of_weights_runs_and_keeps_its_shape() {
    let Some(models) = shared_models() else { return };
    for file in ["yolov8n-fp16.onnx", "yolov8n-int8-qdq.onnx", "yolov8n-dynamic-batch.onnx"] {
        let manifest = find(&models.join(file)).unwrap();
        let mut engine = BuiltinEngine::load(&manifest, 2).unwrap_or_else(|error| panic!("{file}: {error}"));
        let input = SlotMemory::Host(vec![0.5; manifest.input.len()].into());
        engine
            .infer(&[&input], &mut |_, outputs| assert_eq!(outputs[0].shape, [1, 84, 8400], "{file}"))
            .unwrap();
    }
}

#[test]
fn the_committed_manifest_describes_the_file_it_names() {
    let Some(models) = shared_models() else { return };
    let manifest =
        model::Manifest::load(&Path::new(env!("CARGO_MANIFEST_DIR")).join("engines/models/yolox-nano.toml"))
            .unwrap();
    let folder = tempfile::tempdir().unwrap();
    let error = model::verify(&model::Manifest {
        source: model::ModelSource::File(folder.path().join("yolox_nano.onnx")),
        ..manifest.clone()
    })
    .unwrap_err();
    assert!(error.to_string().contains("`watchpost model pull yolox-nano` fetches it"), "{error}");
    let there =
        model::Manifest { source: model::ModelSource::File(models.join("yolox_nano.onnx")), ..manifest };
    model::verify(&there).unwrap();
}

#[test]
fn real_files_cut_off_anywhere_are_truncated_and_mutated_ones_never_panic() {
    let Some(models) = shared_models() else { return };
    let whole = std::fs::read(models.join("yolox_nano.onnx")).unwrap();
    for percent in [1, 10, 50, 90, 99] {
        let error = model::inspect_bytes(&whole[..whole.len() * percent / 100]).unwrap_err();
        assert!(matches!(error, model::InspectError::Truncated { .. }), "{percent} %: {error:?}");
    }
    // The header, and the end with the descriptions of inputs and outputs, are where a flip does most.
    let tail = whole.len() - 2000;
    let mut typed = 0;
    for round in 0..200_usize {
        let mut bytes = whole.clone();
        for step in 0..=round % 7 {
            let noise = (round * 7 + step).wrapping_mul(2_654_435_761);
            let at = if step % 2 == 0 { noise % 2000 } else { tail + noise % 2000 };
            bytes[at] ^= (noise >> 13) as u8 | 1;
        }
        match model::inspect_bytes(&bytes) {
            Ok(facts) => {
                let _ = model::conclude(&facts, "mutant", &model::Overrides::default());
            }
            Err(_) => typed += 1,
        }
    }
    assert!(typed > 20, "only {typed} of 200 mutations were noticed: do they hit anything?");
}
