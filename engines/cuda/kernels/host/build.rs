//! Compiles the kernels' source as C++.

fn main() {
    for file in ["letterbox.cu", "host.h", "host.cpp"] {
        println!("cargo::rerun-if-changed=../{file}");
    }
    // Optimised in test builds too: the daemon's tests run whole clips through it.
    cc::Build::new()
        .cpp(true)
        .std("c++17")
        .opt_level(2)
        .warnings_into_errors(false)
        .file("../host.cpp")
        .compile("watchpost_host_kernels");
}
