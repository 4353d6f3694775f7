//! What only some engines can be told.

/// `device = …`: where OpenVINO computes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum OpenVinoDevice {
    /// On the CPU.
    Cpu,
    /// On Intel's GPU.
    Gpu,
    /// On Intel's NPU.
    Npu,
}

impl OpenVinoDevice {
    /// As OpenVINO calls it.
    pub fn name(self) -> &'static str {
        match self {
            Self::Cpu => "CPU",
            Self::Gpu => "GPU",
            Self::Npu => "NPU",
        }
    }
}

/// `mode = …`: what OpenVINO is tuned for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum EngineMode {
    /// Each frame as soon as possible: all threads work on one.
    Latency,
    /// As many frames as possible: several at a time, each on its share of the threads.
    Throughput,
}
