//! `watchpost model add --test-image`: one picture through the recipe that was concluded, drawn into, so that a person
//! sees at a glance whether the recipe is right.

use std::fmt::Write as _;
use std::fs::File;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use watchpost_pipelines::{Pipeline, Pull, SourceKind, Spec};

use super::common::{output_failure, start_gstreamer};
use super::{Failure, exit};
use crate::annotate::{Canvas, Painter, Surroundings};
use crate::config::DetectorOptions;
use crate::decode::{Decoder, Limits};
use crate::engine;
use crate::filter::Filter;
use crate::frame::PrivacyMask;
use crate::model::Manifest;
use crate::offline::{self, Choice, Input};
use crate::publish::ObjectReader;
use crate::source::fault;

/// How long a picture may take to decode.
const PATIENCE: Duration = Duration::from_secs(60);
/// Objects that the report names.
const NAMED_MAX: usize = 10;

/// Detects in `picture`, writes it with what was found to `output`, and says what that was.
pub(super) fn run(manifest: &Manifest, picture: &Path, output: &Path) -> Result<String, Failure> {
    start_gstreamer()?;
    let spec = Spec::new(SourceKind::Image { path: picture.to_owned() });
    let mut canvas = read(&spec)?;
    let found = detect(manifest, picture, spec, &mut canvas)?;
    write(&canvas, output)?;
    Ok(report(&found, picture, output))
}

/// Label and score of what was found.
type Found = Vec<(String, f32)>;

fn detect(manifest: &Manifest, picture: &Path, spec: Spec, canvas: &mut Canvas) -> Result<Found, Failure> {
    let options = DetectorOptions::new(&manifest.name);
    let mut engine = engine::load(&options, manifest, &mut |_| {})
        .map_err(|error| Failure::new(exit::NO_INPUT, error.to_string()))?
        .engine;
    let limits = Limits { score_threshold: options.score_threshold, ..Limits::default() };
    let decoder = Decoder::new(&manifest.head, &manifest.input, manifest.labels.len(), limits);
    let labels: Arc<[String]> = manifest.labels.clone().into();
    let filter = Filter::new(None, &labels, options.score_threshold)
        .map_err(|_| Failure::new(exit::INTERNAL, "a filter of no classes names one"))?;
    let mut reader = ObjectReader::new(labels, decoder, limits.max_objects);
    let inputs = [Input { name: picture.display().to_string(), spec }];
    let choice = Choice { every: 1, max_frames: Some(1), realtime: false, keep_pictures: false, stop: None };
    let mut painter = Painter::new(manifest.labels.iter().map(String::as_str));
    if let Some(missing) = painter.missing(manifest.labels.iter().map(String::as_str)) {
        tracing::warn!("{missing}");
    }
    let mut outcome = Ok(Vec::new());
    let totals = offline::run(
        &inputs,
        &manifest.input,
        choice,
        PrivacyMask::default(),
        engine.as_mut(),
        &mut |ready, outputs, _| {
            let read = reader.read(
                outputs,
                &ready.geometry,
                &filter,
                |_| {},
                |objects| {
                    painter.draw(canvas, &Surroundings::default(), objects);
                    objects.iter().map(|object| (object.label.to_owned(), object.score)).collect()
                },
            );
            outcome = read.map_err(|error| Failure::new(exit::NO_INPUT, error.to_string()));
            outcome.is_ok()
        },
    )
    .map_err(|error| Failure::new(exit::INTERNAL, error.to_string()))?;
    match totals.faults.into_iter().next() {
        Some((_, fault)) => Err(Failure::new(exit::NO_INPUT, fault.detail)),
        None => outcome,
    }
}

/// The picture as it is, in red, green and blue.
fn read(spec: &Spec) -> Result<Canvas, Failure> {
    let refuse = |detail: String| Failure::new(exit::NO_INPUT, detail);
    let pipeline = Pipeline::start_pull(spec, "test-image")
        .map_err(|error| refuse(fault(error.into_failure()).detail))?;
    match pipeline.pull(PATIENCE) {
        Pull::Frame(frame) => {
            let mut canvas = Canvas::default();
            match frame.picture().map(|picture| canvas.show(&picture)) {
                Some(Ok(())) => Ok(canvas),
                Some(Err(error)) => Err(refuse(format!("the test image cannot be read: {error}"))),
                None => Err(refuse("the test image cannot be read: it is on the GPU".to_owned())),
            }
        }
        Pull::Error(failure) => Err(refuse(fault(failure).detail)),
        Pull::Eos | Pull::TimedOut => {
            Err(refuse("the test image holds no picture; give another one".to_owned()))
        }
    }
}

fn write(canvas: &Canvas, output: &Path) -> Result<(), Failure> {
    let name = output.display().to_string();
    let file = File::create(output).map_err(|error| output_failure(&name, &error))?;
    canvas.write_png(file).map_err(|error| output_failure(&name, &error))
}

fn report(found: &Found, picture: &Path, output: &Path) -> String {
    let mut text = format!("\nTest image {}: ", picture.display());
    if found.is_empty() {
        text.push_str(
            "nothing was found in it. If there is something to be found, check the channels, the fit and the values \
             above\n",
        );
    } else {
        let named: Vec<String> =
            found.iter().take(NAMED_MAX).map(|(label, score)| format!("{label} {score:.2}")).collect();
        let more = found.len().saturating_sub(NAMED_MAX);
        let more = if more > 0 { format!(" and {more} more") } else { String::new() };
        let _ = writeln!(text, "{}{more}", named.join(", "));
    }
    let _ = writeln!(text, "Look at {}: the boxes must fit the objects closely", output.display());
    text
}
