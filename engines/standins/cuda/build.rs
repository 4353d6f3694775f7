//! Gives the shared library the name under which everyone looks for the driver.

fn main() {
    println!("cargo:rerun-if-changed=build.rs");
    println!("cargo:rustc-cdylib-link-arg=-Wl,-soname,libcuda.so.1");
    // Its own functions are its own, also where a name has been taken away (`without`).
    println!("cargo:rustc-cdylib-link-arg=-Wl,-Bsymbolic");
    // Its streams are threads: the code must stay mapped when the last user closes the library.
    println!("cargo:rustc-cdylib-link-arg=-Wl,-z,nodelete");
}
