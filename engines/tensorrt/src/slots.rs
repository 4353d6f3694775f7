//! Which entry of which virtual table is which method, per major version of TensorRT.
//!
//! libnvinfer's interface is C++: everything but a handful of C functions is a call through a virtual table. Counted
//! from the public headers of 10.3, 10.13, 10.16, 11.1 and 11.4 (Itanium C++ ABI: the same on x86-64 and aarch64).
//! Minors only append, so an entry holds from the first of these headers that has it; an older library is refused for
//! that method (a call through a table that is too short jumps anywhere). A test compares every line here with the
//! facts counted by a compiler.

use std::ffi::{c_char, c_void};
use std::marker::PhantomData;

use crate::abi::{Dims, Raw};
use crate::version::{Major, Version};

/// Where one major has a method.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Place {
    /// Entry in the table, the two destructors counted.
    pub(crate) slot: usize,
    /// First version that is known to have it.
    pub(crate) since: Version,
}

/// One method, without the type of its function.
#[derive(Debug)]
pub(crate) struct Entry {
    /// Class whose table it is in.
    #[cfg_attr(not(test), expect(dead_code, reason = "what the facts are compared by"))]
    pub(crate) class: &'static str,
    /// Its declaration, as the headers have it.
    pub(crate) method: &'static str,
    /// In TensorRT 10.
    pub(crate) ten: Option<Place>,
    /// In TensorRT 11.
    pub(crate) eleven: Option<Place>,
}

impl Entry {
    /// Where this major has it.
    pub(crate) fn place(&self, major: Major) -> Option<Place> {
        match major {
            Major::Ten => self.ten,
            Major::Eleven => self.eleven,
        }
    }

    /// Its name, for messages.
    pub(crate) fn name(&self) -> &'static str {
        let head = self.method.split('(').next().unwrap_or(self.method);
        head.rsplit([' ', '*']).next().unwrap_or(head)
    }
}

/// One method, with the type of its function.
#[derive(Debug)]
pub(crate) struct Slot<F> {
    pub(crate) entry: Entry,
    pub(crate) function: PhantomData<F>,
}

macro_rules! place {
    (none) => {
        None
    };
    ($slot:literal since ($major:literal, $minor:literal, $patch:literal)) => {
        Some(Place { slot: $slot, since: Version::new($major, $minor, $patch) })
    };
}

macro_rules! slots {
    ($( $(#[$doc:meta])* $name:ident: $class:literal $method:literal
        = fn($($argument:ty),*) $(-> $result:ty)?, [$($ten:tt)*], [$($eleven:tt)*]; )*) => {
        $(
            $(#[$doc])*
            pub(crate) static $name: Slot<unsafe extern "C" fn(Raw $(, $argument)*) $(-> $result)?> = Slot {
                entry: Entry { class: $class, method: $method, ten: place!($($ten)*), eleven: place!($($eleven)*) },
                function: PhantomData,
            };
        )*
        /// All of them.
        #[cfg(test)]
        pub(crate) static ALL: &[&Entry] = &[$(&$name.entry),*];
    };
}

slots! {
    /// Bytes of a serialized engine or cache.
    HOST_MEMORY_DATA: "VHostMemory" "void* data() const"
        = fn() -> *const c_void, [2 since (10, 3, 0)], [2 since (11, 1, 0)];
    /// How many.
    HOST_MEMORY_SIZE: "VHostMemory" "std::size_t size() const"
        = fn() -> usize, [3 since (10, 3, 0)], [3 since (11, 1, 0)];
    /// A plan becomes an engine; null when it is refused.
    RUNTIME_DESERIALIZE: "VRuntime" "ICudaEngine* deserializeCudaEngine(void const* blob, std::size_t size)"
        = fn(*const c_void, usize) -> Raw, [3 since (10, 3, 0)], [3 since (11, 1, 0)];
    /// Which DLA core engines made for one run on.
    RUNTIME_SET_DLA_CORE: "VRuntime" "void setDLACore(int32_t dlaCore)"
        = fn(i32), [5 since (10, 3, 0)], [4 since (11, 1, 0)];
    /// A context, by allocation strategy.
    ENGINE_CREATE_CONTEXT: "VCudaEngine" "IExecutionContext* createExecutionContext(ExecutionContextAllocationStrategy strategy)"
        = fn(i32) -> Raw, [5 since (10, 3, 0)], [5 since (11, 1, 0)];
    /// How many optimization profiles.
    ENGINE_PROFILE_COUNT: "VCudaEngine" "int32_t getNbOptimizationProfiles() const"
        = fn() -> i32, [10 since (10, 3, 0)], [8 since (11, 1, 0)];
    /// -1 for a dimension that is open.
    ENGINE_TENSOR_SHAPE: "VCudaEngine" "Dims getTensorShape(char const* tensorName) const"
        = fn(*const c_char) -> Dims, [19 since (10, 3, 0)], [15 since (11, 1, 0)];
    /// `DataType`.
    ENGINE_TENSOR_TYPE: "VCudaEngine" "DataType getTensorDataType(char const* tensorName) const"
        = fn(*const c_char) -> i32, [20 since (10, 3, 0)], [16 since (11, 1, 0)];
    /// `TensorLocation`.
    ENGINE_TENSOR_LOCATION: "VCudaEngine" "TensorLocation getTensorLocation(char const* tensorName) const"
        = fn(*const c_char) -> i32, [21 since (10, 3, 0)], [17 since (11, 1, 0)];
    /// Whether its values decide shapes.
    ENGINE_IS_SHAPE_TENSOR: "VCudaEngine" "bool isShapeInferenceIO(char const* tensorName) const"
        = fn(*const c_char) -> bool, [22 since (10, 3, 0)], [18 since (11, 1, 0)];
    /// `TensorIOMode`.
    ENGINE_TENSOR_IO_MODE: "VCudaEngine" "TensorIOMode getTensorIOMode(char const* tensorName) const"
        = fn(*const c_char) -> i32, [23 since (10, 3, 0)], [19 since (11, 1, 0)];
    /// Order of its values in memory, per profile; 0 is row-major.
    ENGINE_TENSOR_FORMAT: "VCudaEngine" "TensorFormat getTensorFormatV2(char const* tensorName, int32_t profileIndex) const"
        = fn(*const c_char, i32) -> i32, [36 since (10, 3, 0)], [32 since (11, 1, 0)];
    /// What a profile allows, by `OptProfileSelector`.
    ENGINE_PROFILE_SHAPE: "VCudaEngine" "Dims getProfileShape( char const* tensorName, int32_t profileIndex, OptProfileSelector select) const"
        = fn(*const c_char, i32, i32) -> Dims, [29 since (10, 3, 0)], [25 since (11, 1, 0)];
    /// How many inputs and outputs.
    ENGINE_TENSOR_COUNT: "VCudaEngine" "int32_t getNbIOTensors() const"
        = fn() -> i32, [30 since (10, 3, 0)], [26 since (11, 1, 0)];
    /// The name of one.
    ENGINE_TENSOR_NAME: "VCudaEngine" "char const* getIOTensorName(int32_t index) const"
        = fn(i32) -> *const c_char, [31 since (10, 3, 0)], [27 since (11, 1, 0)];
    /// Bytes of activations that a context needs with this profile.
    ENGINE_DEVICE_MEMORY_SIZE: "VCudaEngine" "int64_t getDeviceMemorySizeForProfileV2(int32_t profileIndex) const"
        = fn(i32) -> i64, [53 since (10, 3, 0)], [45 since (11, 1, 0)];
    /// The shape of the next inference.
    CONTEXT_SET_INPUT_SHAPE: "VExecutionContext" "bool setInputShape(char const* tensorName, Dims const& dims)"
        = fn(*const c_char, *const Dims) -> bool, [21 since (10, 3, 0)], [20 since (11, 1, 0)];
    /// A shape, as it follows from the input's.
    CONTEXT_TENSOR_SHAPE: "VExecutionContext" "Dims getTensorShape(char const* tensorName) const"
        = fn(*const c_char) -> Dims, [22 since (10, 3, 0)], [21 since (11, 1, 0)];
    /// Where a tensor lies on the device.
    CONTEXT_SET_ADDRESS: "VExecutionContext" "bool setTensorAddress(char const* tensorName, void* data)"
        = fn(*const c_char, *mut c_void) -> bool, [24 since (10, 3, 0)], [23 since (11, 1, 0)];
    /// Puts an inference on a stream.
    CONTEXT_ENQUEUE: "VExecutionContext" "bool enqueueV3(cudaStream_t stream)"
        = fn(*mut c_void) -> bool, [37 since (10, 3, 0)], [36 since (11, 1, 0)];
    /// Where the activations lie.
    CONTEXT_SET_DEVICE_MEMORY: "VExecutionContext" "void setDeviceMemoryV2(void* memory, int64_t size)"
        = fn(*mut c_void, i64), [49 since (10, 3, 0)], [48 since (11, 1, 0)];
    /// An empty configuration.
    BUILDER_CREATE_CONFIG: "VBuilder" "IBuilderConfig* createBuilderConfig()"
        = fn() -> Raw, [7 since (10, 3, 0)], [5 since (11, 1, 0)];
    /// An empty network, by `NetworkDefinitionCreationFlag` bits.
    BUILDER_CREATE_NETWORK: "VBuilder" "INetworkDefinition* createNetworkV2(NetworkDefinitionCreationFlags flags)"
        = fn(u32) -> Raw, [8 since (10, 3, 0)], [6 since (11, 1, 0)];
    /// An empty profile; the builder keeps it.
    BUILDER_CREATE_PROFILE: "VBuilder" "IOptimizationProfile* createOptimizationProfile()"
        = fn() -> Raw, [9 since (10, 3, 0)], [7 since (11, 1, 0)];
    /// DLA cores of this machine.
    BUILDER_DLA_COUNT: "VBuilder" "int32_t getNbDLACores() const"
        = fn() -> i32, [5 since (10, 3, 0)], [3 since (11, 1, 0)];
    /// Builds; null when it failed.
    BUILDER_BUILD: "VBuilder" "IHostMemory* buildSerializedNetwork( INetworkDefinition& network, IBuilderConfig& config)"
        = fn(Raw, Raw) -> Raw, [14 since (10, 3, 0)], [11 since (11, 1, 0)];
    /// `BuilderFlag`.
    CONFIG_SET_FLAG: "VBuilderConfig" "void setFlag(BuilderFlag builderFlag)"
        = fn(i32), [11 since (10, 3, 0)], [9 since (11, 1, 0)];
    /// `BuilderFlag`.
    CONFIG_CLEAR_FLAG: "VBuilderConfig" "void clearFlag(BuilderFlag builderFlag)"
        = fn(i32), [10 since (10, 3, 0)], [8 since (11, 1, 0)];
    /// Who shows pictures for the scales of INT8.
    CONFIG_SET_CALIBRATOR: "VBuilderConfig" "void setInt8Calibrator(IInt8Calibrator* calibrator)"
        = fn(Raw), [6 since (10, 3, 0)], [none];
    /// In which shape they are shown.
    CONFIG_SET_CALIBRATION_PROFILE: "VBuilderConfig" "bool setCalibrationProfile(IOptimizationProfile const* profile)"
        = fn(Raw) -> bool, [31 since (10, 3, 0)], [none];
    /// Which DLA core.
    CONFIG_SET_DLA_CORE: "VBuilderConfig" "void setDLACore(int32_t dlaCore)"
        = fn(i32), [18 since (10, 3, 0)], [16 since (11, 1, 0)];
    /// `DeviceType`.
    CONFIG_SET_DEVICE_TYPE: "VBuilderConfig" "void setDefaultDeviceType(DeviceType deviceType)"
        = fn(i32), [20 since (10, 3, 0)], [18 since (11, 1, 0)];
    /// Its index, or -1.
    CONFIG_ADD_PROFILE: "VBuilderConfig" "int32_t addOptimizationProfile(IOptimizationProfile const* profile)"
        = fn(Raw) -> i32, [25 since (10, 3, 0)], [23 since (11, 1, 0)];
    /// From bytes that an earlier build left, or empty.
    CONFIG_CREATE_TIMING_CACHE: "VBuilderConfig" "ITimingCache* createTimingCache(void const* blob, std::size_t size) const"
        = fn(*const c_void, usize) -> Raw, [40 since (10, 3, 0)], [29 since (11, 1, 0)];
    /// Uses it, and adds to it.
    CONFIG_SET_TIMING_CACHE: "VBuilderConfig" "bool setTimingCache(ITimingCache const& cache, bool ignoreMismatch)"
        = fn(Raw, bool) -> bool, [41 since (10, 3, 0)], [30 since (11, 1, 0)];
    /// Bytes of a `MemoryPoolType`.
    CONFIG_SET_POOL_LIMIT: "VBuilderConfig" "void setMemoryPoolLimit(MemoryPoolType pool, std::size_t poolSize)"
        = fn(i32, usize), [43 since (10, 3, 0)], [32 since (11, 1, 0)];
    /// How many inputs the parsed model has.
    NETWORK_INPUT_COUNT: "VNetworkDefinition" "int32_t getNbInputs() const"
        = fn() -> i32, [14 since (10, 3, 0)], [14 since (11, 1, 0)];
    /// How many outputs.
    NETWORK_OUTPUT_COUNT: "VNetworkDefinition" "int32_t getNbOutputs() const"
        = fn() -> i32, [16 since (10, 3, 0)], [16 since (11, 1, 0)];
    /// One of the three shapes of an input.
    PROFILE_SET_DIMENSIONS: "VOptimizationProfile" "bool setDimensions(char const* inputName, OptProfileSelector select, Dims const& dims)"
        = fn(*const c_char, i32, *const Dims) -> bool, [2 since (10, 3, 0)], [2 since (11, 1, 0)];
    /// Whether they agree.
    PROFILE_IS_VALID: "VOptimizationProfile" "bool isValid() const"
        = fn() -> bool, [9 since (10, 3, 0)], [7 since (11, 1, 0)];
    /// As bytes, for the next build.
    TIMING_CACHE_SERIALIZE: "VTimingCache" "IHostMemory* serialize() const"
        = fn() -> Raw, [2 since (10, 3, 0)], [2 since (11, 1, 0)];
    /// An ONNX file's bytes into the network.
    PARSER_PARSE: "IParser" "bool parse( void const* serialized_onnx_model, size_t serialized_onnx_model_size, const char* model_path = nullptr)"
        = fn(*const c_void, usize, *const c_char) -> bool, [0 since (10, 16, 0)], [0 since (11, 4, 0)];
    /// What it did not like.
    PARSER_ERROR_COUNT: "IParser" "int getNbErrors() const"
        = fn() -> i32, [5 since (10, 16, 0)], [3 since (11, 4, 0)];
    /// One of these.
    PARSER_ERROR: "IParser" "IParserError const* getError(int index) const"
        = fn(i32) -> Raw, [6 since (10, 16, 0)], [4 since (11, 4, 0)];
    /// Ends it.
    PARSER_DELETE: "IParser" "~IParser() (deleting)"
        = fn(), [9 since (10, 16, 0)], [7 since (11, 4, 0)];
    /// In words.
    PARSER_ERROR_WORDS: "IParserError" "char const* desc() const"
        = fn() -> *const c_char, [1 since (10, 16, 0)], [1 since (11, 4, 0)];
    /// Where in the model.
    PARSER_ERROR_NODE: "IParserError" "char const* nodeName() const"
        = fn() -> *const c_char, [6 since (10, 16, 0)], [6 since (11, 4, 0)];
    /// Which operator.
    PARSER_ERROR_OPERATOR: "IParserError" "char const* nodeOperator() const"
        = fn() -> *const c_char, [7 since (10, 16, 0)], [7 since (11, 4, 0)];
}

#[cfg(test)]
mod tests {
    use serde_json::Value;

    use super::*;
    use crate::abi::constants;

    fn facts() -> Option<Value> {
        let folder = std::env::var_os("WATCHPOST_SHARED").map_or_else(
            || std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("../../../shared"),
            std::path::PathBuf::from,
        );
        let path = folder.join("facts/tensorrt-abi.json");
        let Ok(text) = std::fs::read_to_string(&path) else {
            eprintln!(
                "NOT TESTED: {} is not there; set WATCHPOST_SHARED to the folder with facts/",
                path.display()
            );
            return None;
        };
        Some(serde_json::from_str(&text).expect("the facts are JSON"))
    }

    /// The tables of one major: class -> entries, each with the version that has it first.
    fn tables(facts: &Value, major: &str) -> Vec<(String, Value, Option<String>)> {
        let major = facts[major].as_object().expect("a major");
        let mut tables = Vec::new();
        for (key, value) in major {
            if key == "classes" {
                let classes = value.as_object().expect("classes");
                tables.extend(classes.iter().map(|(name, entries)| (name.clone(), entries.clone(), None)));
            } else if key.starts_with("parser") {
                let since = key.rsplit("from ").next().unwrap().trim_end_matches(')').to_owned();
                let classes = value.as_object().expect("classes");
                tables.extend(
                    classes
                        .iter()
                        .map(|(name, entries)| (name.clone(), entries.clone(), Some(since.clone()))),
                );
            }
        }
        tables
    }

    fn version(text: &str) -> Version {
        let mut numbers = text.split('.').map(|number| number.parse().expect("a number"));
        let mut next = || numbers.next().unwrap_or(0);
        Version::new(next(), next(), next())
    }

    #[test]
    fn every_entry_is_what_a_compiler_counted() {
        let Some(facts) = facts() else { return };
        for (name, major) in [("10", Major::Ten), ("11", Major::Eleven)] {
            let tables = tables(&facts, name);
            for entry in ALL {
                let (_, counted, since) =
                    tables.iter().find(|(class, ..)| class == entry.class).expect("a class of the facts");
                let counted = counted.as_array().unwrap().iter().find(|e| e["method"] == entry.method);
                match (entry.place(major), counted) {
                    (Some(place), Some(counted)) => {
                        assert_eq!(counted["slot"], place.slot, "TensorRT {name}: {}", entry.method);
                        let since = since.as_deref().or(counted["since"].as_str()).unwrap();
                        assert_eq!(version(since), place.since, "TensorRT {name}: {}", entry.method);
                    }
                    (None, None) => {}
                    (ours, counted) => {
                        panic!("TensorRT {name}: {}: {ours:?}, counted {counted:?}", entry.method)
                    }
                }
            }
        }
        assert!(ALL.len() >= 45, "{}", ALL.len());
    }

    #[test]
    fn every_number_is_what_the_headers_say() {
        let Some(facts) = facts() else { return };
        let value = |major: &str, list: &str, name: &str| facts[major]["enums"][list][name].as_i64();
        let both = [
            ("TensorIOMode", "kINPUT", constants::INPUT),
            ("TensorIOMode", "kOUTPUT", constants::OUTPUT),
            ("TensorLocation", "kDEVICE", constants::ON_DEVICE),
            ("OptProfileSelector", "kMIN", constants::PROFILE[0]),
            ("OptProfileSelector", "kOPT", constants::PROFILE[1]),
            ("OptProfileSelector", "kMAX", constants::PROFILE[2]),
            ("ExecutionContextAllocationStrategy", "kUSER_MANAGED", constants::USER_MANAGED),
            ("MemoryPoolType", "kWORKSPACE", constants::WORKSPACE),
            ("DeviceType", "kDLA", constants::DLA),
            ("BuilderFlag", "kGPU_FALLBACK", constants::FLAG_GPU_FALLBACK),
            ("BuilderFlag", "kTF32", constants::FLAG_TF32),
            ("BuilderFlag", "kSPARSE_WEIGHTS", constants::FLAG_SPARSE),
        ];
        for (list, name, ours) in both {
            for major in ["10", "11"] {
                assert_eq!(
                    value(major, list, name),
                    Some(i64::from(ours)),
                    "TensorRT {major}: {list}::{name}"
                );
            }
        }
        assert_eq!(value("10", "BuilderFlag", "kFP16"), Some(i64::from(constants::FLAG_FP16)));
        assert_eq!(value("10", "BuilderFlag", "kINT8"), Some(i64::from(constants::FLAG_INT8)));
        assert_eq!(value("11", "BuilderFlag", "kFP16"), None);
        let about = facts["about"].as_str().unwrap();
        assert!(about.contains(&format!("({} deletes)", crate::abi::DELETE)), "{about}");
        let bit = |major, name| 1 << value(major, "NetworkDefinitionCreationFlag", name).unwrap();
        assert_eq!(bit("10", "kEXPLICIT_BATCH"), constants::EXPLICIT_BATCH);
        assert_eq!(bit("11", "kSTRONGLY_TYPED"), constants::STRONGLY_TYPED);
        for (name, element) in crate::element::KNOWN {
            for major in ["10", "11"] {
                assert_eq!(
                    value(major, "DataType", name),
                    Some(i64::from(*element)),
                    "TensorRT {major}: {name}"
                );
            }
        }
    }

    #[test]
    fn names_are_cut_out_of_declarations() {
        assert_eq!(CONTEXT_ENQUEUE.entry.name(), "enqueueV3");
        assert_eq!(HOST_MEMORY_DATA.entry.name(), "data");
        assert_eq!(RUNTIME_DESERIALIZE.entry.name(), "deserializeCudaEngine");
    }
}
