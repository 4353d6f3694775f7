//! What the stand-in pretends to be, and when it fails: `WATCHPOST_STANDIN`, or `standin_cuda_configure`.
//!
//! The README of `engines/standins` says what each key means.

use std::collections::BTreeMap;

use crate::codes::{Code, ILLEGAL_ADDRESS};

/// One configuration. Faults count from the moment at which it is set; 0 means never.
#[derive(Clone, Debug)]
pub struct Settings {
    pub devices: u32,
    pub name: String,
    pub compute: (u32, u32),
    pub total_bytes: u64,
    pub driver: u32,
    pub integrated: bool,
    pub init_error: Code,
    pub oom_at: u64,
    pub lost_at_operation: u64,
    pub lost_at_launch: u64,
    pub lost_at_sync: u64,
    pub lost_code: Code,
    pub hang_at: u64,
    pub delay_us: u64,
    pub queue: usize,
    pub verbose: bool,
    /// Keys with a dot belong to the other stand-ins.
    pub others: BTreeMap<String, i64>,
}

impl Default for Settings {
    fn default() -> Self {
        Settings {
            devices: 1,
            name: "GPU".to_owned(),
            compute: (7, 5),
            total_bytes: 8 << 30,
            driver: 12020,
            integrated: false,
            init_error: 0,
            oom_at: 0,
            lost_at_operation: 0,
            lost_at_launch: 0,
            lost_at_sync: 0,
            lost_code: ILLEGAL_ADDRESS,
            hang_at: 0,
            delay_us: 0,
            queue: 1024,
            verbose: false,
            others: BTreeMap::new(),
        }
    }
}

impl Settings {
    /// Sets what `text`, a list of key=value with commas between, names; the rest stays.
    ///
    /// # Errors
    ///
    /// A sentence about the first key that does not exist or has no sensible value.
    pub fn change(&mut self, text: &str) -> Result<(), String> {
        for pair in text.split(',').map(str::trim).filter(|pair| !pair.is_empty()) {
            let (key, value) = pair.split_once('=').ok_or_else(|| format!("{pair}: write key=value"))?;
            self.set(key.trim(), value.trim()).map_err(|problem| format!("{pair}: {problem}"))?;
        }
        Ok(())
    }

    fn set(&mut self, key: &str, value: &str) -> Result<(), String> {
        match key {
            "devices" => self.devices = number(value)?,
            "name" => self.name = value.to_owned(),
            "cc" => self.compute = version(value)?,
            "total_bytes" => self.total_bytes = number(value)?,
            "total_mib" => self.total_bytes = number::<u64>(value)? << 20,
            "driver" => self.driver = version(value).map(|(major, minor)| major * 1000 + minor * 10)?,
            "integrated" => self.integrated = number::<u8>(value)? != 0,
            "init_error" => self.init_error = number(value)?,
            "oom_at" => self.oom_at = number(value)?,
            "lost_at_operation" => self.lost_at_operation = number(value)?,
            "lost_at_launch" => self.lost_at_launch = number(value)?,
            "lost_at_sync" => self.lost_at_sync = number(value)?,
            "lost_code" => self.lost_code = number(value)?,
            "hang_at" => self.hang_at = number(value)?,
            "delay_us" => self.delay_us = number(value)?,
            "queue" => self.queue = number::<usize>(value)?.max(1),
            "verbose" => self.verbose = number::<u8>(value)? != 0,
            // libnvinfer's stand-in reads its own: not all of them are numbers.
            _ if key.starts_with("nvinfer") => {}
            _ if key.contains('.') => {
                self.others.insert(key.to_owned(), number(value)?);
            }
            _ => return Err("there is no such key; engines/standins/README.md lists them".to_owned()),
        }
        Ok(())
    }
}

fn number<T: std::str::FromStr>(text: &str) -> Result<T, String> {
    text.parse().map_err(|_| "a number is needed that fits".to_owned())
}

fn version(text: &str) -> Result<(u32, u32), String> {
    let (major, minor) =
        text.split_once('.').ok_or_else(|| "two numbers with a dot are needed".to_owned())?;
    Ok((number(major)?, number(minor)?))
}
