//! `privacy_masks`, limits of boxes, `[camera.NAME.zone.NAME]` and `[camera.NAME.line.NAME]`.

use std::time::Duration;

use serde_json::Value as Json;

use super::camera::classes;
use super::measure::show_duration;
use super::names::{check_name, named_tables};
use super::options::CameraOptions;
use super::points::{self, PictureSize};
use super::reading::{Reading, Section, Wrong, duration_of, float_of, is_word, shown_key, text_of};
use super::sections::{fraction_json, fraction_of};
use super::tree::{Node, Table, Value};
use super::zone_options::{
    Anchor, BoxArea, BoxLimits, LINES_MAX, LineOptions, MASKS_MAX, SETTLE, ZONES_MAX, ZoneKind, ZoneOptions,
};
use crate::shape::{Polygon, Segment};

/// Keys of a zone.
pub const ZONE_KEYS: &[&str] = &["polygon", "kind", "anchor", "overlap", "classes", "dwell", "settle"];
/// Keys of a line.
pub const LINE_KEYS: &[&str] = &["from", "to", "anchor", "classes", "directions"];

const KINDS: [(&str, ZoneKind); 3] =
    [("watch", ZoneKind::Watch), ("include", ZoneKind::Include), ("ignore", ZoneKind::Ignore)];
/// Share of a box that has to be in a zone where `overlap` is not set.
const OVERLAP: f32 = 0.5;
const ASPECT_MAX: f64 = 1000.0;
const AREA_PIXELS_MAX: f64 = 1e9;
const MOST_THRESHOLDS: usize = 1000;

/// Polygons that are black in the pictures.
pub(super) fn privacy_masks(section: &mut Section<'_, '_>, size: PictureSize) -> Vec<Polygon> {
    let key = "privacy_masks";
    let Some(node) = section.find(key) else {
        section.record(key, None, super::Origin::Default);
        return Vec::new();
    };
    let Value::List(nodes) = &node.value else {
        let message = format!(
            "`{key}` must be a list of polygons like [[[0.1, 0.2], [0.3, 0.2], [0.3, 0.4]]], not {}",
            node.value.kind()
        );
        section.reading.error(node.place, message, None);
        return Vec::new();
    };
    if nodes.len() > MASKS_MAX {
        section.reading.error(node.place, format!("`{key}` has more than {MASKS_MAX} polygons"), None);
    }
    let masks =
        nodes.iter().take(MASKS_MAX).filter_map(|node| points::polygon(section, key, node, size)).collect();
    let origin = section.reading.origin(node);
    section.record(key, Some(points::as_written(node)), origin);
    masks
}

/// How large and how slim boxes may be.
pub(super) fn box_limits(section: &mut Section<'_, '_>) -> BoxLimits {
    let limits = BoxLimits {
        min_area: box_area(section, "min_box_area"),
        max_area: box_area(section, "max_box_area"),
        min_aspect: aspect(section, "min_box_aspect"),
        max_aspect: aspect(section, "max_box_aspect"),
    };
    let areas_cross = match (limits.min_area, limits.max_area) {
        (Some(BoxArea::Fraction(least)), Some(BoxArea::Fraction(most)))
        | (Some(BoxArea::Pixels(least)), Some(BoxArea::Pixels(most))) => least > most,
        _ => false,
    };
    let aspects_cross =
        matches!((limits.min_aspect, limits.max_aspect), (Some(least), Some(most)) if least > most);
    for (crossed, least, most) in
        [(areas_cross, "min_box_area", "max_box_area"), (aspects_cross, "min_box_aspect", "max_box_aspect")]
    {
        if let Some(node) = section.find(least).filter(|_| crossed) {
            let message = format!("`{least}` is above `{most}`, so nothing would ever be published");
            section.reading.error(node.place, message, None);
        }
    }
    limits
}

fn box_area(section: &mut Section<'_, '_>, key: &'static str) -> Option<BoxArea> {
    let parse = |node: &Node| {
        if let Value::Text(text) = &node.value {
            let number = text.trim().strip_suffix("px").and_then(|number| number.trim().parse::<f64>().ok());
            let pixels = number.filter(|pixels| (0.0..=AREA_PIXELS_MAX).contains(pixels));
            return pixels.map(|pixels| Some(BoxArea::Pixels(pixels as f32))).ok_or_else(|| {
                "must be square pixels like \"900px\", or a fraction of the picture like 0.001".to_owned()
            });
        }
        let fraction = fraction_of(node);
        let fraction = fraction
            .map_err(|wrong| format!("{wrong} (a fraction of the picture), or square pixels like \"900px\""));
        fraction.map(|fraction| Some(BoxArea::Fraction(fraction)))
    };
    section.read(key, None, parse, |area| {
        area.map(|area| match area {
            BoxArea::Fraction(fraction) => fraction_json(fraction),
            BoxArea::Pixels(pixels) => Json::from(format!("{pixels}px")),
        })
    })
}

fn aspect(section: &mut Section<'_, '_>, key: &'static str) -> Option<f32> {
    let parse = |node: &Node| {
        let wrong = |wrong| format!("{wrong}: the width of a box over its height, both in pixels");
        float_of(node, &(0.0..=ASPECT_MAX)).map(|aspect| Some(aspect as f32)).map_err(wrong)
    };
    section.read(key, None, parse, |aspect| aspect.map(fraction_json))
}

/// Thresholds of single labels.
pub(super) fn score_thresholds(section: &mut Section<'_, '_>) -> Vec<(String, f32)> {
    let parse = |node: &Node| {
        let Value::Table(table) = &node.value else {
            return Err(format!("must be a table like {{ person = 0.5 }}, not {}", node.value.kind()));
        };
        if table.len() > MOST_THRESHOLDS {
            return Err(format!("has more than {MOST_THRESHOLDS} labels"));
        }
        let threshold = |(label, node): (&String, &Node)| {
            let threshold = fraction_of(node).map_err(|wrong| format!("of {} {wrong}", shown_key(label)))?;
            Ok((label.clone(), threshold))
        };
        table.iter().map(threshold).collect()
    };
    section.read("score_thresholds", Vec::new(), parse, |thresholds: &Vec<(String, f32)>| {
        let entries = thresholds.iter().map(|(label, threshold)| (label.clone(), fraction_json(*threshold)));
        (!thresholds.is_empty()).then(|| Json::Object(entries.collect()))
    })
}

/// The first zone or line of a camera's own table that tells of objects: `zone.door`.
pub(super) fn first_watcher(section: &mut Section<'_, '_>) -> Option<String> {
    let tells = |kind: &str, node: &Node| match &node.value {
        Value::Table(table) if kind == "zone" => table.get("kind").is_none_or(|kind| is_word(kind, "watch")),
        Value::Table(_) => true,
        _ => false,
    };
    let named = ["zone", "line"].map(|kind| (kind, section.find_own(kind)));
    named.into_iter().find_map(|(kind, node)| {
        let Some(Node { value: Value::Table(tables), .. }) = node else { return None };
        let telling = |(name, node): &(&String, &Node)| check_name(name).is_ok() && tells(kind, node);
        tables.iter().find(telling).map(|(name, _)| format!("{kind}.{name}"))
    })
}

/// Zones and lines of one camera, from its own table.
pub(super) fn zones_and_lines(
    reading: &mut Reading,
    own: &Table,
    size: PictureSize,
    camera: &mut CameraOptions,
) {
    let path = format!("camera.{}", camera.name);
    let allowed = camera.classes.as_deref();
    let tables = named_tables(reading, own, "zone", &format!("{path}.zone"), ZONES_MAX);
    let zones = tables.into_iter().filter_map(|(name, node)| zone(reading, &path, name, node, size, allowed));
    camera.zones = zones.collect();
    let tables = named_tables(reading, own, "line", &format!("{path}.line"), LINES_MAX);
    let lines = tables.into_iter().filter_map(|(name, node)| line(reading, &path, name, node, size, allowed));
    camera.lines = lines.collect();
}

fn zone(
    reading: &mut Reading,
    path: &str,
    name: &str,
    node: &Node,
    size: PictureSize,
    allowed: Option<&[String]>,
) -> Option<ZoneOptions> {
    let mut section = Section::new(reading, format!("{path}.zone.{name}"), Some(node));
    let polygon = outline(&mut section, name, size);
    let kind = section.choice("kind", ZoneKind::Watch, &KINDS);
    let anchor = zone_anchor(&mut section);
    let classes = classes_of_camera(&mut section, allowed);
    let (dwell, settle) = if kind == ZoneKind::Watch {
        (dwell(&mut section), section.duration("settle", SETTLE, Duration::ZERO..=Duration::from_secs(60)))
    } else {
        for key in ["dwell", "settle"] {
            if let Some(node) = section.find(key) {
                let message = format!("`{key}` is about events, and only zones of kind \"watch\" have them");
                let hint = "for both, write a second zone with the same polygon";
                section.reading.error_at_key(node.key_place, message, Some(hint));
            }
        }
        (None, SETTLE)
    };
    section.finish(|_| None);
    Some(ZoneOptions { name: name.to_owned(), polygon: polygon?, kind, anchor, classes, dwell, settle })
}

fn outline(section: &mut Section<'_, '_>, name: &str, size: PictureSize) -> Option<Polygon> {
    let Some(node) = section.find("polygon") else {
        let hint =
            "write polygon = [[0.1, 0.5], [0.4, 0.5], [0.4, 0.9]], its corners as fractions of the picture";
        section.reading.missing(section.header, format!("zone `{name}` has no polygon"), Some(hint));
        return None;
    };
    let polygon = points::polygon(section, "polygon", node, size);
    let origin = section.reading.origin(node);
    section.record("polygon", Some(points::as_written(node)), origin);
    polygon
}

fn zone_anchor(section: &mut Section<'_, '_>) -> Anchor {
    let choices = [("foot", Anchor::Foot), ("centre", Anchor::Centre), ("overlap", Anchor::Overlap(OVERLAP))];
    let anchor = section.choice("anchor", Anchor::Foot, &choices);
    let Anchor::Overlap(_) = anchor else {
        if let Some(node) = section.find("overlap") {
            let message = "`overlap` is for anchor = \"overlap\"";
            section.reading.error_at_key(node.key_place, message, None);
        }
        return anchor;
    };
    let parse = |node: &Node| match fraction_of(node)? {
        share if share > 0.0 => Ok(share),
        _ => Err("must be more than 0: the share of a box that has to be in the zone".to_owned()),
    };
    Anchor::Overlap(section.read("overlap", OVERLAP, parse, |share| Some(fraction_json(*share))))
}

fn dwell(section: &mut Section<'_, '_>) -> Option<Duration> {
    let range = Duration::from_millis(100)..=Duration::from_secs(86_400);
    let parse = |node: &Node| match is_word(node, "off") {
        true => Ok(None),
        false => duration_of(node, &range).map(Some).map_err(|wrong| format!("{wrong}; or \"off\"")),
    };
    section.read("dwell", None, parse, |dwell| {
        Some(dwell.map_or(Json::from("off"), |dwell| Json::from(show_duration(dwell))))
    })
}

/// Labels, which must be among those of the camera.
fn classes_of_camera(section: &mut Section<'_, '_>, allowed: Option<&[String]>) -> Option<Vec<String>> {
    let labels = classes(section)?;
    let hidden: Vec<&String> =
        labels.iter().filter(|label| allowed.is_some_and(|all| !all.contains(label))).collect();
    if let (Some(first), Some(node)) = (hidden.first(), section.find("classes")) {
        let message =
            format!("`classes` names `{}`, which is not among the classes of its camera", shown_key(first));
        section.reading.error(node.place, message, Some("add it there, or leave it out here"));
    }
    Some(labels)
}

fn line(
    reading: &mut Reading,
    path: &str,
    name: &str,
    node: &Node,
    size: PictureSize,
    allowed: Option<&[String]>,
) -> Option<LineOptions> {
    let mut section = Section::new(reading, format!("{path}.line.{name}"), Some(node));
    let nodes = (section.find("from"), section.find("to"));
    let ends = match nodes {
        (Some(from), Some(to)) => points::ends(&mut section, [from, to], size),
        _ => {
            let hint = "write from = [0.2, 0.8] and to = [0.8, 0.8], as fractions of the picture";
            section.reading.missing(
                section.header,
                format!("line `{name}` needs a `from` and a `to` point"),
                Some(hint),
            );
            None
        }
    };
    for (key, node) in [("from", nodes.0), ("to", nodes.1)] {
        if let Some(node) = node {
            let origin = section.reading.origin(node);
            section.record(key, Some(points::as_written(node)), origin);
        }
    }
    let anchor =
        section.choice("anchor", Anchor::Foot, &[("foot", Anchor::Foot), ("centre", Anchor::Centre)]);
    let classes = classes_of_camera(&mut section, allowed);
    let directions =
        section.read("directions", ["in".to_owned(), "out".to_owned()], directions_of, |directions| {
            Some(Json::from(directions.to_vec()))
        });
    section.finish(|_| None);
    let [from, to] = ends?;
    Some(LineOptions { name: name.to_owned(), segment: Segment { from, to }, anchor, classes, directions })
}

fn directions_of(node: &Node) -> Result<[String; 2], Wrong> {
    let expected = "must be two names like [\"in\", \"out\"]: to the right, and to the left, as seen from `from` \
                    towards `to`";
    let Value::List(nodes) = &node.value else { return Err(expected.to_owned()) };
    let [right, left] = nodes.as_slice() else { return Err(expected.to_owned()) };
    let [right, left] = [right, left].map(|node| {
        let name = text_of(node).map_err(|_| expected.to_owned())?;
        check_name(&name).map_err(|wrong| format!("has the name `{}`, which {wrong}", shown_key(&name)))?;
        Ok::<_, Wrong>(name)
    });
    let directions = [right?, left?];
    if directions[0] == directions[1] {
        return Err("has the same name twice; the two directions need two".to_owned());
    }
    Ok(directions)
}
