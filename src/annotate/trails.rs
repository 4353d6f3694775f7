//! Where tracked objects came from: the last foot points of each track, in bounded memory.

/// Points of one trail.
const POINTS_MAX: usize = 48;
/// Tracks at one time; of more, the one that was seen least recently gives way.
const TRACKS_MAX: usize = 256;
/// A track that was not seen in so many pictures has no trail any more.
const FORGOTTEN_AFTER: u64 = 30;

/// The trails of one input.
#[derive(Debug, Default)]
pub(super) struct Trails {
    tracks: Vec<Trail>,
    picture: u64,
}

#[derive(Debug)]
pub(super) struct Trail {
    id: u64,
    pub class_id: u32,
    seen: u64,
    /// Oldest first.
    pub points: Vec<[f32; 2]>,
}

impl Trails {
    /// Another input begins.
    pub fn clear(&mut self) {
        self.tracks.clear();
    }

    /// Another picture begins.
    pub fn begin(&mut self) {
        self.picture += 1;
        let picture = self.picture;
        self.tracks.retain(|trail| picture - trail.seen <= FORGOTTEN_AFTER);
    }

    /// The track is here now.
    pub fn add(&mut self, id: u64, class_id: u32, foot: [f32; 2]) {
        let index = self.tracks.iter().position(|trail| trail.id == id).unwrap_or_else(|| {
            if self.tracks.len() >= TRACKS_MAX
                && let Some(oldest) = (0..self.tracks.len()).min_by_key(|&index| self.tracks[index].seen)
            {
                self.tracks.swap_remove(oldest);
            }
            let points = Vec::with_capacity(POINTS_MAX);
            self.tracks.push(Trail { id, class_id, seen: 0, points });
            self.tracks.len() - 1
        });
        let trail = &mut self.tracks[index];
        (trail.seen, trail.class_id) = (self.picture, class_id);
        if trail.points.len() >= POINTS_MAX {
            trail.points.remove(0);
        }
        trail.points.push(foot);
    }

    pub fn iter(&self) -> impl Iterator<Item = &Trail> {
        self.tracks.iter()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn trails_are_bounded_and_forgotten() {
        let mut trails = Trails::default();
        for picture in 0..100 {
            trails.begin();
            trails.add(7, 0, [picture as f32, 0.0]);
            (0..20).for_each(|id| trails.add(1000 + 20 * picture + id, 1, [0.0; 2]));
        }
        assert!(trails.tracks.len() <= TRACKS_MAX);
        let mine = trails.iter().find(|trail| trail.id == 7).unwrap();
        assert_eq!(mine.points.len(), POINTS_MAX);
        assert_eq!(mine.points.last(), Some(&[99.0, 0.0]));
        (0..=FORGOTTEN_AFTER).for_each(|_| trails.begin());
        assert_eq!(trails.iter().count(), 0);
    }
}
