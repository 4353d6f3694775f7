//! The lines on stdin, and the JSON lines that answer them.

use serde::Serialize;
use serde_json::{Value, json};
use watchpost_testcam::{CameraStats, Fault, TestCamera, TestCameraError, unix_ns};

/// What a line asks for.
#[derive(Debug, PartialEq, Eq)]
enum Order {
    Fault(Fault),
    Heal,
    Resolution(u32, u32),
    Stats,
    Quit,
}

/// One line on stdout.
#[derive(Debug, Serialize)]
pub(crate) struct Event {
    event: &'static str,
    #[serde(flatten)]
    details: Value,
    at_unix_ns: u64,
}

impl Event {
    /// Something that has just happened; `details` is an object.
    pub(crate) fn now(event: &'static str, details: Value) -> Self {
        Self { event, details, at_unix_ns: unix_ns() }
    }
}

/// Carries out one line; `None` means quit. `@1 close` addresses the second of several cameras only.
pub(crate) fn carry_out(cameras: &[TestCamera], line: &str) -> Option<Event> {
    let answer = address(cameras, line).and_then(|(addressed, text)| match parse(text)? {
        Order::Quit => Ok(None),
        order => obey(addressed, &order).map(Some).map_err(|error| error.to_string()),
    });
    answer.unwrap_or_else(|message| Some(Event::now("error", json!({"message": message}))))
}

fn address<'a>(cameras: &'a [TestCamera], line: &'a str) -> Result<(&'a [TestCamera], &'a str), String> {
    let line = line.trim();
    let Some(rest) = line.strip_prefix('@') else { return Ok((cameras, line)) };
    let (index, order) = rest.split_once(' ').unwrap_or((rest, ""));
    let one = index.parse::<usize>().ok().and_then(|index| cameras.get(index..=index));
    let count = cameras.len();
    let one = one.ok_or_else(|| format!("there is no camera @{index}; use @0 to @{}", count - 1))?;
    Ok((one, order.trim()))
}

fn parse(line: &str) -> Result<Order, String> {
    let (word, rest) = line.split_once(char::is_whitespace).unwrap_or((line, ""));
    let alone = |order| {
        if rest.trim().is_empty() { Ok(order) } else { Err(format!("`{word}` takes no argument")) }
    };
    match word {
        "fault" => rest.parse().map(Order::Fault),
        "heal" => alone(Order::Heal),
        "stats" => alone(Order::Stats),
        "quit" => alone(Order::Quit),
        "resolution" => match rest.split_whitespace().map(str::parse).collect::<Vec<_>>()[..] {
            [Ok(width), Ok(height)] => Ok(Order::Resolution(width, height)),
            _ => Err(format!("`{}` is not a size; write `resolution 640 360`", rest.trim())),
        },
        other => Err(format!("`{other}` is not known; use fault, heal, resolution, stats or quit")),
    }
}

fn obey(cameras: &[TestCamera], order: &Order) -> Result<Event, TestCameraError> {
    match *order {
        Order::Fault(fault) => {
            for camera in cameras {
                camera.inject(fault)?;
            }
            Ok(Event::now("fault", json!({"name": fault.name()})))
        }
        Order::Resolution(width, height) => {
            for camera in cameras {
                camera.set_resolution(width, height)?;
            }
            Ok(Event::now("resolution", json!({"width": width, "height": height})))
        }
        Order::Heal => {
            cameras.iter().for_each(TestCamera::heal);
            Ok(Event::now("heal", json!({})))
        }
        Order::Stats | Order::Quit => {
            let stats: Vec<CameraStats> = cameras.iter().map(TestCamera::stats).collect();
            Ok(Event::now("stats", json!({"cameras": stats})))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_are_read_and_wrong_ones_say_what_to_write() {
        assert_eq!(parse("fault garbage 3"), Ok(Order::Fault(Fault::Garbage { seed: 3 })));
        assert_eq!(parse("resolution 640 360"), Ok(Order::Resolution(640, 360)));
        assert_eq!(parse("heal"), Ok(Order::Heal));
        for (line, named) in [
            ("fault", "stop-sending"),
            ("resolution 640", "resolution 640 360"),
            ("heal now", "`heal`"),
            ("", "fault, heal"),
        ] {
            let error = parse(line).unwrap_err();
            assert!(error.contains(named), "{error}");
        }
    }
}
