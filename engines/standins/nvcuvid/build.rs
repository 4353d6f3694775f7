//! Gives the shared library the name under which everyone looks for the decoder.

fn main() {
    println!("cargo:rerun-if-changed=build.rs");
    println!("cargo:rustc-cdylib-link-arg=-Wl,-soname,libnvcuvid.so.1");
    println!("cargo:rustc-cdylib-link-arg=-Wl,-z,nodelete");
}
