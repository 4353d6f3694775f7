//! Which machine this is, and what is installed on it.

use std::fs;
use std::process::Command;
use std::time::Duration;

use serde_json::{Value, json};
use watchpost_prove::child;
use watchpost_prove::outcome::{Figures, Stop};
use watchpost_prove::settings::Settings;

const PATIENCE: Duration = Duration::from_secs(60);

pub fn run(settings: &Settings, figures: &mut Figures) -> Result<(), Stop> {
    let mut put = |name: &str, value: Value| figures.insert(name.to_owned(), value);
    put("cpu", cpu().into());
    put("cpus", std::thread::available_parallelism().map_or(0, usize::from).into());
    put("memory", line_of("/proc/meminfo", "MemTotal").into());
    put("kernel", first_line("/proc/sys/kernel/osrelease").into());
    put("system", line_of("/etc/os-release", "PRETTY_NAME").into());
    put("tensorrt", words(watchpost::engine::tensorrt::look()).into());
    put("onnxruntime", words(watchpost::engine::onnxruntime::look()).into());
    put("compute_sanitizer", sanitizer().into());
    put("watchpost", watchpost(settings));
    let devices = watchpost_cuda::devices().map_err(|why| Stop::skipped(why.to_string()))?;
    let device = &devices[0];
    put("gpu", device.name.clone().into());
    put("gpus", devices.len().into());
    put("compute_capability", version(device.compute_capability).into());
    put("gpu_memory_mib", (device.total_bytes >> 20).into());
    put("integrated", device.integrated.into());
    put("uuid", device.uuid.clone().into());
    put("cuda_of_driver", version(device.driver).into());
    put("driver", driver().into());
    Ok(())
}

fn version((major, minor): (u32, u32)) -> String {
    format!("{major}.{minor}")
}

fn words(found: Result<String, String>) -> String {
    found.unwrap_or_else(|why_not| format!("not here: {why_not}"))
}

fn first_line(path: &str) -> String {
    fs::read_to_string(path).unwrap_or_default().lines().next().unwrap_or_default().to_owned()
}

/// What follows the key in a file of keys and values.
fn line_of(path: &str, key: &str) -> String {
    let text = fs::read_to_string(path).unwrap_or_default();
    let line = text.lines().find(|line| line.starts_with(key)).unwrap_or_default();
    line[key.len().min(line.len())..]
        .trim_matches(|c: char| c.is_whitespace() || ":=\"".contains(c))
        .to_owned()
}

fn cpu() -> String {
    // x86 says "model name"; a Jetson's board is in its device tree.
    match line_of("/proc/cpuinfo", "model name") {
        empty if empty.is_empty() => first_line("/proc/device-tree/model").replace('\0', ""),
        name => name,
    }
}

/// The version of NVIDIA's kernel module, from wherever it is told.
fn driver() -> String {
    let module = first_line("/proc/driver/nvidia/version");
    if !module.is_empty() {
        return module;
    }
    let mut command = Command::new("nvidia-smi");
    command.args(["--query-gpu=driver_version", "--format=csv,noheader"]);
    match child::run(&mut command, PATIENCE) {
        Ok(ended) if ended.is_success() => ended.stdout.lines().next().unwrap_or_default().trim().to_owned(),
        _ => "unknown: neither /proc/driver/nvidia/version nor nvidia-smi says it".to_owned(),
    }
}

fn sanitizer() -> String {
    match child::run(Command::new("compute-sanitizer").arg("--version"), PATIENCE) {
        Ok(ended) if ended.is_success() => {
            let version = ended.stdout.lines().find(|line| line.contains("ersion")).unwrap_or("found");
            version.trim().to_owned()
        }
        _ => "not here".to_owned(),
    }
}

/// What the daemon itself says of this machine.
fn watchpost(settings: &Settings) -> Value {
    let mut command = Command::new(settings.program("watchpost"));
    match child::run(command.args(["devices", "--json"]), PATIENCE) {
        Err(error) => json!(format!("does not start: {error}")),
        Ok(ended) => match (ended.missing_library(), serde_json::from_str::<Value>(&ended.stdout)) {
            (Some(missing), _) => json!(format!("does not start: {missing}")),
            (None, Err(_)) => json!(format!("failed: {}", ended.last_words())),
            (None, Ok(said)) => json!({
                "gstreamer": said["gstreamer"],
                "backends": said["backends"].as_array().into_iter().flatten()
                    .map(|backend| (text(&backend["name"]), backend["explanation"].clone()))
                    .collect::<serde_json::Map<_, _>>(),
                "hardware_decoders": said["decoders"].as_array().into_iter().flatten()
                    .filter(|decoder| decoder["available"] == true && decoder["hardware"] == true)
                    .map(|decoder| text(&decoder["element"])).collect::<Vec<_>>().join(", "),
            }),
        },
    }
}

fn text(value: &Value) -> String {
    value.as_str().unwrap_or_default().to_owned()
}
