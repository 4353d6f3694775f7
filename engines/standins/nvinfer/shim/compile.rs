//! What the build scripts of the stand-in libraries do: choose the declarations, write what is not implemented, compile.

use std::env;
use std::fs;
use std::path::{Path, PathBuf};

use crate::declarations;

/// V-classes that the stand-in implements, each over its `…Rest`.
const CLASSES: [&str; 9] = [
    "VHostMemory",
    "VRuntime",
    "VCudaEngine",
    "VExecutionContext",
    "VBuilder",
    "VBuilderConfig",
    "VNetworkDefinition",
    "VOptimizationProfile",
    "VTimingCache",
];

const PARSER_CLASSES: [&str; 2] = ["IParserError", "IParser"];

/// NVIDIA's headers of this major, where the environment names them; otherwise our own declarations are used.
struct Headers {
    real: Option<PathBuf>,
    shim: PathBuf,
    major: u32,
}

impl Headers {
    fn choose(major: u32) -> Self {
        let variable = format!("WATCHPOST_TENSORRT_INCLUDE_{major}");
        println!("cargo:rerun-if-env-changed={variable}");
        let shim = Path::new(env!("CARGO_MANIFEST_DIR")).join("../nvinfer/shim");
        println!("cargo:rerun-if-changed={}", shim.display());
        let real = env::var_os(variable).filter(|value| !value.is_empty()).map(PathBuf::from);
        if let Some(folder) = &real {
            println!("cargo:rerun-if-changed={}", folder.display());
        }
        Self { real, shim, major }
    }

    fn read(&self, real: &str, own: &str) -> String {
        let path = match &self.real {
            Some(folder) if folder.join(real).exists() => folder.join(real),
            _ => self.shim.join("own").join(format!("{own}{}.h", self.major)),
        };
        fs::read_to_string(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
    }

    /// `NVIDIA's headers 10.16.0`, or that they are our own.
    fn name(&self) -> String {
        let Some(folder) = &self.real else { return "with our own declarations".to_owned() };
        let text = fs::read_to_string(folder.join("NvInferVersion.h")).unwrap_or_default();
        let number = |name: &str| {
            let mut words = text.split_whitespace().skip_while(|word| *word != name);
            words.nth(1).unwrap_or("?").to_owned()
        };
        let parts = ["MAJOR", "MINOR", "PATCH"].map(|part| {
            let new = number(&format!("TRT_{part}_ENTERPRISE"));
            if new == "?" { number(&format!("NV_TENSORRT_{part}")) } else { new }
        });
        format!("with NVIDIA's headers {}", parts.join("."))
    }

    fn compiler(&self, out: &Path) -> cc::Build {
        let mut build = cc::Build::new();
        build.cpp(true).std("c++17").define("STANDIN_MAJOR", self.major.to_string().as_str());
        build.define("STANDIN_HEADERS", format!("\"{}\"", self.name()).as_str());
        build.include(out).include(&self.shim);
        if let Some(folder) = &self.real {
            build.define("STANDIN_REAL_HEADERS", None).include(folder);
            if folder.join("NvOnnxParser.h").exists() {
                build.define("STANDIN_REAL_PARSER", None);
            }
        }
        // Last: for NVIDIA's headers it only brings the few CUDA types that they mention.
        build.include(self.shim.join("own"));
        for flag in ["-Wno-unused-parameter", "-Wno-deprecated-declarations", "-Wno-overloaded-virtual"] {
            build.flag_if_supported(flag);
        }
        build
    }
}

fn rest(header: &str, classes: &[&str], first_slot: usize) -> String {
    let rests = classes.iter().map(|class| {
        let methods = declarations::methods(header, class, first_slot)
            .unwrap_or_else(|| panic!("the headers do not declare {class}"));
        declarations::rest_class(class, &methods)
    });
    rests.collect()
}

fn out() -> PathBuf {
    PathBuf::from(env::var_os("OUT_DIR").expect("Cargo sets OUT_DIR"))
}

/// Compiles the classes of `lib{library}.so.{major}`, nvinfer or nvonnxparser.
pub fn compile(library: &str, major: u32) {
    let (headers, out) = (Headers::choose(major), out());
    let (header, namespaces, classes, first_slot, file, sources) = match library {
        "nvinfer" => (
            "NvInferImpl.h",
            "nvinfer1::apiv",
            &CLASSES[..],
            2,
            "rest.h",
            &["runtime.cpp", "builder.cpp"][..],
        ),
        _ => ("NvOnnxParser.h", "nvonnxparser", &PARSER_CLASSES[..], 0, "rest_parser.h", &["parser.cpp"][..]),
    };
    let rest = rest(&headers.read(header, library), classes, first_slot);
    let rest = format!("#pragma once\nnamespace {namespaces}\n{{\n{rest}}}\n");
    fs::write(out.join(file), rest).expect("OUT_DIR can be written");
    let mut build = headers.compiler(&out);
    build.files(sources.iter().map(|source| headers.shim.join(source)));
    build.compile(&format!("standin_{library}{major}"));
    println!("cargo:rustc-cdylib-link-arg=-Wl,-soname,lib{library}.so.{major}");
    // Calls within the library stay there, whatever else is loaded; and it stays loaded, because it has threads.
    println!("cargo:rustc-cdylib-link-arg=-Wl,-Bsymbolic,-z,nodelete");
}
