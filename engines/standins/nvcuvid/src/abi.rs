//! The structures of cuviddec.h and nvcuvid.h, as far as they are used. All but the first are read or written through
//! pointers of the client's, who has the whole.

use std::ffi::{c_char, c_int, c_short, c_uchar, c_uint, c_ulong, c_ushort, c_void};

pub type Code = c_int;
pub const SUCCESS: Code = 0;
pub const INVALID_VALUE: Code = 1;
pub const OUT_OF_MEMORY: Code = 2;
pub const MAP_FAILED: Code = 205;
pub const INVALID_SOURCE: Code = 300;
pub const INVALID_HANDLE: Code = 400;
pub const NOT_SUPPORTED: Code = 801;
pub const UNKNOWN: Code = 999;

/// cudaVideoCodec.
pub const H264: c_uint = 4;
pub const JPEG: c_uint = 5;
pub const HEVC: c_uint = 8;
/// cudaVideoChromaFormat.
pub const CHROMA_420: c_uint = 1;
pub const CHROMA_422: c_uint = 2;
pub const CHROMA_444: c_uint = 3;
/// cudaVideoSurfaceFormat.
pub const SURFACE_NV12: c_uint = 0;
pub const SURFACE_P016: c_uint = 1;
/// CUvideopacketflags.
pub const END_OF_STREAM: c_ulong = 1;
pub const TIMESTAMP: c_ulong = 2;
pub const END_OF_PICTURE: c_ulong = 8;

/// CUVIDDECODECAPS.
#[repr(C)]
pub struct Caps {
    pub codec: c_uint,
    pub chroma: c_uint,
    pub bit_depth_minus8: c_uint,
    pub reserved1: [c_uint; 3],
    pub is_supported: c_uchar,
    pub decoders: c_uchar,
    pub output_formats: c_ushort,
    pub max_width: c_uint,
    pub max_height: c_uint,
    pub max_macroblocks: c_uint,
    pub min_width: c_ushort,
    pub min_height: c_ushort,
    pub reserved2: [c_uint; 11],
}

#[repr(C)]
#[derive(Clone, Copy, Debug, Default)]
pub struct ShortRectangle {
    pub left: c_short,
    pub top: c_short,
    pub right: c_short,
    pub bottom: c_short,
}

/// CUVIDDECODECREATEINFO.
#[repr(C)]
#[derive(Clone, Copy, Debug)]
pub struct CreateInfo {
    pub width: c_ulong,
    pub height: c_ulong,
    pub decode_surfaces: c_ulong,
    pub codec: c_uint,
    pub chroma: c_uint,
    pub flags: c_ulong,
    pub bit_depth_minus8: c_ulong,
    pub intra_only: c_ulong,
    pub max_width: c_ulong,
    pub max_height: c_ulong,
    pub reserved1: c_ulong,
    pub display_area: ShortRectangle,
    pub output_format: c_uint,
    pub deinterlace: c_uint,
    pub target_width: c_ulong,
    pub target_height: c_ulong,
    pub output_surfaces: c_ulong,
    pub lock: *mut c_void,
    pub target_rectangle: ShortRectangle,
    pub histogram: c_ulong,
    pub reserved2: [c_ulong; 4],
}

/// CUVIDPICPARAMS; what the codec needs is not filled in.
#[repr(C)]
pub struct PictureParameters {
    pub width_in_macroblocks: c_int,
    pub height_in_macroblocks: c_int,
    pub surface: c_int,
    pub is_field: c_int,
    pub is_bottom_field: c_int,
    pub is_second_field: c_int,
    pub bitstream_bytes: c_uint,
    pub bitstream: *const c_uchar,
    pub slices: c_uint,
    pub slice_offsets: *const c_uint,
    pub is_reference: c_int,
    pub is_intra: c_int,
    pub reserved: [c_uint; 30],
    pub codec: [c_uint; 1024],
}

/// CUVIDPROCPARAMS, its beginning.
#[repr(C)]
#[derive(Clone, Copy, Debug)]
pub struct ProcessParameters {
    pub progressive: c_int,
    pub second_field: c_int,
    pub top_field_first: c_int,
    pub unpaired_field: c_int,
    pub reserved_flags: c_uint,
    pub reserved_zero: c_uint,
    pub raw_input: u64,
    pub raw_input_pitch: c_uint,
    pub raw_input_format: c_uint,
    pub raw_output: u64,
    pub raw_output_pitch: c_uint,
    pub reserved1: c_uint,
    pub output_stream: u64,
}

/// CUVIDGETDECODESTATUS.
#[repr(C)]
pub struct DecodeStatus {
    pub status: c_int,
    pub reserved: [c_uint; 31],
    pub reserved_pointers: [*mut c_void; 8],
}

#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Rectangle {
    pub left: c_int,
    pub top: c_int,
    pub right: c_int,
    pub bottom: c_int,
}

/// CUVIDEOFORMAT.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct VideoFormat {
    pub codec: c_uint,
    pub frame_rate: [c_uint; 2],
    pub is_progressive: c_uchar,
    pub luma_depth_minus8: c_uchar,
    pub chroma_depth_minus8: c_uchar,
    pub min_surfaces: c_uchar,
    pub coded_width: c_uint,
    pub coded_height: c_uint,
    pub display_area: Rectangle,
    pub chroma: c_uint,
    pub bitrate: c_uint,
    pub aspect_ratio: [c_int; 2],
    /// Bits 0 to 2 the video format, bit 3 full range; then primaries, transfer, matrix.
    pub signal: [c_uchar; 4],
    pub extra_bytes: c_uint,
}

/// CUVIDSOURCEDATAPACKET.
#[repr(C)]
#[derive(Clone, Copy, Debug)]
pub struct Packet {
    pub flags: c_ulong,
    pub bytes: c_ulong,
    pub payload: *const c_uchar,
    pub timestamp: i64,
}

/// CUVIDPARSERDISPINFO.
#[repr(C)]
#[derive(Clone, Copy, Debug)]
pub struct DisplayInfo {
    pub surface: c_int,
    pub is_progressive: c_int,
    pub top_field_first: c_int,
    pub repeat_first_field: c_int,
    pub timestamp: i64,
}

pub type SequenceCallback = unsafe extern "C" fn(*mut c_void, *mut VideoFormat) -> c_int;
pub type DecodeCallback = unsafe extern "C" fn(*mut c_void, *mut PictureParameters) -> c_int;
pub type DisplayCallback = unsafe extern "C" fn(*mut c_void, *mut DisplayInfo) -> c_int;

/// CUVIDPARSERPARAMS.
#[repr(C)]
#[derive(Clone, Copy, Debug)]
pub struct ParserParameters {
    pub codec: c_uint,
    pub surfaces: c_uint,
    pub clock_hz: c_uint,
    pub error_threshold: c_uint,
    pub display_delay: c_uint,
    pub flags: c_uint,
    pub reserved: [c_uint; 4],
    pub user: *mut c_void,
    pub sequence: Option<SequenceCallback>,
    pub decode: Option<DecodeCallback>,
    pub display: Option<DisplayCallback>,
    pub operating_point: *mut c_void,
    pub reserved_pointers: [*mut c_char; 6],
    pub extra: *mut c_void,
}

const _: () = {
    assert!(size_of::<Caps>() == 88);
    assert!(size_of::<CreateInfo>() == 176);
    assert!(size_of::<PictureParameters>() == 4280);
    assert!(std::mem::offset_of!(ProcessParameters, output_stream) == 56);
    assert!(size_of::<DecodeStatus>() == 192);
    assert!(size_of::<VideoFormat>() == 64);
    assert!(size_of::<Packet>() == 32);
    assert!(size_of::<DisplayInfo>() == 24);
    assert!(size_of::<ParserParameters>() == 136);
};
