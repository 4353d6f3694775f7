//! The stages of the association, and the buffers for them, which trackers of several cameras share.
//!
//! | | objects | tracks | overlap at least | of a lost track |
//! |---|---|---|---|---|
//! | 1 | high score | all | IoU x likeness x score 0.1 | 0.1, later 0.2 |
//! | 2 | low score | all | IoU x likeness 0.2 | 0.45 |
//! | 3 | high score | all, if missed once at most | widened IoU x likeness 0.2 | 0.2 |
//! | 4 | high score, any class | seen, lost | IoU x likeness 0.7 | 0.7 |
//!
//! Each takes what the ones before it left. 1 and 2 are the paper's, which asks for 0.2 and 0.5; here the track of a
//! moment ago may have less, and one that is lost needs the paper's: a guess where somebody is, and a clue that shows
//! little of anybody, together prove too much. It needs the more the longer it has been lost. What was seen once takes
//! part from the first stage on (the paper gives it what all others leave): at a few frames a second whoever came into
//! the picture would else give the second box to somebody who has left.
//!
//! In 3 both boxes are widened on all sides by what the filter does not know about the centre, beyond what it never
//! knows (Yang et al., WACV 2023, widen by a constant): at a few frames a second nobody's boxes overlap from frame to
//! frame.
//!
//! Likeness is of heights, which tell people apart who stand at one place one after the other: the lower by the greater
//! (Yang et al., AAAI 2024). In 3, where the place says little, it falls off as a normal distribution of the ratio: those
//! who come where somebody has just left are rarely as tall as they. Who was seen once may still be coming into the
//! picture, so there heights say nothing.
//!
//! Where two tracks compete for one box, the one that is long lost, or that has just begun, has the weaker claim: what
//! a pair gains is worth less, while the limits stay the same. Without that a track that was lost seconds ago takes the
//! box of one that was seen a moment ago where its guess lies a little better.
//!
//! The paper's code also deletes the younger of a seen and a lost track that lie on each other. That is left out: it
//! deletes whoever is hidden behind somebody else.
//!
//! The figures were found on scenes with truth; `tests/tracking` reports them on others, and on real clips.

use std::time::Duration;

use super::assignment::Assignment;
use super::sweep::Sweep;
use super::{Options, Standing, Track, Tracked};

/// No track: the object is of low score, or beyond what the workspace holds.
pub(super) const NOTHING: u32 = u32::MAX;
/// No track explains the object.
pub(super) const NEW: u32 = u32::MAX - 1;

/// Vagueness that widens nothing, as a share of the height.
const USUAL_DEVIATION: f32 = 0.15;
/// Boxes are widened by at most this share of the height,
const WIDENED_MAX: f32 = 1.0;
/// and by at most this share of it for each second between two frames: nobody is faster.
const WIDENED_PER_S: f32 = 1.5;
/// Boxes are not widened for tracks that were not seen for more intervals than this.
const WIDENED_INTERVALS: f32 = 2.5;

/// A claim is weaker by this share after all the time that a lost track is remembered,
const LOST_CLAIM: f32 = 0.6;
/// and by this share in the moment when the track begins,
const YOUNG_CLAIM: f32 = 0.2;
/// for so long.
const YOUNG_S: f32 = 1.0;
/// Deviation of the logarithm of a height from one frame to the next but one, and from one to the next.
const HEIGHT_LOST: f32 = 0.2;
const HEIGHT_SEEN: f32 = 0.4;

/// Which tracks and objects a stage compares, and how.
#[derive(Clone, Copy)]
struct Stage {
    /// Cost below which a pair is possible, 0..=1.
    limit: f32,
    /// The same for a track that has just been lost, and for one that is about to be forgotten.
    lost_limits: [f32; 2],
    /// The cost is `1 - overlap x score`, not `1 - overlap`.
    weighs_score: bool,
    is_low: bool,
    is_widened: bool,
    /// Objects of any class, for tracks that are known to be somebody.
    any_class: bool,
}

const NO_STAGE: Stage = Stage {
    limit: 0.0,
    lost_limits: [0.0; 2],
    weighs_score: false,
    is_low: false,
    is_widened: false,
    any_class: false,
};

const STAGES: [Stage; 4] = [
    Stage { limit: 0.9, lost_limits: [0.9, 0.8], weighs_score: true, ..NO_STAGE },
    Stage { limit: 0.8, lost_limits: [0.55; 2], is_low: true, ..NO_STAGE },
    Stage { limit: 0.8, lost_limits: [0.8; 2], is_widened: true, ..NO_STAGE },
    Stage { limit: 0.3, lost_limits: [0.3; 2], any_class: true, ..NO_STAGE },
];

impl Stage {
    fn takes(&self, standing: Standing) -> bool {
        !self.any_class || standing != Standing::Tentative
    }

    /// Cost below which a pair with a track is possible that has been lost for this share of the time it is remembered.
    fn limit_of(&self, standing: Standing, lost_share: f32) -> f32 {
        let [early, late] = self.lost_limits;
        match standing {
            Standing::Lost => early + (late - early) * lost_share,
            Standing::Seen | Standing::Tentative => self.limit,
        }
    }

    fn cost(&self, track: &Track, widened_by: f32, object: &Tracked) -> f32 {
        if !self.any_class && track.class_id != object.class_id {
            return f32::INFINITY;
        }
        let overlap = match self.is_widened {
            true => iou(widened(track.bbox, widened_by), widened(object.bbox, widened_by)),
            false => iou(track.bbox, object.bbox),
        };
        if overlap == 0.0 {
            return 1.0;
        }
        let overlap = overlap * self.likeness(track, object.bbox[3] - object.bbox[1]);
        1.0 - if self.weighs_score { overlap * object.score.min(1.0) } else { overlap }
    }

    /// How well the height of a box is the track's, 0..=1.
    fn likeness(&self, track: &Track, height: f32) -> f32 {
        let between = |a: f32, b: f32| (a.min(b) / a.max(b)).max(f32::MIN_POSITIVE);
        let normal = |deviation: f32| {
            let away = between(track.seen_height, height).ln() / deviation;
            (-0.5 * away * away).exp()
        };
        match track.standing {
            _ if !self.is_widened => between(track.bbox[3] - track.bbox[1], height),
            Standing::Tentative => 1.0,
            Standing::Seen => normal(HEIGHT_SEEN),
            Standing::Lost => normal(HEIGHT_LOST),
        }
    }
}

/// When a frame is, and how long after the one before it.
pub(super) struct Now {
    pub at: Duration,
    pub interval: Duration,
}

impl Now {
    /// For which share of the time that it is remembered a track was lost before this frame, 0..=1.
    fn lost_share(&self, track: &Track, options: &Options) -> f32 {
        if track.standing != Standing::Lost {
            return 0.0;
        }
        let lost = self.at.saturating_sub(track.seen_at).saturating_sub(self.interval);
        (lost.as_secs_f32() / options.keep.as_secs_f32().max(f32::MIN_POSITIVE)).min(1.0)
    }

    /// What a pair with the track is worth, beside one with a track that was seen in the last frame and long before.
    fn claim(&self, track: &Track, lost_share: f32) -> f32 {
        let age_s = self.at.saturating_sub(track.born_at).as_secs_f32();
        let youth = (1.0 - age_s / YOUNG_S).max(0.0);
        (1.0 - LOST_CLAIM * lost_share) * (1.0 - YOUNG_CLAIM * youth)
    }
}

/// Buffers for one frame. One serves all cameras of a thread; everything is allocated in `new`.
#[derive(Debug)]
pub struct Workspace {
    tracks_max: usize,
    objects_max: usize,
    sweep: Sweep,
    assignment: Assignment,
    /// By object: the place of its track, [`NEW`] or [`NOTHING`].
    track_of: Vec<u32>,
    /// By track: whether it has its object.
    is_served: Vec<bool>,
    /// Tracks and objects of the stage.
    rows: Vec<u32>,
    columns: Vec<u32>,
}

impl Workspace {
    /// For frames of at most so many objects.
    pub fn new(max_objects: usize) -> Self {
        let (tracks_max, objects_max) = (max_objects.saturating_mul(2), max_objects);
        Self {
            tracks_max,
            objects_max,
            sweep: Sweep::new(objects_max),
            assignment: Assignment::new(tracks_max, objects_max),
            track_of: Vec::with_capacity(objects_max),
            is_served: Vec::with_capacity(tracks_max),
            rows: Vec::with_capacity(tracks_max),
            columns: Vec::with_capacity(objects_max),
        }
    }

    /// Bytes of the buffers: the line for the memory budget.
    pub fn buffer_bytes(max_objects: usize) -> usize {
        let (tracks_max, objects_max) = (max_objects.saturating_mul(2), max_objects);
        Sweep::buffer_bytes(objects_max)
            + Assignment::buffer_bytes(tracks_max, objects_max)
            + 2 * objects_max * size_of::<u32>()
            + tracks_max * (size_of::<u32>() + size_of::<bool>())
    }

    /// The objects that are looked at.
    pub(super) fn begin(&mut self, options: &Options, tracks: &[Track], objects: &[Tracked]) {
        self.is_served.clear();
        self.is_served.resize(tracks.len().min(self.tracks_max), false);
        self.track_of.clear();
        let objects = objects.iter().take(self.objects_max);
        self.track_of.extend(objects.map(|object| {
            if object.score >= options.high_score && is_box(object.bbox) { NEW } else { NOTHING }
        }));
    }

    /// Gives objects to tracks and corrects those.
    pub(super) fn associate(
        &mut self,
        options: &Options,
        tracks: &mut [Track],
        objects: &[Tracked],
        now: &Now,
    ) {
        for stage in &STAGES {
            self.choose(stage, options, tracks, objects);
            if self.rows.is_empty() || self.columns.is_empty() {
                continue;
            }
            self.solve(stage, options, tracks, objects, now);
            for (row, &place) in self.rows.iter().enumerate() {
                let Some(column) = self.assignment.column_of(row) else { continue };
                let number = self.columns[column];
                let (track, object) = (&mut tracks[place as usize], &objects[number as usize]);
                track.motion.correct(object.bbox);
                track.bbox = track.motion.bbox();
                (track.class_id, track.seen_at) = (object.class_id, now.at);
                track.seen_height = object.bbox[3] - object.bbox[1];
                self.is_served[place as usize] = true;
                self.track_of[number as usize] = place;
            }
        }
    }

    /// The tracks and the objects that take part.
    fn choose(&mut self, stage: &Stage, options: &Options, tracks: &[Track], objects: &[Tracked]) {
        let Self { rows, columns, is_served, track_of, .. } = self;
        rows.clear();
        let free = tracks.iter().zip(is_served.iter()).enumerate().filter(|(_, (_, is_served))| !**is_served);
        rows.extend(free.filter(|(_, (t, _))| stage.takes(t.standing)).map(|(place, _)| place as u32));
        columns.clear();
        let takes = |object: &Tracked, place: u32| match stage.is_low {
            true => place == NOTHING && object.score >= options.low_score && is_box(object.bbox),
            false => place == NEW,
        };
        let objects = objects.iter().zip(track_of.iter()).enumerate();
        columns.extend(
            objects.filter(|(_, (object, place))| takes(object, **place)).map(|(number, _)| number as u32),
        );
    }

    fn solve(&mut self, stage: &Stage, options: &Options, tracks: &[Track], objects: &[Tracked], now: &Now) {
        let Self { rows, columns, sweep, assignment, .. } = self;
        let boxes = columns.iter().map(|&number| objects[number as usize].bbox);
        sweep.fill(boxes.enumerate().map(|(column, bbox)| (column as u32, bbox)));
        assignment.begin(columns.len(), stage.limit);
        for &place in rows.iter() {
            let track = &tracks[place as usize];
            let by = if stage.is_widened { vagueness(track, now) } else { 0.0 };
            let lost_share = now.lost_share(track, options);
            let (limit, claim) = (stage.limit_of(track.standing, lost_share), now.claim(track, lost_share));
            // Both boxes are widened.
            let reach = widened(track.bbox, 2.0 * by);
            if !stage.is_widened || by > 0.0 {
                for column in sweep.over(reach) {
                    let object = &objects[columns[column as usize] as usize];
                    let cost = stage.cost(track, by, object);
                    if cost < limit {
                        assignment.pair(column as usize, stage.limit - claim * (stage.limit - cost));
                    }
                }
            }
            assignment.end_row();
        }
        assignment.solve();
    }

    /// By object, as far as objects were looked at.
    pub(super) fn track_of(&self) -> &[u32] {
        &self.track_of
    }

    /// Whether a track has its object.
    pub(super) fn is_served(&self, place: usize) -> bool {
        self.is_served.get(place).copied().unwrap_or(false)
    }
}

/// Pixels by which the boxes are widened for a track.
fn vagueness(track: &Track, now: &Now) -> f32 {
    let interval_s = now.interval.as_secs_f32();
    if now.at.saturating_sub(track.seen_at).as_secs_f32() > WIDENED_INTERVALS * interval_s {
        return 0.0;
    }
    let height = track.motion.height();
    let most = WIDENED_MAX.min(WIDENED_PER_S * interval_s) * height;
    (track.motion.deviation() - USUAL_DEVIATION * height).clamp(0.0, most)
}

fn widened([left, top, right, bottom]: [f32; 4], by: f32) -> [f32; 4] {
    [left - by, top - by, right + by, bottom + by]
}

fn is_box(bbox: [f32; 4]) -> bool {
    let area = (bbox[2] - bbox[0]) * (bbox[3] - bbox[1]);
    bbox.iter().all(|side| side.is_finite()) && bbox[2] > bbox[0] && bbox[3] > bbox[1] && area.is_finite()
}

/// Intersection over union, 0..=1.
pub fn iou(a: [f32; 4], b: [f32; 4]) -> f32 {
    let width = a[2].min(b[2]) - a[0].max(b[0]);
    let height = a[3].min(b[3]) - a[1].max(b[1]);
    if width <= 0.0 || height <= 0.0 {
        return 0.0;
    }
    let common = width * height;
    let area = |r: [f32; 4]| (r[2] - r[0]) * (r[3] - r[1]);
    (common / (area(a) + area(b) - common)).clamp(0.0, 1.0)
}
