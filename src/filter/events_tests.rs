//! Ways through zones and over lines, and what is told of them.

use std::collections::BTreeMap;
use std::time::Duration;

use proptest::prelude::*;

use super::{Event, Events, Parting, Where};
use crate::config::{Anchor, CameraOptions, LineOptions, Locator, ZoneKind, ZoneOptions};
use crate::metrics::EventKind;
use crate::shape::{Point, Polygon, Segment};
use crate::track::{Moment, Options, Tracked};

const SIZE: [f32; 2] = [1000.0, 500.0];

fn zone(name: &str, [x1, y1, x2, y2]: [f32; 4]) -> ZoneOptions {
    ZoneOptions {
        name: name.to_owned(),
        polygon: Polygon::new(&[[x1, y1], [x2, y1], [x2, y2], [x1, y2]]).expect("a polygon"),
        kind: ZoneKind::Watch,
        anchor: Anchor::Foot,
        classes: None,
        dwell: None,
        settle: Duration::from_millis(500),
    }
}

/// Up the middle of the picture: to the right is "in".
fn line(name: &str) -> LineOptions {
    LineOptions {
        name: name.to_owned(),
        segment: Segment { from: [0.5, 0.9], to: [0.5, 0.1] },
        anchor: Anchor::Foot,
        classes: None,
        directions: ["in".to_owned(), "out".to_owned()],
    }
}

fn camera(zones: Vec<ZoneOptions>, lines: Vec<LineOptions>) -> CameraOptions {
    CameraOptions { zones, lines, ..CameraOptions::new("gate", Locator::Csi { sensor_index: 0 }) }
}

fn labels() -> Vec<String> {
    ["person", "car"].map(str::to_owned).to_vec()
}

/// Four objects in a frame, eight tracks; forgotten after 2 s.
fn tracking() -> Options {
    Options::new(0.5, 4)
}

fn events(camera: &CameraOptions) -> Events {
    Events::new(camera, &labels(), tracking()).expect("known labels")
}

/// Somebody 40 by 100 pixels whose foot is at a point.
fn at(track_id: u64, [x, y]: Point) -> Tracked {
    let (x, y) = (x * SIZE[0], y * SIZE[1]);
    let bbox = [x - 20.0, y - 100.0, x + 20.0, y];
    Tracked { class_id: 0, score: 0.9, bbox, track_id: Some(track_id) }
}

/// What is told of one frame, in short: `0.5 enter door 7 =1`.
fn frame(events: &mut Events, at_ms: u64, objects: &[Tracked]) -> Vec<String> {
    frame_of(events, 1, at_ms, objects)
}

fn frame_of(events: &mut Events, generation: u64, at_ms: u64, objects: &[Tracked]) -> Vec<String> {
    let mut told = Vec::new();
    let at = Duration::from_millis(at_ms);
    let moment = Moment { at, generation, width: SIZE[0] as u32, height: SIZE[1] as u32 };
    events.update(moment, objects.iter().copied(), &mut |event| told.push(short(at_ms, event)));
    told
}

fn short(at_ms: u64, event: &Event<'_>) -> String {
    let place = match event.place {
        Where::Zone(name) => name.to_owned(),
        Where::Line { name, direction } => format!("{name} {direction}"),
    };
    let who = event.subject.map_or(String::new(), |subject| format!(" {}", subject.track_id));
    let stayed = event.stayed.map_or(String::new(), |stayed| format!(" {:.1}s", stayed.as_secs_f64()));
    let lost = match event.parting {
        Some(Parting::Lost) => " lost",
        Some(Parting::End) => " end",
        Some(Parting::Seen) | None => "",
    };
    let seconds = at_ms as f64 / 1e3;
    format!("{seconds:.1} {} {place}{who}{stayed}{lost} ={}", event.kind.as_str(), event.count)
}

/// A walk of one track, ten frames a second.
fn walk(events: &mut Events, from_ms: u64, points: impl IntoIterator<Item = Point>) -> Vec<String> {
    let steps = points.into_iter().zip((from_ms..).step_by(100));
    steps.flat_map(|(point, at_ms)| frame(events, at_ms, &[at(7, point)])).collect()
}

const DOOR: [f32; 4] = [0.4, 0.0, 0.6, 1.0];

#[test]
fn who_stays_long_enough_enters_dwells_and_leaves() {
    let door = ZoneOptions { dwell: Some(Duration::from_secs(1)), ..zone("door", DOOR) };
    let mut events = events(&camera(vec![door], vec![]));
    // Inside from 0.5 s on, outside from 2.5 s on.
    let x = |step: u64| if (5..25).contains(&step) { 0.5 } else { 0.2 };
    let told = walk(&mut events, 0, (0..40).map(|step| [x(step), 0.5]));
    assert_eq!(
        told,
        [
            "0.0 count door =0",
            "1.0 enter door 7 =1",
            "1.0 count door =1",
            "1.5 dwell door 7 1.0s =1",
            "3.0 leave door 7 2.0s =0",
            "3.0 count door =0",
        ]
    );
}

#[test]
fn a_box_that_trembles_or_jumps_tells_nothing() {
    let mut events = events(&camera(vec![zone("door", DOOR)], vec![line("wall")]));
    assert_eq!(walk(&mut events, 0, [[0.2, 0.5]]), ["0.0 count door =0"]);
    // Passing through in four frames.
    assert_eq!(walk(&mut events, 100, [[0.41, 0.5], [0.45, 0.5], [0.41, 0.5], [0.39, 0.5]]), [""; 0]);
    // On the edge, in and out: 5 pixels, a fifth of the box's width is 8.
    let edge = (0..101).map(|step| [if step % 2 == 0 { 0.395 } else { 0.405 }, 0.5]);
    assert_eq!(walk(&mut events, 1000, edge), [""; 0]);
    // Once in, it is in as long as it trembles.
    let told = walk(&mut events, 12_000, (0..10).map(|_| [0.41, 0.5]));
    assert_eq!(told, ["12.5 enter door 7 =1", "12.5 count door =1"]);
    let edge = (0..200).map(|step| [if step % 13 < 9 { 0.3955 } else { 0.405 }, 0.5]);
    assert_eq!(walk(&mut events, 13_000, edge), [""; 0]);
    // Away for three frames of a gap in tracking.
    let gap = (0..30).map(|step| [if step % 10 < 3 { 0.1 } else { 0.41 }, 0.5]);
    assert_eq!(walk(&mut events, 34_000, gap), [""; 0]);
    // On the line.
    let on_line = (0..100).map(|step| [if step % 2 == 0 { 0.495 } else { 0.505 }, 0.5]);
    assert_eq!(walk(&mut events, 38_000, on_line), [""; 0]);
}

#[test]
fn who_is_not_seen_any_more_leaves_lost_after_a_while() {
    let mut events = events(&camera(vec![zone("door", DOOR)], vec![]));
    walk(&mut events, 0, (0..11).map(|_| [0.5, 0.5]));
    // Seen last at 1.0 s.
    assert_eq!(frame(&mut events, 3000, &[]), [""; 0]);
    assert_eq!(frame(&mut events, 3100, &[]), ["3.1 leave door 7 1.0s lost =0", "3.1 count door =0"]);
    assert_eq!(frame(&mut events, 9000, &[]), [""; 0]);
    assert!(events.is_at_rest());
}

#[test]
fn when_nobody_looks_any_more_everybody_leaves_and_nobody_crosses() {
    let mut events = events(&camera(vec![zone("door", DOOR)], vec![line("wall")]));
    let end = |events: &mut Events| {
        let mut told = Vec::new();
        events.end(&mut |event| told.push(short(1000, event)));
        told
    };
    assert_eq!(end(&mut events), [""; 0], "nothing was looked at yet");
    // Right behind the line at last: whoever is lost there has gone through.
    walk(&mut events, 0, (0..11).map(|step| [if step < 10 { 0.49 } else { 0.503 }, 0.5]));
    assert_eq!(end(&mut events), ["1.0 leave door 7 1.0s end =0", "1.0 count door =0"]);
    assert!(events.is_at_rest());
    assert_eq!(end(&mut events), [""; 0], "once is enough");
}

#[test]
fn crossings_have_a_direction_and_a_count() {
    let mut events = events(&camera(vec![], vec![line("wall")]));
    let to_right = || (0..9).map(|step| [0.4 + 0.025 * step as f32, 0.5]);
    let to_left = || (0..9).map(|step| [0.6 - 0.025 * step as f32, 0.5]);
    // Beyond the margin of 8 pixels.
    assert_eq!(walk(&mut events, 0, to_right()), ["0.5 cross wall in 7 =1"]);
    assert_eq!(walk(&mut events, 1000, to_left()), ["1.5 cross wall out 7 =1"]);
    assert_eq!(walk(&mut events, 2000, to_right()), ["2.5 cross wall in 7 =2"]);
    // In one step, as at one frame a second.
    assert_eq!(walk(&mut events, 3000, [[0.9, 0.5], [0.1, 0.6]]), ["3.1 cross wall out 7 =2"]);
    // Round the upper end and back through the line.
    let round = [[0.1, 0.05], [0.9, 0.05], [0.9, 0.5]];
    assert_eq!(walk(&mut events, 4000, round), [""; 0]);
    assert_eq!(walk(&mut events, 5000, [[0.1, 0.5]]), ["5.0 cross wall out 7 =3"]);
    // There and back within the margin.
    assert_eq!(walk(&mut events, 6000, [[0.49, 0.5], [0.505, 0.5], [0.49, 0.5], [0.3, 0.5]]), [""; 0]);
}

#[test]
fn who_is_lost_right_behind_the_line_has_gone_through_the_door() {
    let mut events = events(&camera(vec![], vec![line("door")]));
    walk(&mut events, 0, [[0.4, 0.5], [0.49, 0.5], [0.503, 0.5]]);
    assert_eq!(frame(&mut events, 5000, &[]), ["5.0 cross door in 7 =1"]);
    // Not who turns back and is lost on the side they came from, nor who was only ever there.
    walk(&mut events, 6000, [[0.4, 0.5], [0.503, 0.5], [0.498, 0.5]]);
    assert_eq!(frame(&mut events, 9000, &[]), [""; 0]);
    walk(&mut events, 10_000, [[0.503, 0.5]]);
    assert_eq!(frame(&mut events, 13_000, &[]), [""; 0]);
}

#[test]
fn a_zone_is_about_its_labels_and_counts_everybody() {
    let cars = ZoneOptions { classes: Some(vec!["car".to_owned()]), ..zone("cars", DOOR) };
    let mut events = events(&camera(vec![zone("all", DOOR), cars], vec![]));
    let car = |id, point| Tracked { class_id: 1, ..at(id, point) };
    let objects = [at(1, [0.5, 0.5]), car(2, [0.5, 0.9]), car(3, [0.45, 0.3])];
    assert_eq!(frame(&mut events, 0, &objects), ["0.0 count all =0", "0.0 count cars =0"]);
    assert_eq!(
        frame(&mut events, 600, &objects),
        [
            "0.6 enter all 1 =1",
            "0.6 enter all 2 =2",
            "0.6 enter cars 2 =1",
            "0.6 enter all 3 =3",
            "0.6 enter cars 3 =2",
            "0.6 count all =3",
            "0.6 count cars =2",
        ]
    );
    // A car that is called a person for some frames is still in the cars' zone; objects without a number are nobody.
    let nobody = Tracked { track_id: None, ..at(0, [0.5, 0.5]) };
    let flicker = [at(1, [0.5, 0.5]), at(2, [0.5, 0.9]), car(3, [0.45, 0.3]), nobody];
    assert_eq!(frame(&mut events, 1500, &flicker), [""; 0]);
}

#[test]
fn a_new_opening_tells_where_it_stands() {
    let camera = camera(vec![zone("door", DOOR)], vec![]);
    let mut lasting = Events::new(
        &camera,
        &labels(),
        Options { across_restart: Some(Duration::from_secs(10)), ..tracking() },
    )
    .expect("known labels");
    walk(&mut lasting, 0, (0..11).map(|_| [0.5, 0.5]));
    // The tracker keeps who they are, and nobody is lost although the gap is longer than its memory.
    assert_eq!(frame_of(&mut lasting, 2, 9000, &[]), ["9.0 count door =1"]);
    assert_eq!(frame_of(&mut lasting, 2, 9100, &[at(7, [0.5, 0.5])]), [""; 0]);
    // Too long a gap.
    let told = frame_of(&mut lasting, 3, 20_000, &[at(8, [0.5, 0.5])]);
    assert_eq!(told, ["20.0 leave door 7 9.1s lost =0", "20.0 count door =0"]);

    let mut forgetful = events(&camera);
    walk(&mut forgetful, 0, (0..11).map(|_| [0.5, 0.5]));
    let told = frame_of(&mut forgetful, 2, 1500, &[at(8, [0.5, 0.5])]);
    assert_eq!(told, ["1.5 leave door 7 1.0s lost =0", "1.5 count door =0"]);
}

#[test]
fn a_reload_goes_on_where_nothing_changed_and_begins_anew_elsewhere() {
    let before = camera(vec![zone("door", DOOR), zone("yard", [0.0, 0.0, 1.0, 1.0])], vec![line("wall")]);
    let mut old = events(&before);
    walk(&mut old, 0, (0..11).map(|step| [if step < 5 { 0.45 } else { 0.55 }, 0.5]));
    // The yard is smaller, and there is a new zone before all others.
    let zones = vec![zone("a-new-one", DOOR), zone("door", DOOR), zone("yard", [0.0, 0.0, 0.9, 1.0])];
    let mut new = events(&camera(zones, vec![line("wall")]));
    let mut told = Vec::new();
    new.inherit(&mut old.clone(), &mut |event| told.push(short(1000, event)));
    // The yard as it was is no more: who has entered it leaves it.
    assert_eq!(told, ["1.0 leave yard 7 1.0s end =0", "1.0 count yard =0"]);
    let told = frame(&mut new, 1100, &[at(7, [0.55, 0.5])]);
    assert_eq!(told, ["1.1 count a-new-one =0", "1.1 count yard =0"]);
    let told = frame(&mut new, 1700, &[at(7, [0.45, 0.5])]);
    assert_eq!(
        told,
        [
            "1.7 enter a-new-one 7 =1",
            "1.7 enter yard 7 =1",
            "1.7 cross wall out 7 =1",
            "1.7 count a-new-one =1",
            "1.7 count yard =1",
        ]
    );
    let told = frame(&mut new, 9000, &[]);
    assert_eq!(told.iter().filter(|told| told.contains("leave")).count(), 3, "{told:?}");
    // Into one with less room: nobody who is not remembered is counted.
    walk(&mut old, 1200, (0..2).map(|_| [0.55, 0.5]));
    let mut small = Events::new(&before, &labels(), Options::new(0.5, 0)).expect("known");
    let mut told = Vec::new();
    small.inherit(&mut old, &mut |event| told.push(short(1400, event)));
    assert_eq!(told, ["1.4 leave door 7 1.3s end =0", "1.4 leave yard 7 1.3s end =0"]);
    assert!(old.is_at_rest());
    assert_eq!(frame(&mut small, 1500, &[]), ["1.5 count door =0", "1.5 count yard =0"]);
}

#[test]
fn without_room_the_one_not_seen_for_longest_makes_it() {
    let camera = camera(vec![zone("door", DOOR)], vec![]);
    let mut events = Events::new(&camera, &labels(), Options::new(0.5, 1)).expect("known");
    let objects = [at(1, [0.5, 0.5]), at(2, [0.5, 0.6])];
    frame(&mut events, 0, &objects);
    frame(&mut events, 500, &objects);
    frame(&mut events, 600, &objects[1..]);
    // Track 1 goes; with two newcomers the second finds no room and is nobody.
    let told = frame(&mut events, 700, &[objects[1], at(3, [0.5, 0.7]), at(4, [0.5, 0.8])]);
    assert_eq!(told, ["0.7 leave door 1 0.5s lost =1", "0.7 count door =1"]);
    assert_eq!(frame(&mut events, 1300, &[objects[1], at(3, [0.5, 0.7])])[0], "1.3 enter door 3 =2");
}

#[test]
fn unknown_labels_of_zones_and_lines_are_told_with_their_keys() {
    let cats = || Some(vec!["cat".to_owned()]);
    let camera = camera(
        vec![ZoneOptions { classes: cats(), ..zone("door", DOOR) }],
        vec![LineOptions { classes: cats(), ..line("wall") }],
    );
    let unknown = Events::new(&camera, &labels(), tracking()).expect_err("no cats");
    let keys: Vec<_> = unknown.iter().map(|unknown| unknown.key.as_str()).collect();
    assert_eq!(keys, ["zone.door.classes", "line.wall.classes"]);
}

proptest! {
    /// Random walks with gaps, of more tracks than there is room for.
    #[test]
    fn what_is_told_always_adds_up(
        frames in prop::collection::vec(prop::collection::vec((1u64..14, 0.0f32..1.0, 0.0f32..1.0), 0..10), 1..80),
        settle_ms in prop::sample::select(vec![0u64, 300]),
    ) {
        let settle = Duration::from_millis(settle_ms);
        let zones = vec![
            ZoneOptions { settle, dwell: Some(Duration::from_millis(400)), ..zone("a", DOOR) },
            ZoneOptions { settle, anchor: Anchor::Overlap(0.5), ..zone("b", [0.5, 0.3, 1.0, 1.0]) },
        ];
        let mut events = events(&camera(zones, vec![line("wall")]));
        let memory = events.memory();
        // Who is in which zone, what was said of its count, and crossings by direction.
        let mut inside: BTreeMap<(String, u64), bool> = BTreeMap::new();
        let mut said: BTreeMap<String, u64> = BTreeMap::new();
        let mut crossings: BTreeMap<String, u64> = BTreeMap::new();
        let mut check = |event: &Event<'_>| {
            let name = match event.place { Where::Zone(name) => name, Where::Line { direction, .. } => direction };
            let in_zone = inside.iter().filter(|((zone, _), is_in)| zone == name && **is_in).count() as u64;
            match (event.kind, event.subject) {
                (EventKind::Count, None) => {
                    assert_eq!(event.count, in_zone);
                    assert_ne!(said.insert(name.to_owned(), event.count), Some(event.count));
                }
                (EventKind::Cross, Some(_)) => {
                    let count = crossings.entry(name.to_owned()).or_default();
                    *count += 1;
                    assert_eq!(event.count, *count);
                }
                (kind, Some(subject)) => {
                    let is_in = inside.entry((name.to_owned(), subject.track_id)).or_default();
                    let expected = if kind == EventKind::Enter { 1 } else { 0 };
                    assert_eq!(*is_in, kind != EventKind::Enter, "{kind:?}");
                    *is_in = kind != EventKind::Leave;
                    assert_eq!(event.count, in_zone + expected - u64::from(kind == EventKind::Leave));
                }
                (kind, None) => panic!("{kind:?} of nobody"),
            }
        };
        let mut at_ms = 0;
        for objects in &frames {
            let mut objects: Vec<Tracked> = objects.iter().map(|&(id, x, y)| at(id, [x, y])).collect();
            objects.sort_by_key(|object| object.track_id);
            objects.dedup_by_key(|object| object.track_id);
            let moment = Moment { at: Duration::from_millis(at_ms), generation: 1, width: 1000, height: 500 };
            events.update(moment, objects.iter().copied(), &mut check);
            at_ms += 150;
        }
        let moment = Moment { at: Duration::from_secs(100), generation: 1, width: 1000, height: 500 };
        events.update(moment, std::iter::empty(), &mut check);
        prop_assert!(events.is_at_rest());
        prop_assert_eq!(events.memory(), memory, "a table grew");
        prop_assert!(inside.values().all(|is_in| !is_in), "somebody is in a zone for ever");
        prop_assert!(said.values().all(|&count| count == 0));
        let difference = crossings.get("in").copied().unwrap_or(0).abs_diff(crossings.get("out").copied().unwrap_or(0));
        prop_assert!(difference <= 14 * frames.len() as u64);
    }
}
