//! The letterbox kernel, as the driver compiles it for this GPU, against the letterbox's specification.

use std::process::Command;
use std::time::Duration;

use serde_json::json;
use watchpost::clock;
use watchpost::model::{ChannelOrder, Fit, InputRecipe};
use watchpost_cuda::{
    Buffer, DeviceLayout, DevicePicture, DevicePlane, Element, Gpu, Letterboxer, Matrix, Owner, Range,
    SlotTensor, Stream, f16_to_f32,
};
use watchpost_prove::child;
use watchpost_prove::outcome::{Figures, Stop, demand, rounded};
use watchpost_prove::pictures::{
    BOUND, Format, Source, device_placement, device_recipe, greatest_error, recipe,
};
use watchpost_prove::settings::Settings;

const COLOURS: [(Matrix, Range); 4] = [
    (Matrix::Bt601, Range::Limited),
    (Matrix::Bt601, Range::Full),
    (Matrix::Bt709, Range::Limited),
    (Matrix::Bt709, Range::Full),
];
const FORMATS: [Format; 3] = [Format::Nv12, Format::I420, Format::P010];
/// Set in the process that the sanitizer watches.
const WATCHED: &str = "WATCHPOST_PROVE_WATCHED";

pub fn run(settings: &Settings, figures: &mut Figures) -> Result<(), Stop> {
    let gpu = super::gpu()?;
    pictures(&gpu, settings, figures)?;
    halves(&gpu, settings, figures)?;
    if std::env::var_os(WATCHED).is_some() {
        return Ok(());
    }
    for (name, width, height) in [("1080p", 1920, 1080), ("2160p", 3840, 2160)] {
        figures.insert(format!("nv12_{name}_to_640_f16"), time(&gpu, width, height, settings)?);
    }
    sanitized(settings, figures)
}

/// A picture in device memory.
pub struct OnDevice {
    _memory: Buffer,
    layout: DeviceLayout,
    source: (u32, u32, Matrix, Range),
}

impl OnDevice {
    pub fn new(gpu: &Gpu, stream: &Stream, source: &Source) -> Result<Self, Stop> {
        let planes = source.memory();
        let all: Vec<u8> = planes.iter().flat_map(|(bytes, _)| bytes.iter().copied()).collect();
        let mut memory = Buffer::new(gpu, Owner::Staging, all.len())?;
        memory.write(stream, &all)?;
        let mut address = memory.address();
        let placed: Vec<DevicePlane> = planes
            .iter()
            .map(|(bytes, stride_bytes)| {
                let plane = DevicePlane { address, stride_bytes: *stride_bytes };
                address += bytes.len() as u64;
                plane
            })
            .collect();
        let layout = match source.format {
            Format::Nv12 => DeviceLayout::Nv12 { y: placed[0], uv: placed[1] },
            Format::I420 => DeviceLayout::I420 { y: placed[0], u: placed[1], v: placed[2] },
            Format::P010 => DeviceLayout::P010 { y: placed[0], uv: placed[1] },
        };
        let source = (source.width, source.height, source.matrix, source.range);
        Ok(Self { _memory: memory, layout, source })
    }

    pub fn picture(&self) -> DevicePicture<'_> {
        let (width, height, matrix, range) = self.source;
        // SAFETY: the planes lie in `_memory`, written completely before `new` returned, which lives as long as what this
        // returns; every user here drops its letterboxer, or calls `finish`, before the picture.
        unsafe { DevicePicture::new(width, height, self.layout, matrix, range, None) }
    }
}

/// What the kernel makes of a picture.
fn letterboxed(
    gpu: &Gpu,
    stream: &Stream,
    source: &Source,
    recipe: &InputRecipe,
    element: Element,
) -> Result<Vec<f32>, Stop> {
    let on_device = OnDevice::new(gpu, stream, source)?;
    let mut slot = SlotTensor::new(gpu, element, recipe.len())?;
    let mut letterboxer = Letterboxer::new(gpu, device_recipe(recipe))?;
    let placement = device_placement(recipe, source.width, source.height);
    // What was there before must not pass for a result.
    letterboxer.staging()?.fill(f32::NAN);
    letterboxer.upload(&mut slot)?;
    letterboxer.letterbox(&on_device.picture(), placement, &mut slot)?;
    letterboxer.finish()?;
    Ok(slot.to_host(stream)?)
}

fn recipes(quick: bool) -> Vec<InputRecipe> {
    let size = |large: usize| if quick { large / 10 } else { large };
    let unit = InputRecipe { scale: [1.0 / 255.0; 3], ..recipe(size(640), size(640), Fit::LetterboxCentre) };
    let bgr =
        InputRecipe { channels: ChannelOrder::Bgr, ..recipe(size(416), size(416), Fit::LetterboxTopLeft) };
    let normalised = InputRecipe {
        scale: [0.0171, 0.0175, 0.0174],
        offset: [-2.118, -2.036, -1.804],
        ..recipe(size(320), size(192), Fit::Stretch)
    };
    let odd = InputRecipe {
        scale: [-0.5, 2.0, 0.25],
        offset: [3.0, -1.0, 0.0],
        pad: 0,
        ..recipe(33, 77, Fit::LetterboxCentre)
    };
    vec![unit, bgr, normalised, odd]
}

fn pictures(gpu: &Gpu, settings: &Settings, figures: &mut Figures) -> Result<(), Stop> {
    let small = [(64, 48), (65, 47), (641, 1), (1, 481), (2, 2), (1, 1), (319, 241)];
    let large = [(1920, 1080), (1279, 719), (3840, 2160)];
    let sizes = if settings.quick { &large[..0] } else { &large[..] };
    let sizes: Vec<(u32, u32)> = small.iter().chain(sizes).copied().collect();
    let stream = Stream::new(gpu)?;
    let (mut count, mut greatest, mut control) = (0, 0.0_f64, f64::INFINITY);
    for recipe in recipes(settings.quick) {
        for format in FORMATS {
            for (index, &(width, height)) in sizes.iter().enumerate() {
                // Every colour with every format and recipe; every size with some of them.
                let (matrix, range) = COLOURS[(index + count) % COLOURS.len()];
                let source =
                    Source { matrix, range, row_padding: 64, ..Source::new(width, height, format, 3) };
                let error = compare(gpu, &stream, &source, &recipe, settings.control)?;
                greatest = greatest.max(error);
                count += 1;
            }
            for (matrix, range) in COLOURS {
                let source = Source { matrix, range, row_padding: 8, ..Source::new(66, 50, format, 1) };
                greatest = greatest.max(compare(gpu, &stream, &source, &recipe, settings.control)?);
                let other = Source { matrix: other(matrix), ..source.clone() };
                let written = letterboxed(gpu, &stream, &source, &recipe, Element::F32)?;
                control = control.min(greatest_error(&recipe, &written, &other.reference(&recipe)));
                count += 1;
            }
        }
    }
    figures.insert("pictures".to_owned(), count.into());
    figures.insert("greatest_error_sample_values".to_owned(), json!(greatest));
    figures.insert("bound_sample_values".to_owned(), json!(BOUND));
    figures.insert("wrong_matrix_is_seen_by_sample_values".to_owned(), rounded(control));
    demand(control > BOUND, || "the comparison does not see a wrong colour matrix".to_owned())
}

fn other(matrix: Matrix) -> Matrix {
    match matrix {
        Matrix::Bt601 => Matrix::Bt709,
        Matrix::Bt709 => Matrix::Bt601,
    }
}

/// f32 within the bound of the specification; f16 is the f32 value rounded.
fn compare(
    gpu: &Gpu,
    stream: &Stream,
    source: &Source,
    recipe: &InputRecipe,
    broken: bool,
) -> Result<f64, Stop> {
    let what = || {
        format!(
            "{:?} {}x{} {:?} {:?} to {}x{} {:?}",
            source.format,
            source.width,
            source.height,
            source.matrix,
            source.range,
            recipe.width,
            recipe.height,
            recipe.fit
        )
    };
    let matrix = if broken { other(source.matrix) } else { source.matrix };
    let expected = Source { matrix, ..source.clone() }.reference(recipe);
    let whole = letterboxed(gpu, stream, source, recipe, Element::F32)?;
    let error = greatest_error(recipe, &whole, &expected);
    demand(error <= BOUND, || format!("{}: off by {error:.3} sample values, allowed {BOUND}", what()))?;
    let halves = letterboxed(gpu, stream, source, recipe, Element::F16)?;
    for (index, (&half, &whole)) in halves.iter().zip(&whole).enumerate() {
        let rounded = nearest_half(whole);
        demand(half == rounded, || {
            format!("{}: element {index}: {whole} became {half} in f16, not {rounded}", what())
        })?;
    }
    Ok(error)
}

/// The f16 numbers from 0 on, each larger than the one before, and where the largest rounds up to.
fn half_numbers() -> &'static [f32] {
    static NUMBERS: std::sync::OnceLock<Vec<f32>> = std::sync::OnceLock::new();
    NUMBERS.get_or_init(|| (0..0x7C00_u16).map(f16_to_f32).chain([65536.0]).collect())
}

/// The specification of the conversion: the nearest number, of equals the even one, infinity beyond.
fn nearest_half(value: f32) -> f32 {
    let numbers = half_numbers();
    let size = value.abs();
    if !size.is_finite() || size >= 65536.0 {
        return if value.is_nan() { value } else { f32::INFINITY.copysign(value) };
    }
    let above = numbers.partition_point(|&number| number <= size);
    let (low, high) = (above - 1, above.min(numbers.len() - 1));
    let middle = (f64::from(numbers[low]) + f64::from(numbers[high])) / 2.0;
    let chosen = match f64::from(size).total_cmp(&middle) {
        std::cmp::Ordering::Less => low,
        std::cmp::Ordering::Greater => high,
        std::cmp::Ordering::Equal => low + low % 2,
    };
    let number = if chosen + 1 == numbers.len() { f32::INFINITY } else { numbers[chosen] };
    number.copysign(value)
}

/// Every f16, what lies between two of them, and f32 of every size: through the conversion of an upload.
fn halves(gpu: &Gpu, settings: &Settings, figures: &mut Figures) -> Result<(), Stop> {
    let between = half_numbers().windows(2).flat_map(|pair| {
        let middle = ((f64::from(pair[0]) + f64::from(pair[1])) / 2.0) as f32;
        [pair[0], middle.next_down(), middle, middle.next_up()]
    });
    let step = if settings.quick { 1_048_573 } else { 1021 };
    let everywhere = (0..=u32::MAX).step_by(step).map(f32::from_bits);
    let values: Vec<f32> = between.flat_map(|value| [value, -value]).chain(everywhere).collect();
    let mut recipe = device_recipe(&recipe(512, 512, Fit::Stretch));
    (recipe.width, recipe.height) = (512, 512);
    let stream = Stream::new(gpu)?;
    let mut letterboxer = Letterboxer::new(gpu, recipe)?;
    let mut slot = SlotTensor::new(gpu, Element::F16, recipe.len())?;
    for chunk in values.chunks(recipe.len()) {
        letterboxer.staging()?[..chunk.len()].copy_from_slice(chunk);
        letterboxer.upload(&mut slot)?;
        for (&value, got) in chunk.iter().zip(slot.to_host(&stream)?) {
            let expected = nearest_half(value);
            let same = got.to_bits() == expected.to_bits() || (got.is_nan() && expected.is_nan());
            demand(same, || format!("{value} became {got} in f16, not {expected}"))?;
        }
    }
    figures.insert("f32_to_f16_values".to_owned(), values.len().into());
    Ok(())
}

/// Microseconds a frame where the kernels follow each other, and of it what the host needs to queue one.
fn time(gpu: &Gpu, width: u32, height: u32, settings: &Settings) -> Result<serde_json::Value, Stop> {
    let recipe = InputRecipe { scale: [1.0 / 255.0; 3], ..recipe(640, 640, Fit::LetterboxCentre) };
    let (stream, placement) = (Stream::new(gpu)?, device_placement(&recipe, width, height));
    // Several of each, so that the GPU's cache is not kinder here than with cameras.
    let sources =
        (0..4).map(|seed| OnDevice::new(gpu, &stream, &Source::new(width, height, Format::Nv12, seed)));
    let sources = sources.collect::<Result<Vec<_>, _>>()?;
    let slots = (0..4).map(|_| SlotTensor::new(gpu, Element::F16, recipe.len()));
    let mut slots = slots.collect::<Result<Vec<_>, _>>()?;
    let mut letterboxer = Letterboxer::new(gpu, device_recipe(&recipe))?;
    let rounds = if settings.quick { 2 } else { 50 };
    let mut best = (f64::INFINITY, f64::INFINITY);
    for _ in 0..if settings.quick { 2 } else { 20 } {
        let began = clock::now();
        for _ in 0..rounds {
            for (source, slot) in sources.iter().zip(&mut slots) {
                letterboxer.letterbox(&source.picture(), placement, slot)?;
            }
        }
        let queued = clock::now();
        letterboxer.finish()?;
        let us = |time: Duration| time.as_secs_f64() * 1e6 / f64::from(4 * rounds);
        best.0 = best.0.min(us(clock::now().saturating_duration_since(began)));
        best.1 = best.1.min(us(queued.saturating_duration_since(began)));
    }
    drop(letterboxer);
    Ok(json!({ "us_per_frame": rounded(best.0), "host_us_to_queue": rounded(best.1) }))
}

/// The same pictures once more under compute-sanitizer, where it is installed.
fn sanitized(settings: &Settings, figures: &mut Figures) -> Result<(), Stop> {
    let mut command = Command::new("compute-sanitizer");
    command.args(["--tool", "memcheck", "--leak-check", "full", "--error-exitcode", "9"]);
    command.arg(std::env::current_exe()?).args(["--quick", "--child", "kernel"]).env(WATCHED, "1");
    let said = match child::run(&mut command, settings.time_left()) {
        Err(_) => "not installed".to_owned(),
        Ok(ended) => {
            let summary = ended.stdout.lines().rev().find(|line| line.contains("ERROR SUMMARY"));
            let (summary, success) = (summary.unwrap_or_default().to_owned(), ended.is_success());
            // It refuses some machines; only what it says of our kernels counts.
            match (summary.is_empty() || ended.stdout.contains("not supported"), success) {
                (false, true) => summary,
                (false, false) => return Err(Stop::failed(format!("compute-sanitizer: {summary}"))),
                (true, _) => format!("does not run here: {}", ended.last_words()),
            }
        }
    };
    figures.insert("compute_sanitizer".to_owned(), said.into());
    Ok(())
}
