//! libgstcuda, loaded at run time: GStreamer's elements in the process's own CUDA context.
//!
//! There is no crate for it, and GStreamer 1.20 (JetPack 6) has no such library, so nothing may need it.
//! The signatures are those of gst-plugins-bad 1.22 to 1.28, whose headers agree on every function used here.
//!
//! Who waits for the pixels: up to 1.22 every element that writes CUDA memory synchronises its stream before
//! it sends the buffer on. From 1.24 on the memory names a stream that it may still be written on; that
//! stream is handed over with the picture.

use std::ffi::{c_int, c_void};
use std::fmt;
use std::ptr::NonNull;
use std::sync::{Arc, Mutex, OnceLock, PoisonError, Weak};

use gstreamer as gst;
use gstreamer::glib;
use gstreamer::glib::translate::from_glib_full;
use libloading::Library;
use watchpost_cuda::{Gpu, RawStream};

const LIBGSTCUDA: &str = "libgstcuda-1.0.so.0";

/// `gst_cuda_load_library`: loads libcuda for the library's own use; every other call needs that.
type LoadLibrary = unsafe extern "C" fn() -> glib::ffi::gboolean;
/// `gst_cuda_context_new_wrapped`: a `GstCudaContext` that owns nothing of the `CUcontext`; NULL on failure.
type NewWrapped =
    unsafe extern "C" fn(context: *mut c_void, device: c_int) -> *mut glib::gobject_ffi::GObject;
/// `gst_context_new_cuda_context`: a `GstContext` that holds a reference to the `GstCudaContext`.
type NewGstContext = unsafe extern "C" fn(*mut glib::gobject_ffi::GObject) -> *mut gst::ffi::GstContext;
/// `gst_cuda_context_get_handle`: the `CUcontext`.
type GetHandle = unsafe extern "C" fn(*mut c_void) -> *mut c_void;
/// `gst_is_cuda_memory`
type IsCudaMemory = unsafe extern "C" fn(*mut gst::ffi::GstMemory) -> glib::ffi::gboolean;
/// `gst_cuda_memory_get_stream`, 1.24: a borrowed `GstCudaStream`, NULL for the default stream.
type GetStream = unsafe extern "C" fn(*mut gst::ffi::GstMemory) -> *mut c_void;
/// `gst_cuda_stream_get_handle`, 1.24: the `CUstream`.
type StreamHandle = unsafe extern "C" fn(*mut c_void) -> *mut c_void;

/// The functions that are used.
struct GstCuda {
    new_wrapped: NewWrapped,
    new_gst_context: NewGstContext,
    get_handle: GetHandle,
    is_cuda_memory: IsCudaMemory,
    /// `None` up to GStreamer 1.22.
    streams: Option<(GetStream, StreamHandle)>,
}

/// The public head of `GstCudaMemory`, the same since 1.22.
#[repr(C)]
struct CudaMemory {
    memory: gst::ffi::GstMemory,
    context: *mut c_void,
}

impl GstCuda {
    /// The library; the first answer stands for the life of the process.
    fn get() -> Result<&'static Self, String> {
        static LOADED: OnceLock<Result<GstCuda, String>> = OnceLock::new();
        LOADED.get_or_init(Self::load).as_ref().map_err(Clone::clone)
    }

    fn load() -> Result<Self, String> {
        let missing = |error: libloading::Error| {
            tracing::debug!("{LIBGSTCUDA}: {error}");
            format!(
                "{LIBGSTCUDA} is not here: it takes GStreamer 1.22 or newer (package \
                 libgstreamer-plugins-bad1.0-0), and this is {}",
                crate::version()
            )
        };
        // SAFETY: its initialisers only register types with GLib, which is in this process already; GStreamer
        // loads the same file when it loads the plug-in nvcodec.
        let library = unsafe { Library::new(LIBGSTCUDA) }.map_err(missing)?;
        // SAFETY: each type alias above is the signature of the function of that name in the headers of 1.22
        // to 1.28. The copied addresses stay valid because the library is never closed (below).
        let (load_library, loaded) = unsafe {
            let streams = library
                .get::<GetStream>(b"gst_cuda_memory_get_stream\0")
                .ok()
                .zip(library.get::<StreamHandle>(b"gst_cuda_stream_get_handle\0").ok())
                .map(|(get_stream, handle)| (*get_stream, *handle));
            let load_library = *library.get::<LoadLibrary>(b"gst_cuda_load_library\0").map_err(missing)?;
            let loaded = Self {
                new_wrapped: *library.get(b"gst_cuda_context_new_wrapped\0").map_err(missing)?,
                new_gst_context: *library.get(b"gst_context_new_cuda_context\0").map_err(missing)?,
                get_handle: *library.get(b"gst_cuda_context_get_handle\0").map_err(missing)?,
                is_cuda_memory: *library.get(b"gst_is_cuda_memory\0").map_err(missing)?,
                streams,
            };
            (load_library, loaded)
        };
        // Its GLib types stay registered, so the code behind them has to stay.
        Box::leak(Box::new(library));
        // SAFETY: takes nothing, may be called at any time; it loads libcuda.so.1 once and fills a table.
        if unsafe { load_library() } == glib::ffi::GFALSE {
            return Err("GStreamer finds no usable libcuda.so.1: install the NVIDIA driver".to_owned());
        }
        Ok(loaded)
    }
}

/// The process's CUDA context of one GPU, in the form that GStreamer's elements take it.
pub(crate) struct GpuContext {
    /// `gst.cuda.context`, to be set on pipelines.
    gst_context: gst::Context,
    library: &'static GstCuda,
    /// Behind what is above: it keeps the CUDA context alive, which GStreamer's object only borrows.
    gpu: Gpu,
}

impl GpuContext {
    /// The context of `gpu`: one for all pipelines that live at the same time.
    ///
    /// # Errors
    /// One line: what is missing.
    pub(crate) fn of(gpu: &Gpu) -> Result<Arc<Self>, String> {
        static LIVE: Mutex<Vec<Weak<GpuContext>>> = Mutex::new(Vec::new());
        let library = GstCuda::get()?;
        let mut live = LIVE.lock().unwrap_or_else(PoisonError::into_inner);
        live.retain(|context| context.strong_count() > 0);
        let same = |context: &Arc<Self>| handle(&context.gpu) == handle(gpu);
        if let Some(context) = live.iter().filter_map(Weak::upgrade).find(same) {
            return Ok(context);
        }
        let context = Arc::new(Self::wrap(library, gpu)?);
        live.push(Arc::downgrade(&context));
        Ok(context)
    }

    fn wrap(library: &'static GstCuda, gpu: &Gpu) -> Result<Self, String> {
        let device = c_int::try_from(gpu.info().index).unwrap_or(c_int::MAX);
        // SAFETY: the handle is a live CUcontext, and `gpu`, of which the result keeps a clone, keeps it alive
        // longer than anything that GStreamer does with it: elements and buffers hold the GstCudaContext, and
        // whoever holds those (`Core`, `Frame`) holds the GpuContext and drops it last.
        let wrapped = unsafe { (library.new_wrapped)(handle(gpu), device) };
        let wrapped = NonNull::new(wrapped)
            .ok_or("GStreamer does not take the CUDA context: the driver may have lost the GPU")?;
        // SAFETY: `wrapped` is a GstCudaContext with one reference, which is ours and is released here; the
        // GstContext takes its own. The result is a full reference or NULL.
        let gst_context = unsafe {
            let raw = (library.new_gst_context)(wrapped.as_ptr());
            glib::gobject_ffi::g_object_unref(wrapped.as_ptr());
            if raw.is_null() {
                return Err("GStreamer does not wrap the CUDA context".to_owned());
            }
            from_glib_full::<*mut gst::ffi::GstContext, gst::Context>(raw)
        };
        Ok(Self { gst_context, library, gpu: gpu.clone() })
    }

    /// What pipelines are given.
    pub(crate) fn gst_context(&self) -> &gst::Context {
        &self.gst_context
    }

    /// Index of the GPU.
    pub(crate) fn index(&self) -> u32 {
        self.gpu.info().index
    }

    /// Whether `memory` is CUDA memory.
    pub(crate) fn is_cuda(&self, memory: &gst::MemoryRef) -> bool {
        // SAFETY: looks at the memory's allocator, which a live GstMemory has.
        unsafe { (self.library.is_cuda_memory)(memory.as_ptr().cast_mut()) != glib::ffi::GFALSE }
    }

    /// Whether CUDA memory lies in this context.
    pub(crate) fn owns(&self, memory: &gst::MemoryRef) -> bool {
        if !self.is_cuda(memory) {
            return false;
        }
        // SAFETY: the memory is a GstCudaMemory, whose head is `CudaMemory` and whose context is a live
        // GstCudaContext for as long as the memory is.
        let its_handle = unsafe {
            let memory = memory.as_ptr().cast::<CudaMemory>();
            (self.library.get_handle)((*memory).context)
        };
        its_handle == handle(&self.gpu)
    }

    /// The stream on which `memory`, which this context owns, may still be written to; NULL is the default
    /// stream. `None`: whoever wrote to it has waited (GStreamer 1.22).
    pub(crate) fn stream_of(&self, memory: &gst::MemoryRef) -> Option<RawStream> {
        let (get_stream, stream_handle) = self.library.streams?;
        // SAFETY: the memory is a GstCudaMemory; it holds the stream for as long as it lives. The handle of no
        // stream is NULL.
        unsafe {
            let stream = get_stream(memory.as_ptr().cast_mut());
            Some(RawStream(if stream.is_null() { std::ptr::null_mut() } else { stream_handle(stream) }))
        }
    }
}

impl fmt::Debug for GpuContext {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("GpuContext").field("index", &self.index()).finish_non_exhaustive()
    }
}

fn handle(gpu: &Gpu) -> *mut c_void {
    gpu.context().0
}

/// Whether the driver's library for decoding, which the plug-in nvcodec loads, can be loaded.
pub(crate) fn has_nvcuvid() -> bool {
    static LOADED: OnceLock<bool> = OnceLock::new();
    *LOADED.get_or_init(|| {
        // SAFETY: a library of the driver, which GStreamer's plug-in loads in the same way in this process.
        // It stays loaded: libraries of drivers are not made for being unloaded.
        let library = unsafe { Library::new("libnvcuvid.so.1") };
        library.map(|library| Box::leak(Box::new(library))).is_ok()
    })
}
