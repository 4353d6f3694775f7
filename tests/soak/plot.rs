//! PURE: the series of a run as an SVG picture, one panel below the other.

use std::fmt::Write as _;

use super::series::{Phase, Sample};

const WIDTH: f64 = 960.0;
const LEFT: f64 = 70.0;
const RIGHT: f64 = 150.0;
const TOP: f64 = 86.0;
const PANEL: f64 = 110.0;
const GAP: f64 = 34.0;
const BOTTOM: f64 = 46.0;
/// Points of a line; more of them are not seen.
const POINTS_MAX: usize = 600;

struct Line {
    name: &'static str,
    colour: &'static str,
    of: fn(&Sample) -> f64,
}

struct Panel {
    title: &'static str,
    lines: &'static [Line],
    /// Memory is looked at closely, counts from zero.
    from_zero: bool,
}

const BLUE: &str = "#1f6fb4";
const ORANGE: &str = "#d9730d";
const MIB: f64 = 1_048_576.0;

const PANELS: [Panel; 6] = [
    Panel {
        title: "Memory (MiB)",
        from_zero: false,
        lines: &[
            Line { name: "RSS", colour: BLUE, of: |s| s.rss_bytes as f64 / MIB },
            Line { name: "PSS", colour: ORANGE, of: |s| s.pss_bytes as f64 / MIB },
        ],
    },
    Panel {
        title: "File descriptors",
        from_zero: true,
        lines: &[Line { name: "descriptors", colour: BLUE, of: |s| s.fds as f64 }],
    },
    Panel {
        title: "Threads",
        from_zero: true,
        lines: &[Line { name: "threads", colour: BLUE, of: |s| s.threads as f64 }],
    },
    Panel {
        title: "GStreamer objects (pipelines, elements, pads)",
        from_zero: true,
        lines: &[Line { name: "objects", colour: BLUE, of: |s| s.objects as f64 }],
    },
    Panel {
        title: "Frame slots",
        from_zero: true,
        lines: &[
            Line { name: "in all", colour: ORANGE, of: |s| s.slots as f64 },
            Line { name: "free", colour: BLUE, of: |s| s.slots_free as f64 },
        ],
    },
    Panel {
        title: "Cameras",
        from_zero: true,
        lines: &[
            Line { name: "configured", colour: ORANGE, of: |s| s.cameras as f64 },
            Line { name: "up", colour: BLUE, of: |s| s.cameras_up as f64 },
        ],
    },
];

/// From values to pixels.
#[derive(Clone, Copy)]
struct Scale {
    from: f64,
    to: f64,
    start: f64,
    end: f64,
}

impl Scale {
    fn at(&self, value: f64) -> f64 {
        self.start
            + (value - self.from) / (self.to - self.from).max(f64::MIN_POSITIVE) * (self.end - self.start)
    }
}

/// The picture; `title` and `subtitle` stand above it.
pub fn svg(title: &str, subtitle: &str, samples: &[Sample]) -> String {
    let height = TOP + PANELS.len() as f64 * (PANEL + GAP) + BOTTOM - GAP;
    let seconds = samples.last().map_or(1.0, |sample| sample.seconds).max(1.0);
    let time = Scale { from: 0.0, to: seconds, start: LEFT, end: WIDTH - RIGHT };
    let mut text = format!(
        "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 {WIDTH} {height}\" width=\"{WIDTH}\" height=\"{height}\" \
         font-family=\"sans-serif\" font-size=\"12\" fill=\"#222\">\n\
         <rect width=\"{WIDTH}\" height=\"{height}\" fill=\"#fff\"/>\n"
    );
    label(&mut text, LEFT, 26.0, "start", 17, title);
    label(&mut text, LEFT, 46.0, "start", 12, subtitle);
    for (index, panel) in PANELS.iter().enumerate() {
        let top = TOP + index as f64 * (PANEL + GAP);
        draw_panel(&mut text, panel, top, time, samples);
    }
    let foot = height - BOTTOM;
    for tick in ticks(0.0, seconds / 60.0, 10).into_iter().filter(|tick| tick * 60.0 <= seconds) {
        let x = time.at(tick * 60.0);
        line(&mut text, (x, foot), (x, foot + 5.0), "#222");
        label(&mut text, x, foot + 19.0, "middle", 12, &number(tick));
    }
    label(&mut text, (LEFT + WIDTH - RIGHT) / 2.0, foot + 36.0, "middle", 12, "minutes since the start");
    text + "</svg>\n"
}

fn draw_panel(text: &mut String, panel: &Panel, top: f64, time: Scale, samples: &[Sample]) {
    let bottom = top + PANEL;
    let values = || panel.lines.iter().flat_map(|line| samples.iter().map(line.of));
    let (mut least, mut most) = values().fold((f64::MAX, f64::MIN), |(a, b), v| (a.min(v), b.max(v)));
    if least > most {
        (least, most) = (0.0, 1.0);
    }
    if panel.from_zero {
        least = 0.0;
    }
    let marks = ticks(least, most.max(least + 1.0), 4);
    let (from, to) = (marks[0], marks[marks.len() - 1]);
    let scale = Scale { from, to, start: bottom, end: top };
    for phase in [Phase::WarmUp, Phase::Work] {
        shade(text, top, time, samples.iter().filter(|sample| sample.phase == phase));
    }
    for mark in marks {
        let y = scale.at(mark);
        line(text, (LEFT, y), (WIDTH - RIGHT, y), "#ddd");
        label(text, LEFT - 8.0, y + 4.0, "end", 12, &number(mark));
    }
    line(text, (LEFT, bottom), (WIDTH - RIGHT, bottom), "#222");
    line(text, (LEFT, top), (LEFT, bottom), "#222");
    label(text, LEFT, top - 8.0, "start", 13, panel.title);
    for (index, of_panel) in panel.lines.iter().enumerate() {
        polyline(text, of_panel, samples, time, scale);
        let y = top + 14.0 + 18.0 * index as f64;
        let x = WIDTH - RIGHT + 12.0;
        let _infallible = writeln!(
            text,
            "<line x1=\"{x}\" y1=\"{y}\" x2=\"{}\" y2=\"{y}\" stroke=\"{}\" stroke-width=\"2\"/>",
            x + 18.0,
            of_panel.colour
        );
        let last = samples.last().map_or(0.0, of_panel.of);
        label(
            text,
            x + 24.0,
            y + 4.0,
            "start",
            12,
            &format!("{}, end: {}", of_panel.name, number((last * 10.0).round() / 10.0)),
        );
    }
}

/// Where everything happens the ground is grey.
fn shade<'a>(
    text: &mut String,
    top: f64,
    time: Scale,
    mut samples: impl DoubleEndedIterator<Item = &'a Sample>,
) {
    let Some(first) = samples.next() else { return };
    let last = samples.next_back().unwrap_or(first);
    let (x, end) = (time.at(first.seconds), time.at(last.seconds));
    let _infallible = writeln!(
        text,
        "<rect x=\"{x:.1}\" y=\"{top}\" width=\"{:.1}\" height=\"{PANEL}\" fill=\"#f3f5f7\"/>",
        end - x
    );
}

/// The highest value of each stretch, so that no peak is lost.
fn polyline(text: &mut String, of_panel: &Line, samples: &[Sample], time: Scale, scale: Scale) {
    let stretch = samples.len().div_ceil(POINTS_MAX).max(1);
    let _infallible =
        write!(text, "<polyline fill=\"none\" stroke=\"{}\" stroke-width=\"1.3\" points=\"", of_panel.colour);
    for part in samples.chunks(stretch) {
        let most = part.iter().map(of_panel.of).fold(f64::MIN, f64::max);
        let _infallible = write!(text, "{:.1},{:.1} ", time.at(part[0].seconds), scale.at(most));
    }
    *text += "\"/>\n";
}

/// Round numbers from at most `least` to at least `most`, about `count` steps apart.
fn ticks(least: f64, most: f64, count: usize) -> Vec<f64> {
    let rough = (most - least).max(1e-9) / count as f64;
    let power = 10f64.powf(rough.log10().floor());
    let step = [1.0, 2.0, 5.0, 10.0].map(|factor| factor * power).into_iter().find(|step| *step >= rough);
    let step = step.unwrap_or(10.0 * power);
    let (first, last) = ((least / step).floor() as i64, (most / step).ceil() as i64);
    (first..=last).map(|index| index as f64 * step).collect()
}

fn number(value: f64) -> String {
    if (value - value.round()).abs() < 1e-6 { format!("{value:.0}") } else { format!("{value:.1}") }
}

fn line(text: &mut String, from: (f64, f64), to: (f64, f64), colour: &str) {
    let _infallible = writeln!(
        text,
        "<line x1=\"{:.1}\" y1=\"{:.1}\" x2=\"{:.1}\" y2=\"{:.1}\" stroke=\"{colour}\"/>",
        from.0, from.1, to.0, to.1
    );
}

fn label(text: &mut String, x: f64, y: f64, anchor: &str, size: u32, words: &str) {
    let words = words.replace('&', "&amp;").replace('<', "&lt;");
    let _infallible = writeln!(
        text,
        "<text x=\"{x:.1}\" y=\"{y:.1}\" text-anchor=\"{anchor}\" font-size=\"{size}\">{words}</text>"
    );
}
