//! Our own C++ declarations against the published slot tables: slot N of a class is what the tables say.
//!
//! The tables are others' data and lie outside this repository (`shared/facts/tensorrt-abi.json`). With
//! `WATCHPOST_BLESS=1` this test writes the declarations anew from them.

#[path = "../shim/declarations.rs"]
mod declarations;

use std::collections::BTreeSet;
use std::fmt::Write as _;
use std::fs;
use std::path::{Path, PathBuf};

use serde_json::Value;

/// Types that `shim/own/types.h` defines.
const DEFINED: [&str; 13] = [
    "BuilderFlags",
    "DataType",
    "Dims",
    "ILogger",
    "NetworkDefinitionCreationFlags",
    "OnnxParserFlags",
    "QuantizationFlags",
    "SubGraphCollection_t",
    "TacticSources",
    "TempfileControlFlags",
    "TimingCacheKey",
    "TimingCacheValue",
    "Weights",
];

fn tables() -> Option<Value> {
    let shared = std::env::var_os("WATCHPOST_SHARED").map(PathBuf::from);
    let shared = shared.unwrap_or_else(|| Path::new(env!("CARGO_MANIFEST_DIR")).join("../../../../shared"));
    let path = shared.join("facts/tensorrt-abi.json");
    let Ok(text) = fs::read_to_string(&path) else {
        eprintln!("NOT TESTED: our declarations against the slot tables: there is no {}", path.display());
        return None;
    };
    Some(serde_json::from_str(&text).expect("JSON"))
}

fn rows(class: &Value) -> Vec<(usize, String)> {
    let rows = class.as_array().expect("rows").iter();
    rows.map(|row| {
        let slot = row["slot"].as_u64().and_then(|slot| usize::try_from(slot).ok()).expect("a slot");
        let method = row["method"].as_str().expect("a method");
        (slot, method.replace("( ", "("))
    })
    .collect()
}

fn own(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("shim/own").join(name)
}

fn parser_tables(major: &Value) -> &Value {
    let entries = major.as_object().expect("an object");
    entries.iter().find(|(key, _)| key.starts_with("parser")).expect("the parser's tables").1
}

fn words(methods: &str) -> BTreeSet<&str> {
    let words = methods.split(|c: char| !c.is_alphanumeric() && c != '_');
    words.filter(|word| word.starts_with(|c: char| c.is_uppercase()) && !DEFINED.contains(word)).collect()
}

fn forwards(words: &BTreeSet<&str>) -> String {
    let is_class = |word: &str| word.starts_with('I') && word.chars().nth(1).is_some_and(char::is_uppercase);
    let mut out = String::new();
    for word in words {
        let _ = match is_class(word) {
            true => writeln!(out, "class {word};"),
            false => writeln!(out, "enum class {word} : int32_t;"),
        };
    }
    out
}

const HEAD: &str = "// Written by `WATCHPOST_BLESS=1 cargo test -p watchpost-standin-nvinfer --test declarations`;\n\
                    // the comment behind a function is its slot.\n#pragma once\n";

fn write_library(major: &Value) -> String {
    let classes = major["classes"].as_object().expect("classes");
    let all: Vec<_> = classes.iter().map(|(name, class)| (name, rows(class))).collect();
    let methods = all.iter().flat_map(|(_, rows)| rows).map(|(_, method)| method.as_str());
    let text = methods.collect::<Vec<_>>().join("\n");
    let mut out =
        format!("{HEAD}#include \"types.h\"\n\nnamespace nvinfer1\n{{\n{}", forwards(&words(&text)));
    out.push_str("\nnamespace apiv\n{\n");
    for (name, rows) in &all {
        let _ = writeln!(out, "class {name} : public VRoot\n{{\npublic:");
        for (slot, method) in rows {
            let _ = writeln!(out, "    virtual {method} noexcept = 0; // {slot}");
        }
        out.push_str("};\n");
    }
    out.push_str("} // namespace apiv\n} // namespace nvinfer1\n\n#include \"publics.h\"\n");
    out
}

fn write_parser(major: &Value) -> String {
    let classes = parser_tables(major);
    let mut body = String::new();
    for name in ["IParserError", "IParser"] {
        let _ = writeln!(body, "class {name}\n{{\npublic:");
        for (slot, method) in rows(&classes[name]) {
            if method.contains("(deleting)") {
                continue;
            }
            let line = if method.starts_with('~') {
                format!("virtual ~{name}() noexcept = default;")
            } else if name == "IParserError" {
                format!("virtual {method} = 0;")
            } else {
                format!("virtual {method} noexcept = 0;")
            };
            let _ = writeln!(body, "    {line} // {slot}");
        }
        body.push_str("};\n");
    }
    let code = body.lines().filter_map(|line| line.split("virtual ").nth(1)).collect::<Vec<_>>().join("\n");
    let mut words = words(&code);
    let of_library = ["IBuilderConfig", "ITensor"].map(|name| (name, words.remove(name)));
    for name in ["IParser", "IParserError"] {
        words.remove(name);
    }
    let mut out = format!("{HEAD}#include <cstddef>\n#include <cstdint>\n\nnamespace nvinfer1\n{{\n");
    for (name, _) in of_library.iter().filter(|(_, used)| *used) {
        let _ = writeln!(out, "class {name};");
    }
    out.push_str("} // namespace nvinfer1\n\nnamespace nvonnxparser\n{\n");
    for (name, _) in of_library.iter().filter(|(_, used)| *used) {
        let _ = writeln!(out, "using nvinfer1::{name};");
    }
    out.push_str("class IParserError;\nstruct SubGraphCollection_t;\nusing OnnxParserFlags = uint32_t;\n");
    out.push_str(&forwards(&words));
    let _ = writeln!(out, "\n{body}}} // namespace nvonnxparser");
    out
}

fn check(header: &str, class: &str, first_slot: usize, rows: &[(usize, String)]) {
    let methods = declarations::methods(header, class, first_slot).expect("the class is declared");
    let mut ours = methods.iter();
    for (slot, method) in rows {
        if method.contains("(deleting)") {
            continue;
        }
        let our = ours.next().unwrap_or_else(|| panic!("{class}: slot {slot} {method} is missing"));
        assert_eq!(our.slot, *slot, "{class}: {method}");
        if our.name.is_empty() {
            assert!(method.starts_with('~'), "{class}: slot {slot} is {method}, not the destructor");
        } else {
            assert_eq!(our.signature(), *method, "{class}: slot {slot}");
        }
    }
    assert!(ours.next().is_none(), "{class}: more functions than the tables know");
}

#[test]
fn every_slot_of_our_declarations_is_that_of_the_tables() {
    let Some(tables) = tables() else { return };
    for major in ["10", "11"] {
        let (library, parser) = (own(&format!("nvinfer{major}.h")), own(&format!("nvonnxparser{major}.h")));
        if std::env::var_os("WATCHPOST_BLESS").is_some() {
            fs::write(&library, write_library(&tables[major])).expect("written");
            fs::write(&parser, write_parser(&tables[major])).expect("written");
        }
        let library = fs::read_to_string(library).expect("our declarations");
        for (name, class) in tables[major]["classes"].as_object().expect("classes") {
            check(&library, name, 2, &rows(class));
        }
        let parser = fs::read_to_string(parser).expect("our declarations");
        for name in ["IParser", "IParserError"] {
            check(&parser, name, 0, &rows(&parser_tables(&tables[major])[name]));
        }
    }
}

#[test]
fn the_reader_sees_slots_overloads_and_destructors_where_they_are() {
    let header = "class A; /* class A { virtual int no() = 0; }; */\nclass Ab { virtual int no() = 0; };\n\
                  class A : public Root {\npublic:\n  // virtual int no() = 0;\n  TAG virtual int* f(\n      int a,\n\
                  char const* b = nullptr) noexcept\n = 0;\n  virtual ~A() {}\n  int g() { return 1; }\n\
                  #if X\n  virtual void f(B& b) const = 0;\n#endif\n};";
    let methods = declarations::methods(header, "A", 2).expect("found");
    let all: Vec<_> = methods.iter().map(|m| (m.slot, m.signature(), m.is_noexcept)).collect();
    assert_eq!(all[0], (2, "int* f(int a, char const* b = nullptr)".to_owned(), true));
    assert_eq!((all[1].0, methods[1].name.as_str()), (3, ""));
    assert_eq!(all[2], (5, "void f(B& b) const".to_owned(), false));
    assert!(declarations::methods(header, "B", 0).is_none());
    assert!(declarations::rest_class("A", &methods).contains("wps_unimplemented(\"A\", 5,"));
}
