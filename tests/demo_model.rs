//! The project's own model is compiled in: it works from any folder, with nothing installed.

use watchpost::engine::Engine;
use watchpost::engine::builtin::BuiltinEngine;
use watchpost::frame::SlotMemory;
use watchpost::model::{self, HeadRecipe, ModelSource};

#[test]
fn demo_is_found_without_any_folder_and_runs() {
    let manifest = model::find("demo", &[]).unwrap();
    assert!(matches!(manifest.source, ModelSource::Embedded(_)));
    assert!(manifest.path.is_none() && manifest.notes.is_empty());
    assert!(matches!(manifest.head, HeadRecipe::Yolox { .. }));
    let mut engine = BuiltinEngine::load(&manifest, 1).unwrap();
    let mut rows = 0;
    engine
        .infer(&[&SlotMemory::Host(vec![0.5; manifest.input.len()].into())], &mut |_, outputs| {
            rows = outputs[0].shape[1];
            assert_eq!(outputs[0].shape[2], 5 + manifest.labels.len());
            // Objectness and classes have been through a sigmoid.
            assert!(
                outputs[0]
                    .data
                    .chunks(outputs[0].shape[2])
                    .all(|row| { row[4..].iter().all(|score| (0.0..=1.0).contains(score)) })
            );
        })
        .unwrap();
    assert_eq!(Some(rows), manifest.anchors());
}

#[test]
fn what_is_compiled_in_is_what_lies_in_the_source_tree() {
    let folder = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("engines/models");
    let on_disk = model::find("demo", std::slice::from_ref(&folder)).unwrap();
    assert_eq!(on_disk.file().unwrap(), &folder.join("demo.onnx"));
    assert_eq!(on_disk.sha256, model::find("demo", &[]).unwrap().sha256);
    let listed = model::list(&[folder]);
    let demos = listed.iter().filter(|entry| entry.manifest.as_ref().is_ok_and(|m| m.name == "demo"));
    assert_eq!(demos.count(), 1, "the same model is listed once");
}
