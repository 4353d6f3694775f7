//! Tests of the tracker.

use super::assignment::Assignment;
use super::*;
use proptest::prelude::*;

/// The least cost by trying everything.
fn least_cost(costs: &[Vec<Option<f32>>], limit: f32, row: usize, taken: &mut Vec<bool>) -> f32 {
    let Some(row_costs) = costs.get(row) else { return 0.0 };
    let mut least = limit + least_cost(costs, limit, row + 1, taken);
    for (column, cost) in row_costs.iter().enumerate() {
        let Some(cost) = cost.filter(|cost| *cost < limit) else { continue };
        if !taken[column] {
            taken[column] = true;
            least = least.min(cost + least_cost(costs, limit, row + 1, taken));
            taken[column] = false;
        }
    }
    least
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 2000, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn no_assignment_costs_less(
        costs in (1usize..=6).prop_flat_map(|columns| proptest::collection::vec(
            proptest::collection::vec(proptest::option::weighted(0.7, 0.0f32..1.0), columns), 0..=6)),
        limit in 0.1f32..1.0,
    ) {
        let columns = costs.first().map_or(1, Vec::len);
        let mut assignment = Assignment::new(6, 6);
        // The second time nothing of the first may be left.
        for _ in 0..2 {
            assignment.begin(columns, limit);
            for row in &costs {
                for (column, cost) in row.iter().enumerate() {
                    if let Some(cost) = cost {
                        assignment.pair(column, *cost);
                    }
                }
                assignment.end_row();
            }
            assignment.solve();
            let (mut total, mut taken) = (0.0, vec![false; columns]);
            for (row, row_costs) in costs.iter().enumerate() {
                match assignment.column_of(row) {
                    None => total += limit,
                    Some(column) => {
                        prop_assert!(!std::mem::replace(&mut taken[column], true), "column {column} twice");
                        total += row_costs[column].expect("a pair that was given");
                    }
                }
            }
            let least = least_cost(&costs, limit, 0, &mut vec![false; columns]);
            prop_assert!((total - least).abs() < 1e-4, "{total} instead of {least}");
        }
    }
}
