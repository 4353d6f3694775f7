//! GStreamer remembers what plug-ins had when they were last looked at; a driver that comes later is found all the same.

use std::process::Command;

use watchpost_pipelines::{Gpu, Memory, SourceKind, Spec, plan};

/// Which of the two processes this is.
const STAGE: &str = "WATCHPOST_TEST_STAGE";

#[test]
fn a_driver_installed_after_the_registry_was_written_is_used() {
    let camera = Spec::new(SourceKind::Rtsp { url: "rtsp://x/".to_owned() });
    match std::env::var(STAGE).as_deref() {
        Ok("before") => {
            let text = plan(&camera).unwrap().to_string();
            return assert!(!text.contains("CUDA"), "{text}");
        }
        Ok(_) => {
            let plan = plan(&Spec { gpu: Some(Gpu::open(0).unwrap()), ..camera }).unwrap();
            let h264 = plan.codecs.iter().find(|plan| plan.codec == "H.264").unwrap();
            return assert_eq!((h264.element.as_deref(), h264.memory), (Some("nvh264dec"), Memory::Cuda));
        }
        Err(_) => {}
    }
    let private = tempfile::tempdir().unwrap();
    let process = |stage: &str| {
        let mut command = Command::new(std::env::current_exe().unwrap());
        let name = "a_driver_installed_after_the_registry_was_written_is_used";
        watchpost_standins::environment(&mut command, private.path());
        command.args(["--exact", name]).env(STAGE, stage);
        command
    };
    let before = process("before").env_remove("LD_LIBRARY_PATH").output().unwrap();
    assert!(before.status.success(), "{before:?}");
    let after = process("after").output().unwrap();
    assert!(after.status.success(), "{}", String::from_utf8_lossy(&after.stdout));
}
