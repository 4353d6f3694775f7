//! What exporters write, as it was found in exports of the real architectures (docs/models.md names them): shapes that are
//! lost, sizes written as names, heads that look alike.

mod program;

use std::fs;

use program::onnx_writer::{Dim, F32, I64, Onnx, dims, node, tensor, weights};
use program::{run, watchpost};
use watchpost::model::{
    self, BoxOrder, BoxUnit, ChannelOrder, Conclusion, Extra, Fit, HeadRecipe, ModelError, Overrides,
    RowLayout,
};

const LOST: Dim = Dim::Open("Concatoutput0_dim_0");

fn picture() -> Vec<Vec<u8>> {
    vec![tensor("images", F32, &dims(&[1, 3, 64, 64]))]
}

fn concluded(onnx: &Onnx) -> Result<Conclusion, ModelError> {
    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path().join("m.onnx");
    fs::write(&path, onnx.encode()).expect("written");
    model::conclude_file(&path, "m", &Overrides::default()).map(|(_, conclusion)| conclusion)
}

#[track_caller]
fn conclude(onnx: &Onnx) -> Conclusion {
    concluded(onnx).expect("a detector")
}

fn ultralytics(task: &str, labels: usize) -> Vec<(&'static str, String)> {
    let names: Vec<String> = (0..labels).map(|label| format!("{label}: 'label{label}'")).collect();
    vec![("task", task.to_owned()), ("names", format!("{{{}}}", names.join(", ")))]
}

/// A YOLOv8 of 64x64 and two labels whose output has no shape in the file.
fn shapeless(op: &str) -> Onnx {
    Onnx {
        inputs: picture(),
        outputs: vec![tensor("output0", F32, &[LOST, LOST, LOST])],
        nodes: vec![node(op, &["w"], &["output0"])],
        weights: vec![weights("w", &[1, 6, 84], &[-20.0; 6 * 84])],
        metadata: ultralytics("detect", 2),
    }
}

#[test]
fn shapes_that_an_exporter_lost_are_seen_with_one_empty_picture() {
    let onnx = shapeless("Sigmoid");
    let conclusion = conclude(&onnx);
    assert_eq!(conclusion.manifest.head, HeadRecipe::YOLOV8);
    assert!(
        conclusion.notes[0].contains("one empty picture gave output0 f32 [1, 6, 84]"),
        "{:?}",
        conclusion.notes
    );
    // By its path alone, too, and it runs.
    let folder = tempfile::tempdir().expect("a folder");
    fs::write(folder.path().join("m.onnx"), onnx.encode()).expect("written");
    run(watchpost(folder.path()).args(["model", "add", "m.onnx"])).expect_text("add", 0, &[]);
    let shown = run(watchpost(folder.path()).args(["model", "show", "m.onnx"]));
    shown.expect_text("show", 0, &[]);
    assert!(shown.stdout.contains("family = \"yolov8\""), "{}", shown.stdout);
}

#[test]
fn shapes_that_nobody_can_see_are_asked_for() {
    let error = concluded(&shapeless("NoSuchOperator")).expect_err("it cannot be run").to_string();
    for words in ["leaves the shapes of its outputs open", "NoSuchOperator", "simplify=True"] {
        assert!(error.contains(words), "{words}: {error}");
    }
    // What can be run and is no detector stays unknown.
    let mut onnx = shapeless("Sigmoid");
    onnx.weights = vec![weights("w", &[1, 7, 77], &[0.0; 7 * 77])];
    let error = concluded(&onnx).expect_err("no detector").to_string();
    assert!(error.contains("is not known here") && error.contains("[1, 7, 77]"), "{error}");
}

fn efficient_nms(shapes: [&[Dim]; 4]) -> Onnx {
    let names = ["num_dets", "det_boxes", "det_scores", "det_classes"];
    let of =
        |(name, shape): (&str, &[Dim])| tensor(name, if name.contains("num") { I64 } else { F32 }, shape);
    Onnx {
        inputs: picture(),
        outputs: names.into_iter().zip(shapes).map(of).collect(),
        nodes: vec![node("EfficientNMS_TRT", &["images", "images"], &names)],
        ..Onnx::default()
    }
}

#[test]
fn efficient_nms_is_known_with_sizes_as_names_and_without_sizes() {
    let size = Dim::Open;
    let as_names = efficient_nms([
        &[size("1"), size("1")],
        &[size("1"), size("100"), size("4")],
        &[size("1"), size("100")],
        &[size("1"), size("100")],
    ]);
    let lost = efficient_nms([&[LOST; 2], &[LOST; 3], &[LOST; 2], &[LOST; 2]]);
    for onnx in [as_names, lost] {
        let HeadRecipe::Listed { outputs, format, first_class } = conclude(&onnx).manifest.head else {
            panic!("another family")
        };
        assert_eq!((outputs.boxes.as_str(), outputs.count.as_deref()), ("det_boxes", Some("num_dets")));
        assert_eq!((format.order, format.unit, first_class), (BoxOrder::Xyxy, BoxUnit::Pixels, 0));
    }
}

#[test]
fn six_numbers_a_row_are_corners_unless_a_detr_gives_them() {
    for (op, layout, fit) in [
        ("TopK", RowLayout::BoxScoreClass, Fit::LetterboxCentre),
        ("GridSample", RowLayout::CentreScoreClass, Fit::Stretch),
    ] {
        let onnx = Onnx {
            inputs: picture(),
            outputs: vec![tensor("output0", F32, &[LOST, LOST, Dim::N(6)])],
            nodes: vec![node(op, &["images"], &["output0"])],
            metadata: ultralytics("detect", 80),
            ..Onnx::default()
        };
        let manifest = conclude(&onnx).manifest;
        assert_eq!(manifest.head, HeadRecipe::EndToEnd { layout, extra: Extra::None }, "{op}");
        assert_eq!(manifest.input.fit, fit, "{op}");
        // And its manifest says so again.
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("m.toml");
        let text = model::Manifest { sha256: "0".repeat(64), ..manifest.clone() }.to_toml("m.onnx");
        fs::write(&path, text).expect("written");
        assert_eq!(model::Manifest::load(&path).expect("sound").head, manifest.head, "{op}");
    }
}

#[test]
fn yolov5_masks_are_not_taken_for_classes() {
    for names in [ultralytics("segment", 80), Vec::new()] {
        let onnx = Onnx {
            inputs: picture(),
            outputs: vec![
                tensor("output0", F32, &dims(&[1, 252, 117])),
                tensor("output1", F32, &dims(&[1, 32, 16, 16])),
            ],
            nodes: vec![node("Sigmoid", &["images"], &["output0"]), node("Mul", &["images"], &["output1"])],
            metadata: names.into_iter().filter(|(key, _)| *key == "names").collect(),
            ..Onnx::default()
        };
        let manifest = conclude(&onnx).manifest;
        assert_eq!(manifest.head, HeadRecipe::Yolov5 { extra: Extra::Mask { coefficients: 32 } });
        assert_eq!((manifest.labels.len(), manifest.head.task()), (80, "segment"));
    }
}

#[test]
fn detrs_that_count_as_coco_does_see_what_imagenet_s_models_see() {
    for (classes, offset) in [(80, 0.0), (91, -0.485 / 0.229)] {
        let onnx = Onnx {
            inputs: picture(),
            outputs: vec![
                tensor("logits", F32, &dims(&[1, 300, classes])),
                tensor("pred_boxes", F32, &dims(&[1, 300, 4])),
            ],
            nodes: vec![node("Add", &["images"], &["logits"]), node("Sigmoid", &["images"], &["pred_boxes"])],
            ..Onnx::default()
        };
        let manifest = conclude(&onnx).manifest;
        assert_eq!((manifest.head.family(), manifest.input.channels), ("detr", ChannelOrder::Rgb));
        assert!((manifest.input.offset[0] - offset).abs() < 1e-3, "{classes}: {:?}", manifest.input);
    }
}

#[test]
fn torchvision_s_detectors_normalise_inside_and_count_as_coco_does() {
    // As `torch.onnx.export` writes them: the rows open, the names those of the user or numbers.
    let unnamed = ["4184", "4153", "4154"];
    for (names, labels_first) in [(["boxes", "scores", "labels"], false), (unnamed, false), (unnamed, true)] {
        let rows = Dim::Open("Gatherscores_dim_0");
        let mut outputs = vec![
            tensor(names[0], F32, &[rows, Dim::N(4)]),
            tensor(names[1], F32, &[rows]),
            tensor(names[2], I64, &[rows]),
        ];
        if labels_first {
            // As Faster R-CNN does.
            outputs.swap(1, 2);
        }
        let onnx = Onnx {
            inputs: picture(),
            outputs,
            nodes: vec![node("NonMaxSuppression", &["images"], &names)],
            ..Onnx::default()
        };
        let manifest = conclude(&onnx).manifest;
        let HeadRecipe::Listed { outputs, format, first_class } = manifest.head else {
            panic!("another family")
        };
        assert_eq!([outputs.boxes.as_str(), outputs.classes.as_str()], [names[0], names[2]]);
        assert_eq!(outputs.scores.as_deref(), Some(names[1]));
        assert_eq!((format.order, format.unit, first_class), (BoxOrder::Xyxy, BoxUnit::Pixels, 1));
        let input = manifest.input;
        assert_eq!((input.channels, input.fit), (ChannelOrder::Rgb, Fit::Stretch));
        assert_eq!((input.scale, input.offset), ([1.0 / 255.0; 3], [0.0; 3]));
        // Number 1 is the first label, 18 a dog and 90 the last.
        let labels = &manifest.labels;
        assert_eq!((labels.len(), labels[0].as_str(), labels[89].as_str()), (90, "person", "toothbrush"));
        assert_eq!(labels[18 - 1], "dog");
    }
}

#[test]
fn tensorflow_s_detectors_count_as_coco_does() {
    let outputs = [("detection_boxes", 3), ("detection_classes", 2), ("detection_scores", 2)];
    let shape = dims(&[1, 100, 4]);
    let onnx = Onnx {
        inputs: picture(),
        outputs: outputs.map(|(name, rank)| tensor(name, F32, &shape[..rank])).into(),
        nodes: vec![node("NonMaxSuppression", &["images"], &outputs.map(|(name, _)| name))],
        ..Onnx::default()
    };
    let manifest = conclude(&onnx).manifest;
    assert!(matches!(manifest.head, HeadRecipe::Listed { first_class: 1, .. }), "{:?}", manifest.head);
    assert_eq!((manifest.labels.len(), manifest.labels[18 - 1].as_str()), (90, "dog"));
}

#[test]
fn whoever_adds_a_paddledetection_model_is_told_that_ppyoloe_plus_differs() {
    let two = dims(&[1, 2]);
    let onnx = Onnx {
        inputs: picture().into_iter().chain([tensor("scale_factor", F32, &two)]).collect(),
        outputs: vec![
            tensor("multiclass_nms3_0.tmp_0", F32, &[Dim::Open("rows"), Dim::N(6)]),
            tensor("multiclass_nms3_0.tmp_2", I64, &dims(&[1])),
        ],
        nodes: vec![node(
            "NonMaxSuppression",
            &["images"],
            &["multiclass_nms3_0.tmp_0", "multiclass_nms3_0.tmp_2"],
        )],
        ..Onnx::default()
    };
    let conclusion = conclude(&onnx);
    let layout = RowLayout::ClassScoreBox;
    assert_eq!(conclusion.manifest.head, HeadRecipe::EndToEnd { layout, extra: Extra::None });
    assert!((conclusion.manifest.input.offset[0] + 0.485 / 0.229).abs() < 1e-3);
    assert!(
        conclusion.unknown.iter().any(|line| line.contains("imagenet was assumed (PP-YOLOE+ wants 0..1)")),
        "{:?}",
        conclusion.unknown
    );
}
