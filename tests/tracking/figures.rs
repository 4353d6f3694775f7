//! How good tracks are: MOTA (Bernardin and Stiefelhagen 2008) and IDF1 (Ristani et al. 2016), as py-motmetrics counts
//! them.

use std::collections::HashMap;

/// Boxes that overlap by less are not the same.
const IOU_MIN: f64 = 0.5;

/// A box with an identity.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Named {
    pub id: u64,
    pub bbox: [f32; 4],
}

/// What is wrong with tracks, counted.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Figures {
    pub mota: f64,
    pub idf1: f64,
    pub switches: u64,
    pub misses: u64,
    pub false_positives: u64,
}

pub fn iou(a: [f32; 4], b: [f32; 4]) -> f64 {
    let side = |low: usize| (f64::from(a[low + 2].min(b[low + 2])) - f64::from(a[low].max(b[low]))).max(0.0);
    let common = side(0) * side(1);
    let area = |r: [f32; 4]| f64::from(r[2] - r[0]) * f64::from(r[3] - r[1]);
    common / (area(a) + area(b) - common)
}

/// What a pair costs that must not be.
const NEVER: f64 = 1e6;

/// The assignment of least cost of a matrix with no more rows than columns (Hungarian algorithm, potentials).
fn assigned(costs: &[Vec<f64>]) -> Vec<usize> {
    let (rows, columns) = (costs.len(), costs.first().map_or(0, Vec::len));
    let (mut u, mut v) = (vec![0.0; rows + 1], vec![0.0; columns + 1]);
    let mut row_of = vec![0; columns + 1];
    for row in 1..=rows {
        row_of[0] = row;
        let mut column = 0;
        let (mut least, mut used) = (vec![f64::INFINITY; columns + 1], vec![false; columns + 1]);
        let mut way = vec![0; columns + 1];
        while row_of[column] != 0 {
            used[column] = true;
            let holder = row_of[column];
            let (mut delta, mut next) = (f64::INFINITY, 0);
            for other in (1..=columns).filter(|&other| !used[other]) {
                let reduced = costs[holder - 1][other - 1] - u[holder] - v[other];
                if reduced < least[other] {
                    (least[other], way[other]) = (reduced, column);
                }
                if least[other] < delta {
                    (delta, next) = (least[other], other);
                }
            }
            for other in 0..=columns {
                if used[other] {
                    u[row_of[other]] += delta;
                    v[other] -= delta;
                } else {
                    least[other] -= delta;
                }
            }
            column = next;
        }
        while column != 0 {
            row_of[column] = row_of[way[column]];
            column = way[column];
        }
    }
    let mut of = vec![0; rows];
    (1..=columns)
        .filter(|&column| row_of[column] != 0)
        .for_each(|column| of[row_of[column] - 1] = column - 1);
    of
}

/// Pairs of rows and columns of least cost; those that cost [`NEVER`] are left out.
fn pairs(costs: &[Vec<f64>]) -> Vec<(usize, usize)> {
    let (rows, columns) = (costs.len(), costs.first().map_or(0, Vec::len));
    if rows == 0 || columns == 0 {
        return Vec::new();
    }
    if rows <= columns {
        let found = assigned(costs).into_iter().enumerate();
        return found.filter(|&(row, column)| costs[row][column] < NEVER).collect();
    }
    let turned: Vec<Vec<f64>> = (0..columns).map(|c| costs.iter().map(|row| row[c]).collect()).collect();
    let found = assigned(&turned).into_iter().enumerate();
    found.filter(|&(column, row)| costs[row][column] < NEVER).map(|(column, row)| (row, column)).collect()
}

/// Compares tracks with the truth, frame by frame.
pub fn figures(truth: &[Vec<Named>], tracks: &[Vec<Named>]) -> Figures {
    assert_eq!(truth.len(), tracks.len(), "a frame is a frame");
    let (mut switches, mut misses, mut false_positives) = (0, 0, 0);
    let mut last: HashMap<u64, u64> = HashMap::new();
    let mut together: HashMap<(u64, u64), u64> = HashMap::new();
    let (mut truth_total, mut tracks_total) = (0, 0);
    for (truth, tracks) in truth.iter().zip(tracks) {
        (truth_total, tracks_total) = (truth_total + truth.len() as u64, tracks_total + tracks.len() as u64);
        for (one, other) in truth.iter().flat_map(|one| tracks.iter().map(move |other| (one, other))) {
            if iou(one.bbox, other.bbox) >= IOU_MIN {
                *together.entry((one.id, other.id)).or_default() += 1;
            }
        }
        // Who was a pair stays one.
        let (mut free, mut free_tracks, mut matched) = (Vec::new(), tracks.clone(), 0);
        for one in truth {
            let is_same =
                |other: &Named| last.get(&one.id) == Some(&other.id) && iou(one.bbox, other.bbox) >= IOU_MIN;
            match free_tracks.iter().position(is_same) {
                Some(place) => {
                    free_tracks.remove(place);
                    matched += 1;
                }
                None => free.push(*one),
            }
        }
        let cost = |one: &Named, other: &Named| match iou(one.bbox, other.bbox) {
            overlap if overlap >= IOU_MIN => 1.0 - overlap,
            _ => NEVER,
        };
        let costs: Vec<Vec<f64>> =
            free.iter().map(|one| free_tracks.iter().map(|other| cost(one, other)).collect()).collect();
        for (row, column) in pairs(&costs) {
            let before = last.insert(free[row].id, free_tracks[column].id);
            switches += u64::from(before.is_some());
            matched += 1;
        }
        misses += truth.len() as u64 - matched;
        false_positives += tracks.len() as u64 - matched;
    }
    let mistakes = misses + false_positives + switches;
    Figures {
        mota: 1.0 - mistakes as f64 / truth_total as f64,
        idf1: 2.0 * shared(&together) / (truth_total + tracks_total) as f64,
        switches,
        misses,
        false_positives,
    }
}

/// Most boxes that identities can share, each with one other.
fn shared(together: &HashMap<(u64, u64), u64>) -> f64 {
    let sorted = |ids: Vec<u64>| {
        let mut ids = ids;
        ids.sort_unstable();
        ids.dedup();
        ids
    };
    let rows = sorted(together.keys().map(|key| key.0).collect());
    let columns = sorted(together.keys().map(|key| key.1).collect());
    let shared = |row: &u64, column: &u64| together.get(&(*row, *column)).copied().unwrap_or(0) as f64;
    let costs: Vec<Vec<f64>> =
        rows.iter().map(|row| columns.iter().map(|column| -shared(row, column)).collect()).collect();
    pairs(&costs).into_iter().map(|(row, column)| -costs[row][column]).sum()
}
