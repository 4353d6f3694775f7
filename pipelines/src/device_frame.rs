//! A buffer of CUDA memory, mapped for the GPU.

use std::mem::MaybeUninit;
use std::sync::Arc;

use gstreamer as gst;
use gstreamer::glib;
use gstreamer_video as gst_video;
use watchpost_cuda::{DeviceLayout, DevicePicture, DevicePlane, RawStream};
use watchpost_picture::{Matrix, Range};

use crate::frame::PixelFormat;
use crate::gst_cuda::GpuContext;

/// `GST_MAP_CUDA`: the address in device memory is wanted, and no copy in system memory.
const MAP_CUDA: gst::ffi::GstMapFlags = gst::ffi::GST_MAP_FLAG_LAST << 1;

/// What the kernel reads.
const FORMATS: [gst_video::VideoFormat; 3] =
    [gst_video::VideoFormat::Nv12, gst_video::VideoFormat::P01010le, gst_video::VideoFormat::I420];

/// A mapped buffer. Dropping it gives the buffer back to the decoder.
pub(crate) struct DeviceFrame {
    frame: gst_video::ffi::GstVideoFrame,
    /// What was written to the memory is complete once this stream is; `None`: it is complete.
    ready: Option<RawStream>,
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
        if !FORMATS.contains(&info.format()) {
            return Err(format!(
                "a frame on the GPU has the format {}, which nothing here reads",
                info.format()
            ));
        }
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
        // Unmapped by its drop, also if the check fails.
        let mapped = Self { frame, ready, _gpu: gpu.clone() };
        mapped.check(info)?;
        Ok(mapped)
    }

    pub(crate) fn width(&self) -> u32 {
        u32::try_from(self.frame.info.width).unwrap_or_default()
    }

    pub(crate) fn height(&self) -> u32 {
        u32::try_from(self.frame.info.height).unwrap_or_default()
    }

    /// Sees that all rows of every plane lie within the memory that was mapped.
    fn check(&self, info: &gst_video::VideoInfo) -> Result<(), String> {
        let start = self.frame.map[0].data as usize;
        let memory = start..start.saturating_add(self.frame.map[0].size);
        (0..info.n_planes())
            .try_for_each(|index| check_plane(info, index, self.plane(index as usize), &memory))
    }

    fn plane(&self, index: usize) -> DevicePlane {
        DevicePlane {
            address: self.frame.data[index] as u64,
            // One that is negative is refused by `check`.
            stride_bytes: usize::try_from(self.frame.info.stride[index]).unwrap_or_default(),
        }
    }

    /// The picture; `format` is what the sink takes of CUDA memory.
    pub(crate) fn picture(&self, format: PixelFormat, matrix: Matrix, range: Range) -> DevicePicture<'_> {
        let plane = |index| self.plane(index);
        let layout = match format {
            PixelFormat::I420 => DeviceLayout::I420 { y: plane(0), u: plane(1), v: plane(2) },
            PixelFormat::P010 => DeviceLayout::P010 { y: plane(0), uv: plane(1) },
            // `map` lets no other format through.
            _ => DeviceLayout::Nv12 { y: plane(0), uv: plane(1) },
        };
        // SAFETY: the planes lie in device memory of the GPU's primary context (`GpuContext::owns`), with all
        // their rows (`check`). The buffer is mapped for reading and held as long as `self` is borrowed: no
        // element writes to a buffer that others hold. `ready` is a stream that the memory holds a reference to.
        unsafe { DevicePicture::new(self.width(), self.height(), layout, matrix, range, self.ready) }
    }
}

/// Sees that plane `index` of such a picture lies within `memory` if it is where `plane` says.
fn check_plane(
    info: &gst_video::VideoInfo,
    index: u32,
    plane: DevicePlane,
    memory: &std::ops::Range<usize>,
) -> Result<(), String> {
    // The first component of a plane has its width and height.
    let component = (0..info.n_components()).find(|&c| info.format_info().plane()[c as usize] == index);
    let component = u8::try_from(component.unwrap_or_default()).unwrap_or_default();
    let rows_count = info.comp_height(component) as usize;
    let row_bytes =
        info.comp_width(component) as usize * info.comp_pstride(component).unsigned_abs() as usize;
    let (stride_bytes, first) = (plane.stride_bytes, plane.address as usize);
    let last = rows_count.checked_sub(1).and_then(|rows| first.checked_add(rows.checked_mul(stride_bytes)?));
    let end = last.and_then(|last| last.checked_add(row_bytes));
    if stride_bytes < row_bytes || first < memory.start || end.is_none_or(|end| end > memory.end) {
        return Err(format!(
            "plane {index} of a frame on the GPU does not lie in its memory: {rows_count} rows of {row_bytes} bytes, \
             {stride_bytes} apart"
        ));
    }
    Ok(())
}

impl Drop for DeviceFrame {
    fn drop(&mut self) {
        // SAFETY: mapped in `map`, unmapped once; this releases its reference to the buffer, too.
        unsafe { gst_video::ffi::gst_video_frame_unmap(&raw mut self.frame) };
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_row_of_a_plane_has_to_lie_in_the_memory() {
        crate::init().unwrap();
        // 5 x 3: chroma has 3 pairs in 2 rows.
        let nv12 = gst_video::VideoInfo::builder(gst_video::VideoFormat::Nv12, 5, 3).build().unwrap();
        let check = |index, address, stride_bytes| {
            check_plane(&nv12, index, DevicePlane { address, stride_bytes }, &(1000..1100)).is_ok()
        };
        assert!(check(0, 1000, 16) && check(1, 1048, 16));
        assert!(check(0, 1063, 16) && !check(0, 1064, 16), "two strides and five bytes end at 1100");
        assert!(check(1, 1078, 16) && !check(1, 1079, 16), "a stride and six bytes end at 1100");
        assert!(!check(0, 999, 16), "it begins before the memory");
        assert!(!check(0, 1000, 4) && !check(1, 1000, 5), "rows overlap");
        assert!(!check(0, 1000, usize::MAX), "the end is beyond all addresses");
    }
}
