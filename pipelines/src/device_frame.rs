//! A buffer of CUDA memory, mapped for the GPU.

use std::ffi::c_void;
use std::mem::MaybeUninit;
use std::sync::Arc;

use gstreamer as gst;
use gstreamer::glib;
use gstreamer_video as gst_video;
use watchpost_cuda::{DeviceLayout, DevicePicture, DevicePlane};
use watchpost_picture::{Matrix, Range};

use crate::frame::PixelFormat;
use crate::gst_cuda::GpuContext;

/// `GST_MAP_CUDA`: the address in device memory is wanted, and no copy in system memory.
const MAP_CUDA: gst::ffi::GstMapFlags = gst::ffi::GST_MAP_FLAG_LAST << 1;

/// A mapped buffer. Dropping it gives the buffer back to the decoder.
pub(crate) struct DeviceFrame {
    frame: gst_video::ffi::GstVideoFrame,
    /// What was written to the memory is complete once this stream is; `None`: it is complete.
    ready: Option<*mut c_void>,
    /// Dropped last: the buffer's memory lies in its CUDA context.
    _gpu: Arc<GpuContext>,
}

// SAFETY: as with `gst_video::VideoFrame<Readable>`: the struct holds a reference to a buffer and the addresses
// of its mapping; buffers may be unmapped and released on any thread. The stream's handle is only a number
// here, and the buffer's memory keeps the stream alive.
unsafe impl Send for DeviceFrame {}
// SAFETY: nothing is written after `map`; see above.
unsafe impl Sync for DeviceFrame {}

impl DeviceFrame {
    /// Maps a buffer of CUDA memory without copying it.
    pub(crate) fn map(
        buffer: gst::Buffer,
        info: &gst_video::VideoInfo,
        gpu: &Arc<GpuContext>,
    ) -> Result<Self, String> {
        if buffer.n_memory() != 1 {
            return Err(format!("a frame on the GPU lies in {} pieces", buffer.n_memory()));
        }
        let memory = buffer.peek_memory(0);
        if !gpu.owns(memory) {
            return Err("a frame on the GPU lies in a CUDA context that is not this process's".to_owned());
        }
        let ready = gpu.stream_of(memory);
        let mut frame = MaybeUninit::<gst_video::ffi::GstVideoFrame>::uninit();
        // SAFETY: `info` and `buffer` are live; the frame is written when the answer is TRUE, and then holds a
        // reference to the buffer of its own.
        let frame = unsafe {
            let mapped = gst_video::ffi::gst_video_frame_map(
                frame.as_mut_ptr(),
                glib::translate::mut_override(glib::translate::ToGlibPtr::to_glib_none(info).0),
                buffer.as_mut_ptr(),
                gst::ffi::GST_MAP_READ | MAP_CUDA,
            );
            if mapped == glib::ffi::GFALSE {
                return Err("a frame on the GPU cannot be mapped".to_owned());
            }
            frame.assume_init()
        };
        let mapped = Self { frame, ready, _gpu: gpu.clone() };
        mapped.check()?;
        Ok(mapped)
    }
}
