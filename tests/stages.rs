//! Each stage of a picture's way to its boxes, against the tools that models come from: decoding, resizing, poses, masks.
//! `tools/reference/stages.py` made the numbers.

mod program;

use std::time::Duration;

use program::{root, run, shared, watchpost};
use serde_json::Value;
use sha2::{Digest, Sha256};
use watchpost::frame::{Layout, Letterbox, Matrix, Picture, Plane, Range};
use watchpost::model::{ChannelOrder, Fit, InputRecipe};
use watchpost_pipelines::{Pipeline, Pull, SourceKind, Spec};

fn reference(name: &str) -> Value {
    let path = root().join("tests/fixtures/reference").join(name);
    serde_json::from_str(&std::fs::read_to_string(path).expect("the fixture")).expect("JSON")
}

fn digest(bytes: &[u8]) -> String {
    Sha256::digest(bytes).iter().map(|byte| format!("{byte:02x}")).collect()
}

fn numbers<const N: usize>(value: &Value) -> [usize; N] {
    std::array::from_fn(|index| value[index].as_u64().expect("a number") as usize)
}

fn rgb(width: usize, height: usize, data: &[u8], stride_bytes: usize) -> Picture<'_> {
    let layout = Layout::Rgb { rgb: Plane { data, stride_bytes } };
    Picture { width: width as u32, height: height as u32, layout, matrix: Matrix::Bt601, range: Range::Full }
}

fn recipe(width: usize, height: usize, fit: Fit) -> InputRecipe {
    let (scale, offset) = ([1.0; 3], [0.0; 3]);
    InputRecipe { width, height, channels: ChannelOrder::Rgb, fit, pad: 114, scale, offset }
}

/// The top byte of index * 2654435761 mod 2^32, as the script makes it.
fn made_up(count: usize) -> Vec<u8> {
    (0..count as u64).map(|index| ((index * 2_654_435_761 % (1 << 32)) >> 24) as u8).collect()
}

#[test]
fn single_pictures_are_resized_sample_for_sample_as_opencv_does() {
    for case in reference("resize.json").as_array().expect("cases") {
        let ([width, height], [to_width, to_height]) = (numbers(&case["source"]), numbers(&case["size"]));
        let recipe = recipe(to_width, to_height, Fit::Stretch);
        let samples = made_up(3 * width * height);
        // Rows may be padded.
        let stride = 3 * width + 5;
        let mut padded = vec![0xee; stride * height];
        for (row, out) in samples.chunks_exact(3 * width).zip(padded.chunks_exact_mut(stride)) {
            out[..3 * width].copy_from_slice(row);
        }
        let mut tensor = vec![f32::NAN; recipe.len()];
        let mut letterbox = Letterbox::new(&recipe);
        // Twice: what the first left behind must not be seen.
        for _ in 0..2 {
            letterbox.run(&rgb(width, height, &padded, stride), &mut tensor).expect("a whole picture");
        }
        let plane = to_width * to_height;
        let pixels: Vec<u8> =
            (0..plane).flat_map(|at| [0, 1, 2].map(|channel| tensor[channel * plane + at] as u8)).collect();
        assert_eq!(digest(&pixels), case["sha256"].as_str().expect("a digest"), "{case}");
    }
}

#[test]
fn photos_are_decoded_sample_for_sample_as_opencv_reads_them() {
    let Some(photos) = shared("footage/photos") else { return };
    watchpost_pipelines::init().expect("GStreamer");
    for (name, expected) in reference("decode.json").as_object().expect("photos") {
        let spec = Spec::new(SourceKind::Image { path: photos.join(name) });
        let pipeline = Pipeline::start_pull(&spec, "stage").expect("starts");
        let Pull::Frame(frame) = pipeline.pull(Duration::from_secs(30)) else {
            panic!("{name} is no picture")
        };
        let picture = frame.picture().expect("in memory");
        let Layout::Rgb { rgb } = picture.layout else { panic!("{name}: {:?}", frame.format()) };
        let row_bytes = 3 * picture.width as usize;
        let pixels: Vec<u8> =
            (0..picture.height as usize).flat_map(|row| rgb.row(row, row_bytes).to_vec()).collect();
        assert_eq!(&digest(&pixels), expected.as_str().expect("a digest"), "{name}");
    }
}

fn objects(model: &str, photo: &str) -> Option<Vec<Value>> {
    let (models, photos) = (shared("models")?, shared("footage/photos")?);
    let folder = tempfile::tempdir().expect("a folder");
    let mut command = watchpost(folder.path());
    command.args(["detect", "--backend", "builtin", "--score-threshold", "0.5", "-m"]);
    let ended = run(command.arg(models.join(model)).arg(photos.join(photo)));
    ended.expect(model, 0, &[]);
    Some(ended.records()[0]["objects"].as_array().expect("a list").clone())
}

#[test]
fn keypoints_are_where_the_model_s_own_tool_puts_them() {
    let Some(found) = objects("yolov8n-pose.onnx", "zidane.jpg") else { return };
    let reference = reference("pose.json");
    let expected = reference.as_array().expect("people");
    assert_eq!((found.len(), expected.len()), (2, 2));
    for (found, expected) in found.iter().zip(expected) {
        assert_eq!(found["keypoints"].as_array().expect("points").len(), 17);
        for point in 0..17 {
            let (ours, theirs) = (&found["keypoints"][point], &expected["keypoints"][point]);
            for axis in 0..3 {
                let (ours, theirs) =
                    (ours[axis].as_f64().expect("a number"), theirs[axis].as_f64().expect("a number"));
                // Records have one decimal of a pixel and three of a score.
                let tolerance = if axis == 2 { 0.002 } else { 0.15 };
                assert!((ours - theirs).abs() <= tolerance, "point {point}: {ours}, expected {theirs}");
            }
        }
    }
}

/// Whether a point lies in a polygon (even-odd rule).
fn contains(polygon: &[[f64; 2]], [x, y]: [f64; 2]) -> bool {
    let edges = polygon.iter().zip(polygon.iter().cycle().skip(1));
    let crossed = edges
        .filter(|(a, b)| (a[1] <= y) != (b[1] <= y) && x < a[0] + (y - a[1]) / (b[1] - a[1]) * (b[0] - a[0]));
    crossed.count() % 2 == 1
}

#[test]
fn outlines_enclose_the_masks_that_the_model_s_own_tool_makes() {
    let Some(found) = objects("yolov8n-seg.onnx", "bus.jpg") else { return };
    let reference = reference("segment.json");
    let expected = reference["objects"].as_array().expect("objects");
    assert_eq!(found.len(), expected.len());
    let step = reference["step"].as_f64().expect("a number");
    let of = |key: &str, axis: usize| reference[key][axis].as_f64().expect("a number");
    for (found, expected) in found.iter().zip(expected) {
        assert_eq!(found["class_id"], expected["class_id"]);
        let polygon: Vec<[f64; 2]> = found["mask"]["polygon"]
            .as_array()
            .expect("a polygon")
            .iter()
            .map(|point| [0, 1].map(|axis| point[axis].as_f64().expect("a number")))
            .collect();
        let (mut both, mut either) = (0, 0);
        for (row, line) in expected["grid"].as_array().expect("rows").iter().enumerate() {
            for (column, mark) in line.as_str().expect("text").bytes().enumerate() {
                // The middle of the pixel of the tensor that the mark stands for, in source pixels.
                let point = [column, row].map(|index| index as f64 * step + step / 2.0 + 0.5);
                let source: [f64; 2] =
                    std::array::from_fn(|axis| (point[axis] - of("offset", axis)) / of("scale", axis));
                let (theirs, ours) = (mark == b'#', contains(&polygon, source));
                both += usize::from(theirs && ours);
                either += usize::from(theirs || ours);
            }
        }
        let iou =
            f64::from(u32::try_from(both).expect("few")) / f64::from(u32::try_from(either).expect("few"));
        println!("{} {}: IoU of the masks {iou:.3}", found["label"], found["score"]);
        assert!(either > 50 && iou > 0.95, "{} {}: IoU of the masks {iou}", found["label"], found["score"]);
    }
}
