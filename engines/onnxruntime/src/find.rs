//! Where the library may be.

use std::path::PathBuf;

use watchpost_binding::{NotFound, Search};

/// Names a library file, before all other places.
pub const LIBRARY_VARIABLE: &str = "WATCHPOST_ONNXRUNTIME_LIB";

const SEARCH: Search = Search {
    variable: LIBRARY_VARIABLE,
    stem: "libonnxruntime.so",
    product: "onnxruntime",
    folders: &["/opt/onnxruntime/lib"],
    python: "onnxruntime/capi",
};

/// The library that would be loaded.
///
/// # Errors
/// [`NotFound`].
pub fn find_library() -> Result<PathBuf, NotFound> {
    SEARCH.find()
}
