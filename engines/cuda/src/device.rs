//! Which GPUs there are, or why there are none.

use std::ffi::{CStr, c_char, c_int};

use cudarc::driver::sys::{CUdevice, CUdevice_attribute as Attribute, CUuuid};

use crate::driver::{Driver, LIBRARY};

/// Why CUDA cannot be used here: one line, which says what to do.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Unavailable {
    /// The library is not there or does not load.
    #[error(
        "no NVIDIA driver: {LIBRARY} does not load ({reason}); install the NVIDIA driver if the box has such a GPU"
    )]
    Library {
        /// What the dynamic linker says.
        reason: String,
    },
    /// The library is too old, or is not NVIDIA's.
    #[error("the NVIDIA driver is too old: its {LIBRARY} has no {name}; install version 525 or later")]
    Symbol {
        /// The function that is missing.
        name: &'static str,
    },
    /// The library cannot start.
    #[error("the NVIDIA driver does not start: cuInit said {name} ({code}); {}", hint(*.code))]
    Init {
        /// The driver's code.
        code: u32,
        /// The driver's name of it.
        name: String,
    },
    /// The library works but sees no GPU.
    #[error("the NVIDIA driver sees no GPU; look at `nvidia-smi` and at CUDA_VISIBLE_DEVICES")]
    NoDevice,
    /// A device does not answer.
    #[error("CUDA device {index} does not answer: {call} said {name} ({code}); {}", hint(*.code))]
    Device {
        /// Which.
        index: u32,
        /// The driver's code.
        code: u32,
        /// The driver's name of it.
        name: String,
        /// The function that said so.
        call: &'static str,
    },
}

/// What to do about the codes that a start really ends with.
fn hint(code: u32) -> &'static str {
    match code {
        34 => "this is the toolkit's stub of the library: take its folder out of LD_LIBRARY_PATH",
        35 | 803 | 804 => "the driver's library and its kernel module differ in version: restart the box",
        100 => {
            "no GPU is visible: look at `nvidia-smi` and at CUDA_VISIBLE_DEVICES, and give a container its devices"
        }
        101 => "look at CUDA_VISIBLE_DEVICES",
        304 => "give this user access to /dev/nvidia*",
        802 => "wait until nvidia-fabricmanager runs",
        _ => "look at `nvidia-smi` and at the kernel's log (`dmesg | grep -i nvrm`)",
    }
}

/// A GPU.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DeviceInfo {
    /// The driver's number of it, from 0.
    pub index: u32,
    /// For example `NVIDIA GeForce RTX 3060`.
    pub name: String,
    /// Major and minor.
    pub compute_capability: (u32, u32),
    /// Memory of the device.
    pub total_bytes: u64,
    /// CUDA version that the driver supports: major and minor.
    pub driver: (u32, u32),
    /// True where the GPU shares the host's memory (Jetson).
    pub integrated: bool,
    /// `GPU-` and 32 hexadecimal digits, as `nvidia-smi -L` prints it.
    pub uuid: String,
}

/// The GPUs of this machine. Loads the driver the first time; creates no context, never panics.
///
/// # Errors
/// [`Unavailable`], also for a driver without any GPU.
pub fn devices() -> Result<Vec<DeviceInfo>, Unavailable> {
    let driver = Driver::get()?;
    (0..count(driver)?).map(|index| describe(driver, index).map(|(_, info)| info)).collect()
}

/// Devices there are, at least 1.
pub(crate) fn count(driver: &Driver) -> Result<u32, Unavailable> {
    let mut count: c_int = 0;
    // SAFETY: writes one number.
    let code = unsafe { (driver.cuDeviceGetCount)(&raw mut count) };
    if code != 0 {
        return Err(Unavailable::Init { code, name: driver.error_name(code) });
    }
    u32::try_from(count).ok().filter(|&count| count > 0).ok_or(Unavailable::NoDevice)
}

/// The driver's handle of a device, and what it says about it.
pub(crate) fn describe(driver: &Driver, index: u32) -> Result<(CUdevice, DeviceInfo), Unavailable> {
    let said = |call: &'static str, code: u32| match code {
        0 => Ok(()),
        code => Err(Unavailable::Device { index, code, name: driver.error_name(code), call }),
    };
    let mut device: CUdevice = 0;
    // SAFETY: writes one number.
    said("cuDeviceGet", unsafe { (driver.cuDeviceGet)(&raw mut device, index as c_int) })?;
    let attribute = |attribute: Attribute| {
        let mut value: c_int = 0;
        // SAFETY: writes one number.
        let code = unsafe { (driver.cuDeviceGetAttribute)(&raw mut value, attribute, device) };
        said("cuDeviceGetAttribute", code).map(|()| value.max(0).cast_unsigned())
    };
    let mut name = [0_u8; 256];
    // SAFETY: writes at most 256 bytes.
    let code = unsafe { (driver.cuDeviceGetName)(name.as_mut_ptr().cast::<c_char>(), 256, device) };
    said("cuDeviceGetName", code)?;
    let mut total_bytes = 0;
    // SAFETY: writes one number.
    said("cuDeviceTotalMem", unsafe { (driver.cuDeviceTotalMem_v2)(&raw mut total_bytes, device) })?;
    let mut uuid = CUuuid { bytes: [0; 16] };
    // SAFETY: writes 16 bytes.
    said("cuDeviceGetUuid", unsafe { (driver.cuDeviceGetUuid_v2)(&raw mut uuid, device) })?;
    let mut version: c_int = 0;
    // SAFETY: writes one number.
    said("cuDriverGetVersion", unsafe { (driver.cuDriverGetVersion)(&raw mut version) })?;
    let version = version.max(0).cast_unsigned();
    let info = DeviceInfo {
        index,
        name: CStr::from_bytes_until_nul(&name).unwrap_or_default().to_string_lossy().into_owned(),
        compute_capability: (
            attribute(Attribute::CU_DEVICE_ATTRIBUTE_COMPUTE_CAPABILITY_MAJOR)?,
            attribute(Attribute::CU_DEVICE_ATTRIBUTE_COMPUTE_CAPABILITY_MINOR)?,
        ),
        total_bytes: total_bytes as u64,
        driver: (version / 1000, version % 1000 / 10),
        integrated: attribute(Attribute::CU_DEVICE_ATTRIBUTE_INTEGRATED)? != 0,
        uuid: spell_uuid(&uuid.bytes.map(|byte| byte.to_ne_bytes()[0])),
    };
    Ok((device, info))
}

fn spell_uuid(bytes: &[u8; 16]) -> String {
    let digits = |range: std::ops::Range<usize>| -> String {
        bytes[range].iter().map(|byte| format!("{byte:02x}")).collect()
    };
    format!("GPU-{}-{}-{}-{}-{}", digits(0..4), digits(4..6), digits(6..8), digits(8..10), digits(10..16))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_uuid_reads_as_nvidia_smi_prints_it() {
        let bytes = std::array::from_fn(|index| index as u8 * 17);
        assert_eq!(spell_uuid(&bytes), "GPU-00112233-4455-6677-8899-aabbccddeeff");
    }

    #[test]
    fn every_reason_is_one_line_that_says_what_to_do() {
        let codes = [34, 35, 100, 101, 304, 802, 803, 999, 12345];
        let inits = codes.map(|code| Unavailable::Init { code, name: "CUDA_ERROR_X".to_owned() });
        let others = [
            Unavailable::Library { reason: "libcuda.so.1: cannot open shared object file".to_owned() },
            Unavailable::Symbol { name: "cuInit" },
            Unavailable::NoDevice,
        ];
        for reason in inits.iter().chain(&others) {
            let said = reason.to_string();
            assert!(!said.contains('\n'), "{said}");
            let advice = ["install", "look at", "restart", "take its folder", "give this user", "wait until"];
            assert!(advice.iter().any(|advice| said.contains(advice)), "no advice: {said}");
        }
    }
}
