//! A stand-in `libnvinfer.so.11`: the classes are C++ (see the build script), what they do is Rust.

watchpost_standin_nvinfer::exports!(11);
