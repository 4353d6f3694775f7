//! Building with a builder that has a device of its own: so much memory, so much time per frame.

use super::*;
use crate::engine::cache::{Miss, Origin};

/// Frames fit into its memory up to `fits` while it builds, up to `loads` while it runs; an inference takes `fixed_ms`
/// plus `frame_ms` a frame.
#[derive(Debug)]
pub(crate) struct BuilderHere {
    pub(crate) version: &'static str,
    pub(crate) fits: usize,
    pub(crate) loads: usize,
    pub(crate) fixed_ms: f64,
    pub(crate) frame_ms: f64,
    pub(crate) built: Vec<Profile>,
    pub(crate) measured: Vec<usize>,
    pub(crate) fails: Option<BuildError>,
}

impl BuilderHere {
    pub(crate) fn new() -> Self {
        Self {
            version: "10.3.0.30",
            fits: 64,
            loads: 64,
            fixed_ms: 3.0,
            frame_ms: 1.0,
            built: Vec::new(),
            measured: Vec::new(),
            fails: None,
        }
    }
}

impl PlanBuilder for BuilderHere {
    fn library(&self) -> (&'static str, String) {
        ("tensorrt", self.version.to_owned())
    }

    fn device(&self) -> BuildDevice {
        BuildDevice { name: "A GPU".to_owned(), compute_capability: (8, 7) }
    }

    fn precision(&self, order: &PlanOrder<'_>) -> Result<PlanPrecision, BuildError> {
        match order.request.precision {
            Some(PlanPrecision::Bf16) => Err(BuildError::Unavailable("no bf16 here; use fp16".to_owned())),
            asked => Ok(asked.unwrap_or(PlanPrecision::Fp16)),
        }
    }

    fn build(
        &mut self,
        order: &PlanOrder<'_>,
        progress: &mut dyn FnMut(&str),
    ) -> Result<Vec<u8>, BuildError> {
        progress("choosing kernels");
        self.built.push(order.profile);
        match &self.fails {
            Some(error) => Err(error.clone()),
            None if order.profile.max > self.fits => Err(BuildError::OutOfMemory("too large".to_owned())),
            None => Ok(format!("{} {:?}", order.onnx.len(), order.profile).into_bytes()),
        }
    }

    fn measuring<'a>(&'a mut self, plan: &[u8], _order: &PlanOrder<'_>) -> Result<Measure<'a>, BuildError> {
        assert!(!plan.is_empty());
        if self.built.last().is_some_and(|profile| profile.max > self.loads) {
            return Err(BuildError::OutOfMemory("too large to run".to_owned()));
        }
        Ok(Box::new(|batch| {
            self.measured.push(batch);
            let median_ms = self.fixed_ms + self.frame_ms * batch as f64;
            Ok(Measurement { median_ms, bytes: (batch as u64) << 20 })
        }))
    }
}

pub(crate) fn request(batch: BatchRequest) -> BuildRequest {
    BuildRequest {
        precision: None,
        batch,
        sparse: false,
        dla_core: None,
        timing_cache: None,
        calibration: None,
    }
}

fn manifest() -> Manifest {
    crate::model::find("demo", &[]).expect("compiled in")
}

fn cache() -> (tempfile::TempDir, Cache) {
    let folder = tempfile::tempdir().unwrap();
    let cache = Cache::at(folder.path(), 1 << 30);
    (folder, cache)
}

#[test]
fn a_given_batch_is_built_once_and_then_found() {
    let (_folder, cache) = cache();
    let (mut builder, manifest, request) = (BuilderHere::new(), manifest(), request(BatchRequest::Upto(4)));
    let mut lines = Vec::new();
    let mut take = |builder: &mut BuilderHere, is_fresh| {
        obtain(&cache, builder, &manifest, &request, is_fresh, &mut |line| lines.push(line.to_owned()))
            .map(|(_, cached)| cached)
            .unwrap()
    };
    let first = take(&mut builder, false);
    assert_eq!((first.origin, first.facts.max_batch), (Origin::Built(Miss::Absent(None)), 4));
    assert_eq!((first.facts.gpu_name.as_str(), first.facts.model_name.as_str()), ("A GPU", "demo"));
    let second = take(&mut builder, false);
    assert_eq!((second.origin, second.plan), (Origin::Hit, first.plan));
    assert_eq!(builder.built, [profile(4)]);
    assert_eq!(take(&mut builder, true).origin, Origin::Built(Miss::NotWanted));
    // Another version of the library is another engine.
    builder.version = "10.16.1.11";
    assert!(matches!(take(&mut builder, false).origin, Origin::Built(Miss::Absent(Some(_)))));
    assert_eq!(builder.built.len(), 3);
    assert_eq!(lines, ["choosing kernels"; 3]);
}

#[test]
fn auto_measures_one_engine_and_builds_for_what_it_found() {
    let (_folder, cache) = cache();
    let (manifest, request) = (manifest(), request(BatchRequest::Auto { limit: 64 }));
    // 3 + n: 4, 2.5, 1.75, 1.375, 1.19, 1.09, 1.047 ms a frame; the last step gains 4.3 %.
    let mut builder = BuilderHere::new();
    let (_, built) = obtain(&cache, &mut builder, &manifest, &request, false, &mut |_| {}).unwrap();
    assert_eq!(builder.built, [Profile { min: 1, opt: 8, max: 64 }, profile(32)]);
    assert_eq!(builder.measured, [1, 2, 4, 8, 16, 32, 64]);
    assert_eq!((built.facts.max_batch, built.facts.opt_batch, built.facts.probe.len()), (32, 32, 7));
    assert!(built.facts.probe_ended.contains("less than 5 %"), "{}", built.facts.probe_ended);
    // The daemon finds it without measuring.
    let mut again = BuilderHere::new();
    let (_, hit) = obtain(&cache, &mut again, &manifest, &request, false, &mut |_| {}).unwrap();
    assert_eq!((hit.origin, hit.facts, again.measured.len()), (Origin::Hit, built.facts, 0));
}

#[test]
fn auto_takes_what_fits_and_needs_one_build_where_the_first_is_right() {
    let (_folder, cache) = cache();
    let (manifest, request) = (manifest(), request(BatchRequest::Auto { limit: 64 }));
    let mut small = BuilderHere { fits: 8, frame_ms: 0.1, ..BuilderHere::new() };
    let (_, built) = obtain(&cache, &mut small, &manifest, &request, true, &mut |_| {}).unwrap();
    let sizes: Vec<usize> = small.built.iter().map(|profile| profile.max).collect();
    assert_eq!((sizes, built.facts.max_batch), (vec![64, 32, 16, 8], 8));
    // It could be built and not be run.
    let mut narrow = BuilderHere { loads: 2, frame_ms: 0.1, ..BuilderHere::new() };
    let (_, built_narrow) = obtain(&cache, &mut narrow, &manifest, &request, true, &mut |_| {}).unwrap();
    assert_eq!((built_narrow.facts.max_batch, narrow.measured.as_slice()), (2, &[1, 2][..]));
    let (_, built) = obtain(&cache, &mut small, &manifest, &request, true, &mut |_| {}).unwrap();
    let mut tiny = BuilderHere { fits: 0, ..BuilderHere::new() };
    let error = obtain(&cache, &mut tiny, &manifest, &request, true, &mut |_| {}).unwrap_err();
    assert!(matches!(error, BuildError::OutOfMemory(_)));
    // What was there before stays.
    assert_eq!(
        obtain(&cache, &mut tiny, &manifest, &request, false, &mut |_| {}).unwrap().1.plan,
        built.plan
    );
}

#[test]
fn a_failure_is_handed_on_and_keeps_nothing() {
    let (folder, cache) = cache();
    let failed = BuildError::Failed("tactic".to_owned());
    let mut builder = BuilderHere { fails: Some(failed.clone()), ..BuilderHere::new() };
    for batch in [BatchRequest::Upto(1), BatchRequest::Auto { limit: 64 }] {
        let error =
            obtain(&cache, &mut builder, &manifest(), &request(batch), false, &mut |_| {}).unwrap_err();
        assert_eq!(error, failed);
    }
    assert_eq!((builder.built.len(), fs::read_dir(folder.path()).unwrap().count()), (2, 0));
    let bf16 = BuildRequest { precision: Some(PlanPrecision::Bf16), ..request(BatchRequest::Upto(1)) };
    let error = obtain(&cache, &mut builder, &manifest(), &bf16, false, &mut |_| {}).unwrap_err();
    assert!(matches!(error, BuildError::Unavailable(_)));
}

#[test]
fn a_model_file_that_changed_is_not_built() {
    let (folder, cache) = cache();
    let file = folder.path().join("m.onnx");
    fs::write(&file, "another").unwrap();
    let mut builder = BuilderHere::new();
    for source in [ModelSource::File(file.clone()), ModelSource::File(folder.path().join("gone.onnx"))] {
        let manifest = Manifest { source, ..manifest() };
        let request = request(BatchRequest::Upto(1));
        let error = obtain(&cache, &mut builder, &manifest, &request, false, &mut |_| {}).unwrap_err();
        assert!(matches!(error, BuildError::Input(_)), "{error}");
    }
    assert!(builder.built.is_empty());
}

#[test]
fn the_batch_follows_the_model() {
    use crate::model::{Dim, TensorFacts};
    let mut facts = crate::model::verify(&manifest()).unwrap();
    let mut with = |batch: Dim, asked| {
        let input: &mut TensorFacts = &mut facts.inputs[0];
        input.shape.as_mut().unwrap()[0] = batch;
        batch_for(&facts, asked)
    };
    let open = || Dim::Open("batch".to_owned());
    assert_eq!(with(open(), Auto::Auto), Ok(BatchRequest::Auto { limit: 64 }));
    assert_eq!(with(open(), Auto::Fixed(8)), Ok(BatchRequest::Upto(8)));
    assert_eq!(with(Dim::Fixed(1), Auto::Auto), Ok(BatchRequest::Upto(1)));
    assert_eq!(with(Dim::Fixed(1), Auto::Fixed(1)), Ok(BatchRequest::Upto(1)));
    assert!(matches!(with(Dim::Fixed(1), Auto::Fixed(8)), Err(BuildError::Request(_))));
    assert!(matches!(with(Dim::Fixed(4), Auto::Auto), Err(BuildError::Input(_))));
}

#[test]
fn calibration_pictures_are_named_by_their_contents() {
    let folder = tempfile::tempdir().unwrap();
    let empty = Calibration::read(folder.path()).unwrap_err();
    assert!(matches!(&empty, BuildError::Input(reason) if reason.contains("no pictures")), "{empty}");
    assert!(matches!(Calibration::read(Path::new("/nowhere")), Err(BuildError::Input(_))));
    fs::write(folder.path().join("b.JPG"), "two").unwrap();
    fs::write(folder.path().join("a.png"), "one").unwrap();
    fs::write(folder.path().join("notes.txt"), "mine").unwrap();
    let first = Calibration::read(folder.path()).unwrap();
    let names: Vec<_> = first.pictures.iter().map(|path| path.file_name().unwrap().to_owned()).collect();
    assert_eq!(names, ["a.png", "b.JPG"]);
    fs::write(folder.path().join("notes.txt"), "changed").unwrap();
    assert_eq!(Calibration::read(folder.path()).unwrap(), first);
    fs::write(folder.path().join("a.png"), "other").unwrap();
    assert_ne!(Calibration::read(folder.path()).unwrap().sha256, first.sha256);
}
