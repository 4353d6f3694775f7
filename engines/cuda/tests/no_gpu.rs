//! On a machine without an NVIDIA driver everything says so, in one line, and nothing breaks.

use watchpost_cuda::{CudaError, Gpu, Unavailable, devices};

#[test]
fn a_machine_without_a_driver_says_what_is_missing() {
    let unavailable = match devices() {
        Err(unavailable @ Unavailable::Library { .. }) => unavailable,
        other => {
            eprintln!("NOT TESTED: this machine has a libcuda.so.1; it says {other:?}");
            return;
        }
    };
    let said = unavailable.to_string();
    assert!(
        said.contains("cannot open shared object file") && said.contains("install the NVIDIA driver"),
        "{said}"
    );
    assert!(!said.contains('\n'), "{said}");
    // Asked again it says the same: nothing is half loaded.
    assert_eq!(devices().unwrap_err(), unavailable);
    let error = Gpu::open(0).unwrap_err();
    assert_eq!(error, CudaError::Unavailable(unavailable));
    assert_eq!(error.to_string(), said);
    assert!(!error.is_lost());
}
