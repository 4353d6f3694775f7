//! A display that is none, for elements that would look for one.
//!
//! The decoders of nvcodec ask for an OpenGL display when they are opened, although their pictures stay in CUDA
//! memory. Left alone each of them connects to Wayland or X11, or opens a graphics device, starts a thread for
//! it, and on a box without any of these has libwayland complain on stderr, at every opening of every camera.

use std::sync::OnceLock;

use gstreamer as gst;
use gstreamer::glib;
use gstreamer::glib::translate::from_glib;
use gstreamer::prelude::*;
use libloading::Library;

/// `gst_gl_display_get_type`
type GetType = unsafe extern "C" fn() -> glib::ffi::GType;
/// `gst_context_set_gl_display`: puts a `GstGLDisplay` into a context, which takes a reference.
type SetDisplay = unsafe extern "C" fn(*mut gst::ffi::GstContext, *mut glib::gobject_ffi::GObject);

/// The context to set on pipelines; `None` where GStreamer has no OpenGL. One for the process.
pub(crate) fn context() -> Option<&'static gst::Context> {
    static CONTEXT: OnceLock<Option<gst::Context>> = OnceLock::new();
    CONTEXT.get_or_init(make).as_ref()
}

fn make() -> Option<gst::Context> {
    // SAFETY: GStreamer's own library, which nvcodec is linked with; its initialisers only register types.
    let library = unsafe { Library::new("libgstgl-1.0.so.0") }.ok()?;
    // SAFETY: the types above are the functions' signatures in every version since 1.4.
    let (get_type, set_display) = unsafe {
        let get_type = *library.get::<GetType>(b"gst_gl_display_get_type\0").ok()?;
        (get_type, *library.get::<SetDisplay>(b"gst_context_set_gl_display\0").ok()?)
    };
    // The code behind a GLib type has to stay.
    Box::leak(Box::new(library));
    // SAFETY: registers the type once and returns it.
    let display = unsafe { from_glib::<_, glib::Type>(get_type()) };
    // The base class: a display of no window system, which is what GStreamer itself falls back to.
    let display = glib::Object::with_type(display);
    let mut context = gst::Context::new("gst.gl.GLDisplay", true);
    // SAFETY: the context has just been made, so nobody else reads it, and `display` is a GstGLDisplay.
    unsafe { set_display(context.get_mut()?.as_mut_ptr(), display.as_ptr()) };
    Some(context)
}
