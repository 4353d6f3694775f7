//! What a build will be, decided before anything of TensorRT is called: shapes, precision, and which way.
//!
//! Pure: a model's summary, a version and options in; a recipe, or a sentence that says what to do instead, out.

use std::path::PathBuf;

use crate::error::TensorRtError;
use crate::onnx::{self, Summary};
use crate::tensors::BATCH_MAX;
use crate::version::{Major, Version};

/// First versions whose parser's tables have been counted.
const PARSER_SINCE: [Version; 2] = [Version::new(10, 16, 0), Version::new(11, 4, 0)];
/// Makes the weights of an ONNX file f16 and leaves its inputs and outputs as they are.
const HALVE: &str = "python3 -m pip install onnx onnxruntime && python3 -c \"import onnx; from \
                     onnxruntime.transformers.float16 import convert_float_to_float16 as half; \
                     onnx.save(half(onnx.load('model.onnx'), keep_io_types=True), 'model-fp16.onnx')\"";
/// Puts scales for 8-bit integers into an ONNX file.
const QUANTIZE: &str = "python3 -m pip install nvidia-modelopt[onnx] && python3 -m modelopt.onnx.quantization \
                        --onnx_path=model.onnx --quantize_mode=int8 --calibration_data_path=pictures.npy \
                        --output_path=model-int8.onnx";

/// Numbers that an engine computes with.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Precision {
    /// The fastest that loses next to nothing: f16 where TensorRT 10 is told so, else what the model has.
    Auto,
    /// 32-bit floats (in TF32 where the GPU has it, unless that is switched off).
    Fp32,
    /// 16-bit floats where that is faster.
    Fp16,
    /// 8-bit integers where that is faster.
    Int8,
}

impl Precision {
    /// As configuration and records spell it.
    pub fn name(self) -> &'static str {
        match self {
            Self::Auto => "auto",
            Self::Fp32 => "fp32",
            Self::Fp16 => "fp16",
            Self::Int8 => "int8",
        }
    }
}

/// How an engine gets built.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum BuildWay {
    /// The library's builder and its ONNX parser, in this process.
    Builder {
        /// The parser's library.
        parser: PathBuf,
    },
    /// NVIDIA's `trtexec`, as a child process.
    Trtexec {
        /// The program.
        program: PathBuf,
        /// Why not the builder.
        because: String,
    },
}

/// What is on this box to build with.
#[derive(Debug, Clone)]
pub(crate) struct Tools {
    pub(crate) version: Version,
    pub(crate) lean: bool,
    pub(crate) parser: Option<PathBuf>,
    pub(crate) trtexec: Option<PathBuf>,
}

impl Tools {
    /// The builder where its parser's interface is known, else `trtexec`.
    pub(crate) fn way(self) -> Result<BuildWay, TensorRtError> {
        let Self { version, lean, parser, trtexec } = self;
        let counted = PARSER_SINCE.iter().find(|since| since.major == version.major);
        let because = match (counted, parser) {
            _ if lean => format!("TensorRT {version} here is the lean runtime, which has no builder"),
            (Some(since), _) if version < *since => {
                format!(
                    "the parser's interface of TensorRT {version} is not known here (it is from {since} on)"
                )
            }
            (_, None) => "there is no libnvonnxparser beside libnvinfer".to_owned(),
            (_, Some(parser)) => return Ok(BuildWay::Builder { parser }),
        };
        match trtexec {
            Some(program) => Ok(BuildWay::Trtexec { program, because }),
            None => Err(TensorRtError::Build(format!(
                "an engine cannot be built on this box: {because}, and there is no trtexec on PATH or in \
                 /usr/src/tensorrt/bin; install TensorRT's tools (on JetPack and Debian: libnvinfer-bin), or a full \
                 TensorRT of version 10.16 or 11.4 or later"
            ))),
        }
    }
}

/// What is asked for.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Wanted {
    pub(crate) precision: Precision,
    pub(crate) max_batch: Option<usize>,
    pub(crate) best_batch: Option<usize>,
    pub(crate) size: Option<(usize, usize)>,
    pub(crate) dla: bool,
    /// Pictures to find the scales of INT8 with, or scales that were found before.
    pub(crate) can_calibrate: bool,
}

/// What will be built.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Recipe {
    pub(crate) input: String,
    /// `[channels, height, width]`.
    pub(crate) picture: [i64; 3],
    /// Fewest, best and most frames.
    pub(crate) batch: [usize; 3],
    /// Whether the model leaves anything open that a profile must say.
    pub(crate) dynamic: bool,
    /// What it really is.
    pub(crate) precision: Precision,
    /// Flags of 10; in 11 the model says it.
    pub(crate) allow_half: bool,
    pub(crate) allow_int8: bool,
    /// Whether the scales have to be found from pictures.
    pub(crate) calibrate: bool,
    /// For the user.
    pub(crate) notes: Vec<String>,
}

impl Recipe {
    /// The input's shape for so many frames.
    pub(crate) fn dims(&self, batch: usize) -> [i64; 4] {
        let [channels, height, width] = self.picture;
        [i64::try_from(batch).unwrap_or(0), channels, height, width]
    }
}

fn refuse<T>(reason: impl Into<String>) -> Result<T, TensorRtError> {
    Err(TensorRtError::Build(reason.into()))
}

/// Decides.
pub(crate) fn recipe(major: Major, model: &Summary, wanted: Wanted) -> Result<Recipe, TensorRtError> {
    if model.external {
        return refuse(
            "the model keeps its weights in another file; put them into one: python3 -c \"import onnx; \
             onnx.save(onnx.load('model.onnx'), 'one-file.onnx')\"",
        );
    }
    let [input] = model.inputs.as_slice() else {
        let names: Vec<&str> = model.inputs.iter().map(|input| input.name.as_str()).collect();
        return refuse(format!(
            "the model has {} inputs [{}], and we have one picture to give; export it with one image input",
            names.len(),
            names.join(", ")
        ));
    };
    let &[batch, channels, height, width] = input.dims.as_slice() else {
        return refuse(format!("the model's input {} is not [batch, 3, height, width]", input.name));
    };
    if channels.is_some_and(|channels| channels != 3) || !matches!(input.element, onnx::FLOAT | onnx::FLOAT16)
    {
        return refuse(format!(
            "the model's input {} is not f32 or f16 [batch, 3, height, width]",
            input.name
        ));
    }
    let picture = [
        3,
        side(height, wanted.size.map(|size| size.1), "height")?,
        side(width, wanted.size.map(|size| size.0), "width")?,
    ];
    let mut notes = Vec::new();
    let frames = frames(batch, wanted, &mut notes)?;
    let dynamic = input.dims.iter().any(Option::is_none);
    let mut recipe = Recipe {
        input: input.name.clone(),
        picture,
        batch: frames,
        dynamic,
        precision: Precision::Fp32,
        allow_half: false,
        allow_int8: false,
        calibrate: false,
        notes,
    };
    match major {
        Major::Ten => precision_by_flags(model, wanted, &mut recipe)?,
        Major::Eleven => precision_by_model(model, wanted, &mut recipe)?,
    }
    if wanted.dla && recipe.precision == Precision::Fp32 {
        return refuse("a DLA core computes in f16 or int8 only; ask for --precision fp16 or int8");
    }
    Ok(recipe)
}

fn side(fixed: Option<i64>, asked: Option<usize>, what: &str) -> Result<i64, TensorRtError> {
    let asked = asked.and_then(|asked| i64::try_from(asked).ok());
    match (fixed, asked) {
        (Some(fixed), Some(asked)) if fixed != asked => {
            refuse(format!("the model fixes its input's {what} at {fixed}, and its manifest says {asked}"))
        }
        (Some(size), _) | (None, Some(size)) => Ok(size),
        (None, None) => refuse(format!("the model leaves its input's {what} open; its manifest must say it")),
    }
}

/// Fewest, best and most frames of one inference.
fn frames(fixed: Option<i64>, wanted: Wanted, notes: &mut Vec<String>) -> Result<[usize; 3], TensorRtError> {
    if let Some(fixed) = fixed {
        let fixed = usize::try_from(fixed).unwrap_or(0);
        if !(1..=BATCH_MAX).contains(&fixed) {
            return refuse(format!(
                "the model fixes its batch at {fixed}; export it with an open batch dimension"
            ));
        }
        return match wanted.max_batch {
            Some(most) if most > fixed => refuse(format!(
                "the model fixes its batch at {fixed}, and {most} frames are asked for; export it with an open batch \
                 dimension (Ultralytics: dynamic=True), or ask for --max-batch {fixed}"
            )),
            _ => Ok([fixed; 3]),
        };
    }
    let most = wanted.max_batch.unwrap_or(1);
    if !(1..=BATCH_MAX).contains(&most) {
        return refuse(format!("a batch of {most} frames; 1 to {BATCH_MAX} are possible"));
    }
    if wanted.dla {
        notes.push(format!("a DLA core has one batch size: every inference is one of {most}"));
        return Ok([most; 3]);
    }
    Ok([1, wanted.best_batch.unwrap_or(most).clamp(1, most), most])
}

/// TensorRT 10 is told by flags what it may use.
fn precision_by_flags(model: &Summary, wanted: Wanted, recipe: &mut Recipe) -> Result<(), TensorRtError> {
    let precision = match wanted.precision {
        Precision::Auto if model.quantized => Precision::Int8,
        Precision::Auto => Precision::Fp16,
        asked => asked,
    };
    match precision {
        Precision::Auto | Precision::Fp32 => {
            if model.is_half() {
                return refuse(
                    "the model's weights are f16: ask for --precision fp16, or take its f32 export",
                );
            }
            if model.quantized {
                return refuse("the model is quantized: ask for --precision int8, or take its f32 export");
            }
        }
        Precision::Fp16 => recipe.allow_half = true,
        Precision::Int8 => {
            recipe.allow_half = true;
            recipe.allow_int8 = true;
            recipe.calibrate = !model.quantized;
            if recipe.calibrate && !wanted.can_calibrate {
                return refuse(format!(
                    "INT8 needs scales: give pictures with --int8-calibration DIR, or quantize the model: {QUANTIZE}"
                ));
            }
        }
    }
    recipe.precision = precision;
    Ok(())
}

/// TensorRT 11 computes in what the model says.
fn precision_by_model(model: &Summary, wanted: Wanted, recipe: &mut Recipe) -> Result<(), TensorRtError> {
    let has = if model.quantized {
        Precision::Int8
    } else if model.is_half() {
        Precision::Fp16
    } else {
        Precision::Fp32
    };
    recipe.precision = has;
    match wanted.precision {
        Precision::Auto if has == Precision::Fp32 => {
            recipe.notes.push(format!(
                "TensorRT 11 computes in what the model says, and this one says f32: it is built as fp32 (TF32 where the \
                 GPU has it). For fp16 convert it: {HALVE}"
            ));
            Ok(())
        }
        Precision::Auto => Ok(()),
        asked if asked == has => Ok(()),
        Precision::Fp16 if has == Precision::Fp32 => refuse(format!(
            "TensorRT 11 computes in what the model says, and this one says f32; convert it: {HALVE}"
        )),
        Precision::Int8 => refuse(format!(
            "TensorRT 11 computes in what the model says, and this one has no scales for INT8; quantize it: {QUANTIZE}"
        )),
        asked => refuse(format!(
            "TensorRT 11 computes in what the model says, and this one says {}; ask for that, or take an export in {}",
            has.name(),
            asked.name()
        )),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::onnx::Input;

    const WANTED: Wanted = Wanted {
        precision: Precision::Auto,
        max_batch: None,
        best_batch: None,
        size: None,
        dla: false,
        can_calibrate: false,
    };

    fn model(batch: Option<i64>) -> Summary {
        let dims = vec![batch, Some(3), Some(320), Some(640)];
        let inputs = vec![Input { name: "images".to_owned(), element: onnx::FLOAT, dims }];
        Summary { inputs, single_count: 60, half_count: 0, quantized: false, external: false }
    }

    fn refused(major: Major, model: &Summary, wanted: Wanted) -> String {
        recipe(major, model, wanted).expect_err("it cannot be built").to_string()
    }

    #[test]
    fn ten_is_f16_by_default_and_eleven_is_what_the_model_is() {
        let ten = recipe(Major::Ten, &model(None), WANTED).unwrap();
        assert_eq!((ten.precision, ten.allow_half, ten.allow_int8), (Precision::Fp16, true, false));
        let eleven = recipe(Major::Eleven, &model(None), WANTED).unwrap();
        assert_eq!((eleven.precision, eleven.allow_half), (Precision::Fp32, false));
        assert!(eleven.notes[0].contains("convert_float_to_float16"), "{:?}", eleven.notes);
        let half = Summary { single_count: 1, half_count: 60, ..model(None) };
        assert_eq!(recipe(Major::Eleven, &half, WANTED).unwrap().precision, Precision::Fp16);
        let quantized = Summary { quantized: true, ..model(None) };
        for major in [Major::Ten, Major::Eleven] {
            assert_eq!(recipe(major, &quantized, WANTED).unwrap().precision, Precision::Int8);
        }
    }

    #[test]
    fn what_cannot_be_had_is_refused_with_what_to_do() {
        let ask = |precision| Wanted { precision, ..WANTED };
        let words = refused(Major::Eleven, &model(None), ask(Precision::Fp16));
        assert!(words.contains("onnxruntime.transformers.float16"), "{words}");
        for major in [Major::Ten, Major::Eleven] {
            let words = refused(major, &model(None), ask(Precision::Int8));
            assert!(words.contains("modelopt.onnx.quantization"), "{words}");
        }
        let half = Summary { single_count: 1, half_count: 60, ..model(None) };
        for major in [Major::Ten, Major::Eleven] {
            assert!(refused(major, &half, ask(Precision::Fp32)).contains("fp16"));
        }
        let dla = Wanted { dla: true, ..ask(Precision::Fp32) };
        assert!(refused(Major::Ten, &model(None), dla).contains("DLA"));
        let two = Summary { inputs: vec![model(None).inputs[0].clone(); 2], ..model(None) };
        assert!(refused(Major::Ten, &two, WANTED).contains("2 inputs"));
        assert!(
            refused(Major::Ten, &Summary { external: true, ..model(None) }, WANTED).contains("onnx.save")
        );
    }

    #[test]
    fn int8_on_ten_takes_pictures_where_the_model_has_no_scales() {
        let wanted = Wanted { precision: Precision::Int8, can_calibrate: true, ..WANTED };
        let recipe = recipe(Major::Ten, &model(None), wanted).unwrap();
        assert!(recipe.calibrate && recipe.allow_int8 && recipe.allow_half);
        let quantized = Summary { quantized: true, ..model(None) };
        assert!(!super::recipe(Major::Ten, &quantized, wanted).unwrap().calibrate);
    }

    #[test]
    fn batch_and_size_come_from_the_model_or_else_from_the_options() {
        let batch = |model: &Summary, wanted| recipe(Major::Ten, model, wanted).map(|recipe| recipe.batch);
        let most = |most| Wanted { max_batch: Some(most), ..WANTED };
        assert_eq!(batch(&model(None), WANTED).unwrap(), [1, 1, 1]);
        assert_eq!(batch(&model(None), most(8)).unwrap(), [1, 8, 8]);
        assert_eq!(batch(&model(None), Wanted { best_batch: Some(4), ..most(8) }).unwrap(), [1, 4, 8]);
        assert_eq!(batch(&model(None), Wanted { dla: true, ..most(8) }).unwrap(), [8, 8, 8]);
        assert_eq!(batch(&model(Some(4)), most(2)).unwrap(), [4, 4, 4]);
        assert!(refused(Major::Ten, &model(Some(1)), most(8)).contains("dynamic=True"));
        assert!(refused(Major::Ten, &model(None), most(65)).contains("1 to 64"));
        let mut open = model(None);
        open.inputs[0].dims = vec![None, Some(3), None, None];
        assert!(refused(Major::Ten, &open, WANTED).contains("height"));
        let sized = Wanted { size: Some((640, 320)), ..WANTED };
        assert_eq!(recipe(Major::Ten, &open, sized).unwrap().picture, [3, 320, 640]);
        assert_eq!(recipe(Major::Ten, &model(None), sized).unwrap().picture, [3, 320, 640]);
        assert!(
            refused(Major::Ten, &model(None), Wanted { size: Some((320, 320)), ..WANTED })
                .contains("width at 640")
        );
    }

    #[test]
    fn the_builder_is_taken_where_its_interface_is_known() {
        let tools = |version, lean, parser: Option<&str>, trtexec: Option<&str>| Tools {
            version,
            lean,
            parser: parser.map(PathBuf::from),
            trtexec: trtexec.map(PathBuf::from),
        };
        let parser = Some("libnvonnxparser.so");
        let way = tools(Version::new(10, 16, 1), false, parser, Some("trtexec")).way().unwrap();
        assert!(matches!(way, BuildWay::Builder { .. }));
        let old = tools(Version::new(10, 3, 0), false, parser, Some("trtexec")).way().unwrap();
        assert!(matches!(&old, BuildWay::Trtexec { because, .. } if because.contains("10.3.0")), "{old:?}");
        let lean = tools(Version::new(11, 4, 0), true, parser, Some("trtexec")).way().unwrap();
        assert!(matches!(lean, BuildWay::Trtexec { .. }));
        let none = tools(Version::new(10, 3, 0), false, parser, None).way().unwrap_err();
        assert!(none.to_string().contains("libnvinfer-bin"), "{none}");
    }
}
