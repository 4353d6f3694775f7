//! Where the library may be.

use std::path::PathBuf;

use watchpost_binding::{NotFound, Search};

/// Names a library file, before all other places.
pub const LIBRARY_VARIABLE: &str = "WATCHPOST_OPENVINO_LIB";

const SEARCH: Search = Search {
    variable: LIBRARY_VARIABLE,
    stem: "libopenvino_c.so",
    product: "openvino",
    folders: &["/opt/intel/openvino/runtime/lib/intel64", "/opt/intel/openvino/runtime/lib/aarch64"],
    python: "openvino/libs",
};

/// The library that would be loaded.
///
/// # Errors
/// [`NotFound`].
pub fn find_library() -> Result<PathBuf, NotFound> {
    SEARCH.find()
}
