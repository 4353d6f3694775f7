//! PURE: is anything in the picture that is not at rest?
//!
//! A parked car is detected in every frame and must not keep its camera awake for ever; a person who waits must. So an object is at
//! rest when one of its class has been at its place, [`OVERLAP`] of it, for [`REST`].

use std::time::{Duration, Instant};

use crate::track::iou;

/// Who has not moved for so long has parked.
const REST: Duration = Duration::from_secs(60);
/// A place is forgotten when nothing was seen there for so long: detectors lose an object now and then.
const FORGET: Duration = Duration::from_secs(120);
/// Intersection over union of boxes that are of one place.
const OVERLAP: f32 = 0.7;
/// Places that are remembered; what comes beyond is never at rest.
const PLACES_MAX: usize = 64;

/// A place where something is.
#[derive(Debug, Clone, Copy)]
struct Place {
    class_id: u32,
    bbox: [f32; 4],
    since: Instant,
    seen_at: Instant,
}

/// The places of one camera. Allocates when it is made and never again.
#[derive(Debug)]
pub struct Presence {
    places: Vec<Place>,
}

impl Default for Presence {
    fn default() -> Self {
        Self { places: Vec::with_capacity(PLACES_MAX) }
    }
}

impl Presence {
    /// Looks at the objects, class and box, of the frame that arrived at `at`: whether one of them is not at rest.
    pub fn is_lively(&mut self, objects: impl Iterator<Item = (u32, [f32; 4])>, at: Instant) -> bool {
        self.places.retain(|place| at.saturating_duration_since(place.seen_at) < FORGET);
        let mut lively = false;
        for (class_id, bbox) in objects {
            let is_here = |place: &&mut Place| place.class_id == class_id && iou(place.bbox, bbox) > OVERLAP;
            if let Some(place) = self.places.iter_mut().find(is_here) {
                place.seen_at = at;
                lively |= at.saturating_duration_since(place.since) < REST;
                continue;
            }
            lively = true;
            if self.places.len() < PLACES_MAX {
                self.places.push(Place { class_id, bbox, since: at, seen_at: at });
            }
        }
        lively
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const CAR: (u32, [f32; 4]) = (2, [100.0, 100.0, 200.0, 150.0]);

    fn at(start: Instant, seconds: u64) -> Instant {
        start + Duration::from_secs(seconds)
    }

    #[test]
    fn a_car_that_parks_comes_to_rest_and_is_lively_again_when_it_leaves() {
        let (start, mut presence) = (crate::clock::now(), Presence::default());
        let lively: Vec<u64> =
            (0..200).filter(|&second| presence.is_lively([CAR].into_iter(), at(start, second))).collect();
        assert_eq!(lively, (0..60).collect::<Vec<_>>());
        let moved = (2, [140.0, 100.0, 240.0, 150.0]);
        assert!(presence.is_lively([moved].into_iter(), at(start, 200)));
    }

    #[test]
    fn a_person_before_a_parked_car_is_lively_and_an_empty_place_is_forgotten() {
        let (start, mut presence) = (crate::clock::now(), Presence::default());
        (0..100).for_each(|second| {
            presence.is_lively([CAR].into_iter(), at(start, second));
        });
        let person = (0, CAR.1);
        assert!(presence.is_lively([CAR, person].into_iter(), at(start, 100)));
        assert!(!presence.is_lively([CAR].into_iter(), at(start, 150)), "lost for some frames");
        assert!(!presence.is_lively([].into_iter(), at(start, 290)));
        assert!(presence.is_lively([CAR].into_iter(), at(start, 291)));
    }

    #[test]
    fn a_crowd_beyond_what_is_remembered_is_never_at_rest() {
        let (start, mut presence) = (crate::clock::now(), Presence::default());
        let crowd = || (0..80).map(|one| (0, [20.0 * one as f32, 0.0, 20.0 * one as f32 + 10.0, 30.0]));
        assert!((0..300).all(|second| presence.is_lively(crowd(), at(start, second))));
        assert_eq!(presence.places.capacity(), PLACES_MAX);
    }
}
