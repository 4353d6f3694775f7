//! The fuzz targets (`make fuzz`) on their corpus and on seeded mutations of it: on every machine, in a few seconds.
//!
//! `FUZZ_MUTATIONS=100000` tries more.

#[path = "../fuzz/mutate.rs"]
mod mutate;
#[path = "../fuzz/targets.rs"]
mod targets;

use std::fs;
use std::path::{Path, PathBuf};

use mutate::Mutator;

/// Mutations of each target's seeds together.
const MUTATIONS: usize = 3000;
/// What the process may take: an input of a few kilobytes is no reason for more.
const RSS_MAX_KIB: u64 = 300 << 10;
/// Larger files are no seeds: they would be mutated where nothing is.
const SEED_BYTES_MAX: u64 = 32 << 10;

fn seeds(target: &str) -> Vec<(PathBuf, Vec<u8>)> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let mut folders = vec![root.join("fuzz/corpus").join(target)];
    match target {
        "config" => folders.push(root.join("tests/fixtures/config")),
        "manifest" => folders.push(root.join("engines/models")),
        _ => {}
    }
    let entries =
        folders.iter().flat_map(|folder| fs::read_dir(folder).unwrap_or_else(|e| panic!("{folder:?}: {e}")));
    let mut paths: Vec<PathBuf> = entries.map(|entry| entry.expect("readable").path()).collect();
    paths.retain(|path| fs::metadata(path).is_ok_and(|meta| meta.is_file() && meta.len() <= SEED_BYTES_MAX));
    paths.sort();
    paths.into_iter().map(|path| (path.clone(), fs::read(path).expect("readable"))).collect()
}

/// The most memory that this process has held.
fn rss_kib() -> u64 {
    let status = fs::read_to_string("/proc/self/status").unwrap_or_default();
    let line = status.lines().find(|line| line.starts_with("VmHWM:")).unwrap_or_default();
    line.split_whitespace().nth(1).and_then(|kib| kib.parse().ok()).unwrap_or(0)
}

/// Names the input when a target panics.
struct Trying<'a> {
    target: &'a str,
    input: &'a [u8],
}

impl Drop for Trying<'_> {
    fn drop(&mut self) {
        if std::thread::panicking() {
            let path = std::env::temp_dir().join(format!("watchpost-fuzz-{}", self.target));
            let _kept = fs::write(&path, self.input);
            eprintln!("{}: the input that broke it is {}", self.target, path.display());
        }
    }
}

#[test]
fn every_target_survives_its_corpus_and_mutations_of_it() {
    let mutations: usize =
        std::env::var("FUZZ_MUTATIONS").map_or(MUTATIONS, |text| text.parse().expect("a number"));
    let mut tried = 0;
    for (target, run) in targets::TARGETS {
        let seeds = seeds(target);
        assert!(seeds.len() >= 3, "{target} has {} seeds", seeds.len());
        for (path, input) in &seeds {
            let _trying = Trying { target, input };
            run(input);
            assert!(rss_kib() <= RSS_MAX_KIB, "{} took {} MiB", path.display(), rss_kib() >> 10);
        }
        let mut mutator = Mutator::new(1);
        for number in 0..mutations {
            let mut input = seeds[number % seeds.len()].1.clone();
            mutator.damage(&mut input);
            let _trying = Trying { target, input: &input };
            run(&input);
            assert!(number % 100 > 0 || rss_kib() <= RSS_MAX_KIB, "{target} took {} MiB", rss_kib() >> 10);
        }
        tried += seeds.len() + mutations;
        println!("{target}: {} seeds, {mutations} mutations", seeds.len());
    }
    println!(
        "BAD INPUTS TRIED: {tried} of {} targets; at most {} MiB",
        targets::TARGETS.len(),
        rss_kib() >> 10
    );
}
