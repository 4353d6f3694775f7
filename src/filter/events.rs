//! What happens in the zones and at the lines of one camera.
//!
//! State is kept for each track and each zone and line, in tables that are allocated once: their size is the number of
//! tracks that are remembered, and a track that finds no room takes the place of the one that was not seen for longest.

use std::time::Duration;

use super::line_watch::{LineWatch, Way};
use super::place::Placed;
use super::zone_watch::{Stay, ZoneWatch};
use super::{Unknown, UnknownLabels, placed};
use crate::config::{CameraOptions, LineOptions, ZoneKind, ZoneOptions};
use crate::metrics::EventKind;
use crate::track::{Moment, Options, Tracked};

/// How far a box may be on the wrong side and still be taken for trembling, as a share of its shorter side.
pub(super) const MARGIN: f32 = 0.2;

/// What a zone or a line has to tell.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) enum Told {
    Enter,
    Leave {
        stayed: Duration,
        why: Parting,
    },
    Dwell(Duration),
    /// Index of the direction.
    Cross(usize),
}

/// Why an object is in a zone no more.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Parting {
    /// It was seen to go.
    Seen,
    /// It was not seen any more, and may not have gone.
    Lost,
    /// Nobody looks any more: the input has ended, or the camera, the zone or the model is another one or none.
    End,
}

/// Something has happened.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Event<'a> {
    /// What.
    pub kind: EventKind,
    /// Where.
    pub place: Where<'a>,
    /// To whom; `None` for a count.
    pub subject: Option<Subject>,
    /// Objects in the zone after it; crossings of the line in this direction, this one included.
    pub count: u64,
    /// How long the object has been in the zone; for one that leaves, until it began to.
    pub stayed: Option<Duration>,
    /// Of an object that leaves: why.
    pub parting: Option<Parting>,
}

/// Where something has happened.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Where<'a> {
    /// In a zone of this name.
    Zone(&'a str),
    /// At a line.
    Line {
        /// Its name.
        name: &'a str,
        /// What the configuration calls this direction.
        direction: &'a str,
    },
}

/// An object to which something has happened.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Subject {
    /// Its track.
    pub track_id: u64,
    /// Index into the model's labels.
    pub class_id: u32,
    /// Its box when it was seen last, in pixels of the frame it was seen in.
    pub bbox: [f32; 4],
}

impl<'a> Event<'a> {
    fn new(told: Told, place: Where<'a>, subject: Subject, count: u64) -> Self {
        let event =
            |kind, stayed, parting| Self { kind, place, subject: Some(subject), count, stayed, parting };
        match told {
            Told::Enter => event(EventKind::Enter, None, None),
            Told::Leave { stayed, why } => event(EventKind::Leave, Some(stayed), Some(why)),
            Told::Dwell(stayed) => event(EventKind::Dwell, Some(stayed), None),
            Told::Cross(_) => event(EventKind::Cross, None, None),
        }
    }

    fn of_zone(zone: &'a ZoneOptions, told: Told, subject: Subject, count: u64) -> Self {
        Self::new(told, Where::Zone(&zone.name), subject, count)
    }

    fn of_line(line: &'a LineOptions, told: Told, subject: Subject, count: u64) -> Self {
        let direction = if let Told::Cross(index) = told { &line.directions[index] } else { "" };
        Self::new(told, Where::Line { name: &line.name, direction }, subject, count)
    }
}

#[derive(Debug, Clone)]
struct Zone {
    options: ZoneOptions,
    watch: ZoneWatch,
    /// What was told of its count last.
    told: Option<u64>,
}

#[derive(Debug, Clone)]
struct Line {
    options: LineOptions,
    watch: LineWatch,
}

#[derive(Debug, Clone, Copy)]
struct Track {
    subject: Subject,
    /// Its row in the tables.
    row: usize,
    seen_at: Duration,
}

/// The zones and lines of one camera that tell, and everybody on their way through them.
#[derive(Debug, Clone)]
pub struct Events {
    zones: Vec<Zone>,
    lines: Vec<Line>,
    /// By track id.
    tracks: Vec<Track>,
    tracks_max: usize,
    /// Row by row, one for each zone.
    stays: Vec<Stay>,
    /// Row by row, one for each line.
    ways: Vec<Way>,
    free_rows: Vec<usize>,
    /// How the objects are tracked.
    tracking: Options,
    last: Option<Moment>,
}

impl Events {
    /// What a camera asks for, of objects that are tracked so.
    ///
    /// # Errors
    /// Every label that the model does not have.
    pub fn new(
        camera: &CameraOptions,
        labels: &[String],
        tracking: Options,
    ) -> Result<Self, Vec<UnknownLabels>> {
        let mut unknown = Unknown::default();
        let key = |kind: &str, name: &str| format!("{kind}.{name}.classes");
        let (mut zones, mut lines) = (Vec::new(), Vec::new());
        for options in camera.zones.iter().filter(|zone| zone.kind == ZoneKind::Watch) {
            let watch = unknown.all(&key("zone", &options.name), ZoneWatch::new(options, labels));
            zones.extend(watch.map(|watch| Zone { options: options.clone(), watch, told: None }));
        }
        for options in &camera.lines {
            let watch = unknown.all(&key("line", &options.name), LineWatch::new(options, labels));
            lines.extend(watch.map(|watch| Line { options: options.clone(), watch }));
        }
        if !unknown.0.is_empty() {
            return Err(unknown.0);
        }
        let tracks_max = if zones.is_empty() && lines.is_empty() { 0 } else { tracking.tracks_max() };
        Ok(Self {
            stays: vec![Stay::default(); tracks_max * zones.len()],
            ways: vec![Way::default(); tracks_max * lines.len()],
            tracks: Vec::with_capacity(tracks_max),
            free_rows: (0..tracks_max).rev().collect(),
            zones,
            lines,
            tracks_max,
            tracking,
            last: None,
        })
    }

    /// Whether a camera asks for events.
    pub fn are_wanted(camera: &CameraOptions) -> bool {
        !camera.lines.is_empty() || camera.zones.iter().any(|zone| zone.kind == ZoneKind::Watch)
    }

    /// Bytes that the tables of a camera take: the line for the memory budget.
    pub fn buffer_bytes(camera: &CameraOptions, max_objects: usize) -> usize {
        let tracks_max = Options::new(1.0, max_objects).tracks_max();
        if !Self::are_wanted(camera) {
            return 0;
        }
        let zones = camera.zones.iter().filter(|zone| zone.kind == ZoneKind::Watch).count();
        let row = zones * size_of::<Stay>() + camera.lines.len() * size_of::<Way>();
        tracks_max * (row + size_of::<Track>() + size_of::<usize>())
    }

    /// Nothing tells.
    pub fn is_empty(&self) -> bool {
        self.zones.is_empty() && self.lines.is_empty()
    }

    /// Goes on where `other` stopped, in the zones and at the lines that are the same in both. Whoever is in another of
    /// its zones, or finds no room, leaves it, and will enter those that are new. The labels of both must be the same.
    pub fn inherit(&mut self, other: &mut Self, tell: &mut dyn FnMut(&Event<'_>)) {
        self.last = other.last;
        let zones = counterparts(&self.zones, &other.zones, |zone, old| zone.options == old.options);
        let lines = counterparts(&self.lines, &other.lines, |line, old| line.options == old.options);
        for (line, old) in self.lines.iter_mut().zip(&lines) {
            if let Some(old) = old {
                line.watch.inherit(&other.lines[*old].watch);
            }
        }
        let (old_zones, old_lines) = (other.zones.len(), other.lines.len());
        for track in &other.tracks {
            let Some(row) = self.free_rows.pop() else { break };
            for (index, old) in zones.iter().enumerate() {
                let stay = old.map(|old| std::mem::take(&mut other.stays[track.row * old_zones + old]));
                let stay = stay.unwrap_or_default();
                self.zones[index].watch.count += u64::from(stay.is_in());
                self.stays[row * self.zones.len() + index] = stay;
            }
            for (index, old) in lines.iter().enumerate() {
                let way = old.map(|old| other.ways[track.row * old_lines + old]).unwrap_or_default();
                self.ways[row * self.lines.len() + index] = way;
            }
            self.tracks.push(Track { row, ..*track });
        }
        for (zone, old) in self.zones.iter_mut().zip(&zones) {
            zone.told = old.and_then(|old| other.zones[old].told);
        }
        other.lose_all(Parting::End, tell);
        // What is the same in both tells its count with the next frame.
        for &old in zones.iter().flatten() {
            let Zone { watch, told, .. } = &mut other.zones[old];
            *told = Some(watch.count);
        }
        other.tell_counts(tell);
    }

    /// Takes in the objects of the camera's next frame that are published, and tells what has happened: of each object
    /// in its order, then of those that are lost, then how many are in zones where that has changed.
    pub fn update(
        &mut self,
        moment: Moment,
        objects: impl Iterator<Item = Tracked>,
        tell: &mut dyn FnMut(&Event<'_>),
    ) {
        if self.is_empty() {
            return;
        }
        if let Some(last) = self.last.replace(moment)
            && last.generation != moment.generation
        {
            self.reopened(moment.at.saturating_sub(last.at), tell);
        }
        for object in objects {
            let Some(track_id) = object.track_id else { continue };
            let subject = Subject { track_id, class_id: object.class_id, bbox: object.bbox };
            if let Some(row) = self.row_of(subject, moment.at, tell) {
                self.see(subject, row, &placed(&object, [moment.width, moment.height]), moment.at, tell);
            }
        }
        self.forget(moment.at, tell);
        self.tell_counts(tell);
    }

    /// Nobody looks any more: whoever is in a zone leaves it, and its count is told where that has changed. Who was last
    /// seen on a line is not taken to have crossed it.
    pub fn end(&mut self, tell: &mut dyn FnMut(&Event<'_>)) {
        self.lose_all(Parting::End, tell);
        self.tell_counts(tell);
    }

    fn lose_all(&mut self, why: Parting, tell: &mut dyn FnMut(&Event<'_>)) {
        while !self.tracks.is_empty() {
            self.lose(0, why, tell);
        }
    }

    fn tell_counts(&mut self, tell: &mut dyn FnMut(&Event<'_>)) {
        for Zone { options, watch, told } in &mut self.zones {
            // A zone that nobody has looked at yet has nothing to tell.
            if self.last.is_some() && told.replace(watch.count) != Some(watch.count) {
                let place = Where::Zone(&options.name);
                let (kind, count) = (EventKind::Count, watch.count);
                tell(&Event { kind, place, subject: None, count, stayed: None, parting: None });
            }
        }
    }

    /// The frame is the first of a new opening.
    fn reopened(&mut self, gap: Duration, tell: &mut dyn FnMut(&Event<'_>)) {
        if self.tracking.across_restart.is_some_and(|limit| gap <= limit) {
            // Nobody could be seen meanwhile.
            self.tracks.iter_mut().for_each(|track| track.seen_at += gap);
        } else {
            // The tracker begins anew, and none of its numbers comes again.
            self.lose_all(Parting::Lost, tell);
        }
        // Readers that begin with a new opening learn where it stands.
        self.zones.iter_mut().for_each(|zone| zone.told = None);
    }

    /// The row of a track, which is a new one for a new track. `None`: all rows are of objects of this frame.
    fn row_of(&mut self, subject: Subject, at: Duration, tell: &mut dyn FnMut(&Event<'_>)) -> Option<usize> {
        let found = self.tracks.binary_search_by_key(&subject.track_id, |track| track.subject.track_id);
        let place = match found {
            Ok(place) => {
                let track = &mut self.tracks[place];
                (track.subject, track.seen_at) = (subject, at);
                return Some(track.row);
            }
            Err(place) if self.tracks.len() < self.tracks_max => place,
            Err(_) => {
                let unseen = self.tracks.iter().enumerate().filter(|(_, track)| track.seen_at < at);
                let (oldest, _) = unseen.min_by_key(|(_, track)| track.seen_at)?;
                self.lose(oldest, Parting::Lost, tell);
                self.tracks.partition_point(|track| track.subject.track_id < subject.track_id)
            }
        };
        let row = self.free_rows.pop()?;
        let (zones, lines) = (self.zones.len(), self.lines.len());
        self.stays[row * zones..(row + 1) * zones].fill(Stay::default());
        self.ways[row * lines..(row + 1) * lines].fill(Way::default());
        self.tracks.insert(place, Track { subject, row, seen_at: at });
        Some(row)
    }

    fn see(
        &mut self,
        subject: Subject,
        row: usize,
        placed: &Placed,
        at: Duration,
        tell: &mut dyn FnMut(&Event<'_>),
    ) {
        let Self { zones, lines, stays, ways, .. } = self;
        let (zone_count, line_count) = (zones.len(), lines.len());
        for (Zone { options, watch, .. }, stay) in zones.iter_mut().zip(&mut stays[row * zone_count..]) {
            watch.see(stay, subject.class_id, placed, at, &mut |told, count| {
                tell(&Event::of_zone(options, told, subject, count));
            });
        }
        for (Line { options, watch }, way) in lines.iter_mut().zip(&mut ways[row * line_count..]) {
            watch.see(way, options, subject.class_id, placed, &mut |told, count| {
                tell(&Event::of_line(options, told, subject, count));
            });
        }
    }

    /// Tells of those who were not seen for too long.
    fn forget(&mut self, at: Duration, tell: &mut dyn FnMut(&Event<'_>)) {
        let mut place = 0;
        while let Some(track) = self.tracks.get(place) {
            if at.saturating_sub(track.seen_at) > self.tracking.keep {
                self.lose(place, Parting::Lost, tell);
            } else {
                place += 1;
            }
        }
    }

    fn lose(&mut self, place: usize, why: Parting, tell: &mut dyn FnMut(&Event<'_>)) {
        let Track { subject, row, seen_at } = self.tracks.remove(place);
        let Self { zones, lines, stays, ways, .. } = self;
        let (zone_count, line_count) = (zones.len(), lines.len());
        for (Zone { options, watch, .. }, stay) in zones.iter_mut().zip(&mut stays[row * zone_count..]) {
            watch.lose(stay, seen_at, why, &mut |told, count| {
                tell(&Event::of_zone(options, told, subject, count));
            });
        }
        for (Line { options, watch }, way) in lines.iter_mut().zip(&mut ways[row * line_count..]) {
            if why == Parting::End {
                continue;
            }
            watch.lose(way, options, &mut |told, count| {
                tell(&Event::of_line(options, told, subject, count));
            });
        }
        self.free_rows.push(row);
    }
}

#[cfg(test)]
impl Events {
    /// Nobody is remembered, and all rows are free.
    pub(super) fn is_at_rest(&self) -> bool {
        self.tracks.is_empty() && self.free_rows.len() == self.tracks_max
    }

    /// What the tables hold now, in pieces.
    pub(super) fn memory(&self) -> [usize; 4] {
        [self.tracks.capacity(), self.free_rows.capacity(), self.stays.len(), self.ways.len()]
    }
}

/// Of each of `new`, the place of the one of `old` that is the same.
fn counterparts<T>(new: &[T], old: &[T], same: impl Fn(&T, &T) -> bool) -> Vec<Option<usize>> {
    new.iter().map(|new| old.iter().position(|old| same(new, old))).collect()
}
