//! What the sentinel found, in calm sentences.

use std::fmt;
use std::time::Duration;

use super::{Growth, Owner, Report};
use crate::metrics::Holding;

/// As people call it, at the beginning of a sentence about its growth.
fn noun(holding: Holding) -> &'static str {
    match holding {
        Holding::Rss => "resident memory",
        Holding::Pss => "the process's own memory",
        Holding::Gpu => "GPU memory",
        Holding::Fd => "the number of open descriptors",
        Holding::Thread => "the number of threads",
        Holding::Pipeline => "the number of pipelines",
        Holding::Slot => "the number of frame slots in use",
    }
}

/// `12.3 MiB` or `7`.
fn amount(holding: Holding, value: f64) -> String {
    match holding.is_bytes() {
        true if value < 1_048_576.0 => format!("{:.0} KiB", value / 1024.0),
        true => format!("{:.1} MiB", value / 1_048_576.0),
        false => format!("{value:.0}"),
    }
}

fn time(duration: Duration) -> String {
    let minutes = duration.as_secs() / 60;
    match minutes {
        0..180 => format!("{minutes} min"),
        180..4320 => format!("{} h", (minutes + 30) / 60),
        _ => format!("{} days", (minutes + 720) / 1440),
    }
}

impl fmt::Display for Growth {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { holding, held, rise, over, owner } = *self;
        write!(
            f,
            "{} has grown by {} in {} and is {} now; ",
            noun(holding),
            amount(holding, rise),
            time(over),
            amount(holding, held as f64)
        )?;
        match owner {
            Owner::With(other) => write!(f, "with it grows {}", noun(other)),
            Owner::Shared => f.write_str("it is shared with other processes or mapped from files"),
            Owner::Openings { count, each } => write!(
                f,
                "cameras were opened {count} times meanwhile, that is {} for each opening",
                amount(holding, each)
            ),
            Owner::Unknown => f.write_str("nothing else that is counted grows with it"),
        }
    }
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Grows(growth) => growth.fmt(f),
            Self::Steady { holding, held } => {
                write!(f, "{} no longer grows and is {} now", noun(*holding), amount(*holding, *held as f64))
            }
        }
    }
}
