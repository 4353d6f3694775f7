//! What whoever uses a scene relies on.

use std::collections::HashMap;

use watchpost_scene::{LABELS, OBJECTS_MAX, Scene, SceneOptions, frame_bytes, score, stamp};

fn scene(seed: u64, width: u32, height: u32) -> Scene {
    Scene::new(SceneOptions { seed, width, height, fps: 15 })
}

fn frame(scene: &Scene, frame_number: u32) -> Vec<u8> {
    let mut i420 = vec![0; frame_bytes(scene.options().width, scene.options().height)];
    scene.render(frame_number, &mut i420);
    i420
}

/// FNV-1a.
fn fingerprint(bytes: &[u8]) -> u64 {
    bytes
        .iter()
        .fold(0xCBF2_9CE4_8422_2325, |hash, &byte| (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01B3))
}

#[test]
fn any_frame_can_be_had_at_any_time_and_is_the_same() {
    let (first, second) = (scene(7, 320, 180), scene(7, 320, 180));
    let late = frame(&first, 5000);
    let early = frame(&first, 3);
    assert_eq!(early, frame(&second, 3));
    assert_eq!(late, frame(&second, 5000));
    assert_eq!(first.truth(5000), second.truth(5000));
    assert_ne!(early, late);
    assert_ne!(early, frame(&scene(8, 320, 180), 3));
}

#[test]
fn the_pictures_are_those_the_demo_model_was_trained_on() {
    // When this fails the scene has changed: train engines/models/demo.onnx anew, then put the new numbers here.
    let prints = [(1, 100), (2, 4000), (3, 0)]
        .map(|(seed, number)| fingerprint(&frame(&scene(seed, 640, 360), number)));
    assert_eq!(
        prints,
        [7_789_992_871_119_947_906, 300_760_380_252_685_916, 3_181_815_676_846_104_174],
        "the scene's pictures have changed"
    );
}

#[test]
fn every_frame_carries_its_number() {
    for (width, height) in [(96, 96), (160, 120), (120, 160), (320, 180), (640, 360), (1280, 720)] {
        let scene = scene(3, width, height);
        for number in [0, 1, 99_999, u32::MAX] {
            let i420 = frame(&scene, number);
            let (width, height) = (width as usize, height as usize);
            assert_eq!(stamp::read(&i420[..width * height], width, width, height), Some(number));
        }
    }
}

#[test]
fn luma_and_chroma_stay_in_limited_range() {
    for seed in 0..6 {
        let i420 = frame(&scene(seed, 320, 180), 50);
        let (luma, chroma) = i420.split_at(320 * 180);
        assert!(luma.iter().all(|sample| (16..=235).contains(sample)));
        assert!(chroma.iter().all(|sample| (16..=240).contains(sample)));
    }
}

#[test]
fn truth_keeps_to_the_frame_and_out_of_the_stamp() {
    let (mut counts, mut classes, mut inside, mut covered) = ([0; OBJECTS_MAX + 1], [0; 3], 0, 0);
    for (width, height) in [(640, 360), (160, 120), (120, 160), (1280, 720)] {
        let [_, strip_top, _, _] = stamp::strip(width as usize, height as usize);
        for seed in 0..60 {
            let scene = scene(seed, width, height);
            for number in (0..900).step_by(90) {
                let truth = scene.truth(number);
                counts[truth.len()] += 1;
                for object in truth {
                    let [x1, y1, x2, y2] = object.bbox;
                    assert!(
                        x1 >= 0.0 && y1 >= 0.0 && x2 <= width as f32 && y2 <= strip_top as f32,
                        "{object:?}"
                    );
                    assert!(x1 < x2 && y1 < y2 && (0.0..=1.0).contains(&object.visible), "{object:?}");
                    assert_eq!(object.label, LABELS[object.class_id as usize]);
                    classes[object.class_id as usize] += 1;
                    let at_edge = x1 == 0.0 || x2 == width as f32;
                    inside += u32::from(!at_edge);
                    covered += u32::from(!at_edge && object.visible < score::VISIBLE_MIN);
                }
            }
        }
    }
    assert!(counts[3..7].iter().all(|&count| count > 50), "objects a frame: {counts:?}");
    assert!(classes.iter().all(|&count| count > 1000), "objects of each class: {classes:?}");
    assert!(covered * 200 < inside, "{covered} of {inside} objects are mostly hidden behind others");
}

#[test]
fn objects_come_in_pass_by_and_leave() {
    let scene = scene(11, 640, 360);
    let mut paths: HashMap<u64, Vec<(u32, f32, f32, u32)>> = HashMap::new();
    for number in 0..1500 {
        for (object_id, truth) in scene.objects(number) {
            let middle = (truth.bbox[0] + truth.bbox[2]) / 2.0;
            paths.entry(object_id).or_default().push((number, middle, truth.visible, truth.class_id));
        }
    }
    assert!(paths.len() > 10, "{} objects in 100 seconds", paths.len());
    for (object_id, path) in &paths {
        for pair in path.windows(2) {
            assert_eq!(pair[1].0, pair[0].0 + 1, "object {object_id} vanished for a while");
            assert!((pair[1].1 - pair[0].1).abs() < 16.0, "object {object_id} jumped: {pair:?}");
            assert_eq!(pair[1].3, pair[0].3, "object {object_id} changed its class");
        }
        let whole = path.first().unwrap().0 > 0 && path.last().unwrap().0 < 1499;
        if whole {
            assert!(
                path.first().unwrap().2 < 0.5 && path.last().unwrap().2 < 0.5,
                "object {object_id} popped up"
            );
            assert!(path.iter().any(|step| step.2 > 0.95), "object {object_id} was never in full view");
        }
    }
}

#[test]
fn options_out_of_range_are_named() {
    let right = SceneOptions { seed: 0, width: 640, height: 360, fps: 15 };
    assert_eq!(right.validate(), Ok(()));
    for (wrong, text) in [
        (SceneOptions { width: 641, ..right }, "width is 641"),
        (SceneOptions { height: 94, ..right }, "height is 94"),
        (SceneOptions { fps: 0, ..right }, "fps is 0"),
    ] {
        let message = wrong.validate().unwrap_err().to_string();
        assert!(message.contains(text), "{message}");
    }
}

#[test]
fn on_a_quiet_day_the_picture_stands_still_while_nobody_is_there() {
    let options = SceneOptions { seed: 3, width: 640, height: 360, fps: 15 };
    let scene = Scene::quiet(options, 0.08);
    let (empty, busy): (Vec<u32>, Vec<u32>) = (0..6000).partition(|&number| scene.truth(number).is_empty());
    assert!(empty.len() > 3000 && busy.len() > 300, "{} empty, {} not", empty.len(), busy.len());
    let run = empty.windows(2).find(|pair| pair[1] == pair[0] + 1).expect("two in a row");
    let picture = |number| {
        let mut i420 = vec![0; frame_bytes(640, 360)];
        scene.render(number, &mut i420);
        i420
    };
    let (one, other) = (picture(run[0]), picture(run[1]));
    // The light drifts by less than a code value.
    assert!(one.iter().zip(&other).all(|(one, other)| one.abs_diff(*other) <= 1));
    assert!(Scene::new(options).truth(run[0]).len() > 1, "which is not so on other days");
}
