//! `watchpost engine build`: from the arguments to an engine in the cache, with its progress told.

use std::io::{self, IsTerminal, Write};
use std::time::Instant;

use serde_json::json;

use super::super::common::{find_model, print, print_json};
use super::super::{Failure, exit};
use super::BuildArgs;
use super::{quantize, show};
use crate::clock;
use crate::engine::cache::{Cache, Cached, Header, Origin, PlanPrecision};
use crate::engine::tensorrt_build::{self, BuildError, BuildRequest, Calibration, PlanBuilder};
use crate::model::{self, Manifest, OnnxFacts};

/// Finds the builder of this box.
type Look<'a> = &'a mut dyn FnMut() -> Result<Box<dyn PlanBuilder>, BuildError>;

pub(super) fn run(
    args: &BuildArgs,
    look: Look<'_>,
    cache: &mut dyn FnMut() -> Cache,
    out: &mut dyn Write,
) -> Result<(), Failure> {
    check_precision(args)?;
    if args.background {
        // Neither is worth failing for: the engine is built all the same.
        let _not_gentle = rustix::process::nice(10);
        let _outlives = rustix::process::set_parent_process_death_signal(Some(rustix::process::Signal::KILL));
    }
    let manifest = find_model(&args.model, exit::NO_INPUT)?;
    let facts = model::verify(&manifest)?;
    let mut progress = Progress::start();
    let mut say = |line: &str| progress.say(line);
    if args.backend == "cpu" {
        let made = quantize::run(args, &manifest, &facts, &mut say, out);
        progress.end();
        return made;
    }
    let request = request(args, &facts)?;
    let mut builder = match look() {
        Err(BuildError::Unavailable(why)) if args.backend == "auto" && request.calibration.is_some() => {
            say(&format!("an INT8 model for the CPU is made: {why}"));
            let made = quantize::run(args, &manifest, &facts, &mut say, out);
            progress.end();
            return made;
        }
        found => found?,
    };
    let cache = cache();
    let obtained =
        tensorrt_build::obtain(&cache, builder.as_mut(), &manifest, &request, args.force, &mut say);
    progress.end();
    let (key, engine) = obtained?;
    let header = Header { key, facts: engine.facts.clone() };
    match args.json {
        true => print_json(out, &report_json(&engine, &header))?,
        false => print(out, &report_text(&engine, &header, &manifest))?,
    }
    match &engine.kept {
        Ok(_) => Ok(()),
        Err(error) => Err(Failure::new(exit::IO, format!("the engine was built and is not kept: {error}"))),
    }
}

/// Options that contradict each other, before any file is touched.
fn check_precision(args: &BuildArgs) -> Result<(), Failure> {
    let precision = args.asked_precision();
    let refuse = |reason: &str| Err(Failure::new(exit::USAGE, reason));
    if args.int8_calibration.is_some() && precision != Some(PlanPrecision::Int8) {
        return refuse("--int8-calibration is for --precision int8; leave one of them out");
    }
    if args.backend == "cpu" && precision != Some(PlanPrecision::Int8) {
        return refuse(
            "--backend cpu makes INT8 models only: add --precision int8 and --calibration DIR; other precisions need \
             nothing built",
        );
    }
    if args.dla.is_some() && precision == Some(PlanPrecision::Fp32) {
        return refuse("--dla computes in fp16 and int8 only; leave --precision fp32 out");
    }
    Ok(())
}

fn request(args: &BuildArgs, facts: &OnnxFacts) -> Result<BuildRequest, Failure> {
    let batch = tensorrt_build::batch_for(facts, args.max_batch)?;
    let precision = args.asked_precision();
    let is_quantized = facts.op_histogram().contains_key("QuantizeLinear");
    if precision == Some(PlanPrecision::Int8) && args.int8_calibration.is_none() && !is_quantized {
        return Err(Failure::new(
            exit::USAGE,
            "--precision int8 needs --int8-calibration DIR with some hundred pictures of your cameras, or a model \
             that is quantized already (it has QuantizeLinear operators); this one is not",
        ));
    }
    let calibration = args.int8_calibration.as_deref().map(Calibration::read).transpose()?;
    let (sparse, dla_core, timing_cache) = (args.sparse, args.dla, args.timing_cache.clone());
    Ok(BuildRequest { precision, batch, sparse, dla_core, timing_cache, calibration })
}

fn origin(engine: &Cached) -> (&'static str, Option<String>) {
    match &engine.origin {
        Origin::Hit => ("hit", None),
        Origin::Waited => ("waited", None),
        Origin::Built(miss) => ("built", Some(miss.to_string())),
    }
}

fn report_text(engine: &Cached, header: &Header, manifest: &Manifest) -> String {
    let (origin, reason) = origin(engine);
    let how = match (origin, reason) {
        ("built", reason) => {
            format!("built in {:.0} s, because {}", engine.facts.build_seconds, reason.unwrap_or_default())
        }
        ("waited", _) => "another process built it meanwhile".to_owned(),
        _ => "already in the cache; --force builds it again".to_owned(),
    };
    let mut text = format!("{}: {how}\n", manifest.name);
    text += &show::text(header, engine.plan.len() as u64);
    if let Ok(path) = &engine.kept {
        text += &format!("file         {}\n", path.display());
    }
    text
}

fn report_json(engine: &Cached, header: &Header) -> serde_json::Value {
    let (origin, reason) = origin(engine);
    let mut value = show::json(header, engine.plan.len() as u64);
    value["origin"] = json!(origin);
    value["reason"] = json!(reason);
    value["file"] = json!(engine.kept.as_ref().ok().map(|path| path.display().to_string()));
    value["not_kept"] = json!(engine.kept.as_ref().err().map(ToString::to_string));
    value
}

/// What goes on, on stderr: on a terminal one line that is written over, else one line for each step.
struct Progress {
    is_terminal: bool,
    began: Instant,
    last: String,
}

impl Progress {
    fn start() -> Self {
        Self { is_terminal: io::stderr().is_terminal(), began: clock::now(), last: String::new() }
    }

    fn say(&mut self, line: &str) {
        if line == self.last {
            return;
        }
        line.clone_into(&mut self.last);
        let seconds = clock::now().saturating_duration_since(self.began).as_secs();
        // A line that wraps could not be written over.
        let short: String = line.chars().filter(|c| !c.is_control()).take(100).collect();
        let _nobody_listens = match self.is_terminal {
            true => write!(io::stderr(), "\r\x1b[K[{seconds:>4} s] {short}"),
            false => writeln!(io::stderr(), "[{seconds} s] {line}"),
        };
        let _nobody_listens = io::stderr().flush();
    }

    fn end(&self) {
        if self.is_terminal && !self.last.is_empty() {
            let _nobody_listens = write!(io::stderr(), "\r\x1b[K");
        }
    }
}

#[cfg(test)]
mod tests {
    use clap::Parser;
    use std::fs;

    use super::super::{EngineArgs, EngineCommand};
    use super::*;
    use crate::engine::tensorrt_build::tests::BuilderHere;

    #[derive(Debug, Parser)]
    struct Engine {
        #[command(flatten)]
        args: EngineArgs,
    }

    /// Runs `engine build` with a builder of our own; what stdout got.
    fn build(cache: &std::path::Path, args: &[&str]) -> Result<String, Failure> {
        let parsed = Engine::try_parse_from([&["engine", "build"], args].concat()).expect("parsed");
        let EngineCommand::Build(args) = parsed.args.command else { panic!("build") };
        let mut out = Vec::new();
        let mut look = || Ok(Box::new(BuilderHere::new()) as Box<dyn PlanBuilder>);
        run(&args, &mut look, &mut || Cache::at(cache, args.cache_limit), &mut out)?;
        Ok(String::from_utf8(out).unwrap())
    }

    #[test]
    fn an_engine_is_built_found_listed_and_explained() {
        let folder = tempfile::tempdir().unwrap();
        let built = build(folder.path(), &["demo", "--json"]).unwrap();
        let built: serde_json::Value = serde_json::from_str(&built).unwrap();
        assert_eq!(
            (&built["origin"], &built["precision"], &built["model"]),
            (&json!("built"), &json!("fp16"), &json!("demo"))
        );
        let hit: serde_json::Value =
            serde_json::from_str(&build(folder.path(), &["demo", "--json"]).unwrap()).unwrap();
        assert_eq!(
            (&hit["origin"], &hit["key"], &hit["file"]),
            (&json!("hit"), &built["key"], &built["file"])
        );
        let text = build(folder.path(), &["demo", "--force"]).unwrap();
        for words in ["a new one was asked for", "tensorrt 10.3.0.30", "8.7", "A GPU", "fp16", ".engine"] {
            assert!(text.contains(words), "{words}: {text}");
        }
        let cache = Cache::at(folder.path(), 1 << 30);
        let (mut list, mut explained) = (Vec::new(), Vec::new());
        show::list(&cache, false, &mut list).unwrap();
        let key = built["key"].as_str().unwrap();
        let list = String::from_utf8(list).unwrap();
        assert!(list.contains(&key[..16]) && list.contains("demo"), "{list}");
        show::inspect(&cache, std::path::Path::new(&key[..6]), true, &mut explained).unwrap();
        let explained: serde_json::Value = serde_json::from_slice(&explained).unwrap();
        assert_eq!((&explained["key"], &explained["file"]), (&built["key"], &built["file"]));
    }

    #[test]
    fn what_contradicts_itself_or_the_model_is_refused_before_anything_is_built() {
        let folder = tempfile::tempdir().unwrap();
        let cache = folder.path().join("engines");
        let pictures = folder.path().display().to_string();
        let refused: [(&[&str], u8, &str); 7] = [
            (&["demo", "--precision", "fp16", "--int8-calibration", &pictures], 64, "--precision int8"),
            (&["demo", "--precision", "fp32", "--dla", "0"], 64, "--dla"),
            (&["demo", "--precision", "int8"], 64, "--int8-calibration DIR"),
            (&["demo", "--max-batch", "4"], 64, "dynamic batch"),
            (&["demo", "--int8-calibration", &pictures], 66, "no pictures"),
            (&["demo", "--int8-calibration", "/nowhere"], 66, "/nowhere"),
            (&["nowhere.onnx"], 66, "nowhere.onnx"),
        ];
        for (args, code, words) in refused {
            let failure = build(&cache, args).unwrap_err();
            assert_eq!(failure.code, code, "{args:?}: {failure}");
            assert!(failure.message.contains(words), "{args:?}: {failure}");
        }
        assert!(!cache.exists());
        fs::write(folder.path().join("a.png"), "one").unwrap();
        let int8 = build(&cache, &["demo", "--int8-calibration", &pictures, "--json"]).unwrap();
        assert!(int8.contains("\"int8\""), "{int8}");
    }

    #[test]
    fn an_engine_that_cannot_be_kept_ends_with_74() {
        let folder = tempfile::tempdir().unwrap();
        fs::write(folder.path().join("file"), "").unwrap();
        let failure = build(&folder.path().join("file/engines"), &["demo"]).unwrap_err();
        assert_eq!(failure.code, 74, "{failure}");
        assert!(failure.message.contains("not kept"), "{failure}");
        let failure = build(folder.path(), &["demo", "--cache-limit", "10B"]).unwrap_err();
        assert_eq!(failure.code, 74, "{failure}");
    }
}
