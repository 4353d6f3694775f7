//! `docs/models.md` has a row for every model of the shared folder, with the reference figures that the tests use, and none
//! is further from its reference than it may be.

mod program;

use std::collections::BTreeMap;
use std::fs;

use program::{root, shared};
use serde_json::Value;

/// How far the figures may be off.
const TOLERANCE: f64 = 0.002;

/// The rows of the table, each by its model: cells by the words of their column.
fn table() -> BTreeMap<String, BTreeMap<String, String>> {
    let text = fs::read_to_string(root().join("docs/models.md")).expect("the page");
    let (_, rest) = text.split_once("<!-- table").expect("the table's beginning");
    let (rows, _) = rest.split_once("<!-- end").expect("the table's end");
    let cells = |row: &str| -> Vec<String> {
        row.trim().trim_matches('|').split('|').map(|cell| cell.trim().to_owned()).collect()
    };
    let mut lines = rows.lines().filter(|line| line.starts_with('|'));
    let header = cells(lines.next().expect("a header"));
    let named = |row: &str| -> BTreeMap<String, String> { header.iter().cloned().zip(cells(row)).collect() };
    lines.skip(1).map(|row| (cells(row)[0].clone(), named(row))).collect()
}

/// `0.1 / 0.2`
#[track_caller]
fn pair(cell: &str) -> [f64; 2] {
    let (first, second) = cell.split_once(" / ").unwrap_or_else(|| panic!("{cell:?}"));
    [first, second].map(|number| number.parse().unwrap_or_else(|_| panic!("{number:?} is no number")))
}

#[test]
fn no_figure_is_further_from_its_reference_than_it_may_be() {
    let reference = root().join("tests/fixtures/reference/eval.json");
    let reference: Value =
        serde_json::from_str(&fs::read_to_string(reference).expect("the fixture")).expect("JSON");
    let table = table();
    assert_eq!(table.len(), reference.as_object().expect("models").len());
    for (model, row) in &table {
        let figures = &reference[model.trim_end_matches(".onnx")];
        let [map_50_95, map_50] = pair(&row["Reference"]);
        for (said, key) in [(map_50_95, "map_50_95"), (map_50, "map_50")] {
            let expected = figures[key].as_f64().unwrap_or_else(|| panic!("{model} has no reference"));
            assert!((said - expected).abs() < 1e-4, "{model}: {key} {said}, the tests use {expected}");
        }
        let reference = pair(&row["Reference"]);
        for (engine, difference) in [
            ("ONNX Runtime", "Its difference"),
            ("OpenVINO", "OpenVINO's difference"),
            ("Built-in engine", "Built-in's difference"),
        ] {
            // A machine without OpenVINO makes the table without it.
            if engine == "OpenVINO" && !row.contains_key(engine) {
                continue;
            }
            // Quantised models round in the middle, and only the same library rounds the same: the page says why.
            let is_noise = engine != "ONNX Runtime" && model.contains("int8");
            let allowed = if is_noise { 0.015 } else { TOLERANCE };
            for ((ours, expected), said) in
                pair(&row[engine]).iter().zip(reference).zip(pair(&row[difference]))
            {
                assert!(
                    (ours - expected).abs() <= allowed,
                    "{model}, {engine}: {ours}, reference {expected}"
                );
                assert!((ours - expected - said).abs() < 2e-4, "{model}, {difference}: {said}");
            }
        }
        assert!(["Apache-2.0", "AGPL-3.0"].contains(&row["Licence"].as_str()), "{model}: {}", row["Licence"]);
    }
}

#[test]
fn every_shared_model_has_its_row_and_its_size() {
    let Some(models) = shared("models") else { return };
    let table = table();
    let mut names = Vec::new();
    for entry in fs::read_dir(models).expect("models") {
        let entry = entry.expect("an entry");
        let name = entry.file_name().to_string_lossy().into_owned();
        if !name.ends_with(".onnx") {
            continue;
        }
        let row = table.get(&name).unwrap_or_else(|| panic!("docs/models.md has no row for {name}"));
        let mebibytes = entry.metadata().expect("there").len() as f64 / f64::from(1 << 20);
        assert_eq!(row["Size"], format!("{mebibytes:.1} MiB"), "{name}");
        names.push(name);
    }
    assert_eq!(names.len(), table.len(), "{names:?}");
}
