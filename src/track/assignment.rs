//! Who is who: the assignment of least cost, exactly, over the pairs that are possible at all.
//!
//! Rows may stay without a column, at the cost `limit`, so what is minimised is the sum of the costs of the pairs and
//! of `limit` for each row that stays alone. Only pairs below the limit are given, and they are few: shortest
//! augmenting paths (Jonker and Volgenant 1987) with Dijkstra's algorithm over them never leave the group of rows and
//! columns that compete with each other, so what is far apart costs nothing. All buffers are made in `new`.

use std::cmp::Ordering;
use std::collections::BinaryHeap;

/// Columns that one row may have; of more, the cheapest are kept. More boxes that survived suppression than this do not
/// overlap one box.
pub(super) const PAIRS_MAX: usize = 16;

const NONE: u32 = u32::MAX;

/// A column on the frontier.
#[derive(Debug, Clone, Copy, PartialEq)]
struct Reach {
    distance: f32,
    column: u32,
}

impl Eq for Reach {}

impl PartialOrd for Reach {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl Ord for Reach {
    /// The nearest is the greatest, for a heap that gives the greatest first.
    fn cmp(&self, other: &Self) -> Ordering {
        other.distance.total_cmp(&self.distance).then(other.column.cmp(&self.column))
    }
}

/// What Dijkstra's algorithm knows of a column in the search that `search` counts.
#[derive(Debug, Clone, Copy)]
struct Seen {
    search: u32,
    is_settled: bool,
    distance: f32,
    from_row: u32,
}

/// Pairs of rows and columns, and the best assignment of them.
#[derive(Debug)]
pub(super) struct Assignment {
    rows_max: usize,
    columns_max: usize,
    limit: f32,
    /// Where the pairs of each row begin; one more than there are rows.
    starts: Vec<u32>,
    pairs: Vec<(u32, f32)>,
    column_of: Vec<u32>,
    row_of: Vec<u32>,
    potentials: Vec<f32>,
    seen: Vec<Seen>,
    settled: Vec<u32>,
    frontier: BinaryHeap<Reach>,
    search: u32,
}

impl Assignment {
    pub fn new(rows_max: usize, columns_max: usize) -> Self {
        let pairs_max = rows_max * PAIRS_MAX.min(columns_max);
        Self {
            rows_max,
            columns_max,
            limit: 0.0,
            starts: Vec::with_capacity(rows_max + 1),
            pairs: Vec::with_capacity(pairs_max),
            column_of: Vec::with_capacity(rows_max),
            row_of: Vec::with_capacity(columns_max),
            potentials: Vec::with_capacity(columns_max),
            seen: Vec::with_capacity(columns_max),
            settled: Vec::with_capacity(columns_max),
            // A column is on the frontier once for each pair that made it nearer.
            frontier: BinaryHeap::with_capacity(pairs_max),
            search: 0,
        }
    }

    /// Forgets everything; pairs cost less than `limit` from now on.
    pub fn begin(&mut self, columns: usize, limit: f32) {
        debug_assert!(columns <= self.columns_max);
        self.limit = limit;
        self.starts.clear();
        self.starts.push(0);
        self.pairs.clear();
        self.column_of.clear();
        self.row_of.clear();
        self.row_of.resize(columns, NONE);
    }

    /// One more pair of the row that is being made. A cost from 0; one at or above the limit is no pair.
    pub fn pair(&mut self, column: usize, cost: f32) {
        // What is not a number is no pair either.
        if !(cost < self.limit) {
            return;
        }
        debug_assert!(cost >= 0.0 && column < self.row_of.len());
        let start = self.starts.last().map_or(0, |&start| start as usize);
        let row = &mut self.pairs[start..];
        if row.len() < PAIRS_MAX.min(self.columns_max) {
            self.pairs.push((column as u32, cost));
        } else if let Some(dearest) = row.iter_mut().max_by(|a, b| a.1.total_cmp(&b.1))
            && dearest.1 > cost
        {
            *dearest = (column as u32, cost);
        }
    }

    /// The row is complete.
    pub fn end_row(&mut self) {
        debug_assert!(self.column_of.len() < self.rows_max);
        self.starts.push(self.pairs.len() as u32);
        self.column_of.push(NONE);
    }

    /// Finds the assignment of least cost.
    pub fn solve(&mut self) {
        let columns = self.row_of.len();
        self.potentials.clear();
        self.potentials.resize(columns, 0.0);
        self.seen.clear();
        self.seen.resize(columns, Seen { search: 0, is_settled: false, distance: 0.0, from_row: NONE });
        self.search = 0;
        for row in 0..self.column_of.len() {
            self.augment(row);
        }
    }

    /// The column of a row, if it has one.
    pub fn column_of(&self, row: usize) -> Option<usize> {
        self.column_of.get(row).filter(|&&column| column != NONE).map(|&column| column as usize)
    }

    /// Gives one more row its place: along the shortest path to a free column, or to a row that stays alone.
    fn augment(&mut self, row: usize) {
        self.search += 1;
        self.frontier.clear();
        self.settled.clear();
        // The row that stays alone after this, and the length of the way there.
        let (mut alone, mut best) = (row, self.limit);
        self.relax(row, 0.0);
        let mut free_column = None;
        while let Some(Reach { distance, column }) = self.frontier.pop() {
            if distance >= best {
                break;
            }
            let seen = &mut self.seen[column as usize];
            if seen.is_settled {
                continue;
            }
            seen.is_settled = true;
            let holder = self.row_of[column as usize];
            if holder == NONE {
                (free_column, best) = (Some(column), distance);
                break;
            }
            self.settled.push(column);
            let holder = holder as usize;
            // What the way costs beyond the pair that the holder gives up.
            let base = distance - self.reduced_cost_of_holder(holder, column);
            if base + self.limit < best {
                (alone, best) = (holder, base + self.limit);
            }
            self.relax(holder, base);
        }
        for &column in &self.settled {
            self.potentials[column as usize] += self.seen[column as usize].distance - best;
        }
        self.follow(row, alone, free_column);
    }

    /// Makes the columns of a row nearer, where the way through it is shorter.
    fn relax(&mut self, row: usize, base: f32) {
        let range = self.starts[row] as usize..self.starts[row + 1] as usize;
        for &(column, cost) in &self.pairs[range] {
            let distance = base + cost - self.potentials[column as usize];
            let seen = &mut self.seen[column as usize];
            let is_new = seen.search != self.search;
            if is_new || (!seen.is_settled && distance < seen.distance) {
                *seen = Seen { search: self.search, is_settled: false, distance, from_row: row as u32 };
                self.frontier.push(Reach { distance, column });
            }
        }
    }

    fn reduced_cost_of_holder(&self, row: usize, column: u32) -> f32 {
        let range = self.starts[row] as usize..self.starts[row + 1] as usize;
        let cost = self.pairs[range].iter().find(|pair| pair.0 == column).map_or(0.0, |pair| pair.1);
        cost - self.potentials[column as usize]
    }

    /// Turns the way back into pairs.
    fn follow(&mut self, row: usize, alone: usize, free_column: Option<u32>) {
        let mut column = match free_column {
            Some(column) => column,
            None if alone == row => return,
            None => std::mem::replace(&mut self.column_of[alone], NONE),
        };
        // Each column on the way is taken over by the row that it was reached from, which gives up its own.
        loop {
            let taker = self.seen[column as usize].from_row;
            self.row_of[column as usize] = taker;
            let given_up = std::mem::replace(&mut self.column_of[taker as usize], column);
            if taker as usize == row {
                return;
            }
            column = given_up;
        }
    }

    pub fn buffer_bytes(rows_max: usize, columns_max: usize) -> usize {
        let pairs_max = rows_max * PAIRS_MAX.min(columns_max);
        (rows_max + 1) * size_of::<u32>()
            + pairs_max * (size_of::<(u32, f32)>() + size_of::<Reach>())
            + rows_max * size_of::<u32>()
            + columns_max * (2 * size_of::<u32>() + size_of::<f32>() + size_of::<Seen>())
    }
}
