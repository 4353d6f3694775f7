//! Test only: a stand-in `libnvcuvid.so.1`. It parses real H.264, H.265 and JPEG as far as sizes and pictures go, decodes
//! nothing, and gives every picture the content that `watchpost_standin_contract::picture` says.
//!
//! It runs on the stand-in `libcuda.so.1` only, and keeps its counters there. What a client must give back it must give
//! back here: decoders, parsers, mapped pictures. A mapped picture is filled in its turn on the stream that the client
//! names, so who reads it elsewhere without waiting sees poison or an older picture.
#![allow(missing_docs, non_snake_case, reason = "the exported functions are NVIDIA's NVDECODE API")]

mod abi;
mod api;
mod bits;
mod cuda;
mod decoder;
mod format;
mod h264;
mod h265;
mod jpeg;
mod parser;
