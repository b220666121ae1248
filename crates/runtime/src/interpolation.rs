//! Goals between the rows of a policy.

use crate::Interpolation;

/// The rows around now. Made once; holds its memory.
pub(crate) struct Interpolator {
    how: Interpolation,
    width: usize,
    /// The row before, the row of this tick, the next and the one after it; all the same length.
    rows_rad: [Vec<f64>; 4],
    /// Whether this tick has a row.
    is_known: bool,
    /// How many of the rows before and after are known.
    has_before: bool,
    ahead: usize,
}

impl Interpolator {
    pub(crate) fn new(how: Interpolation, width: usize) -> Self {
        Self { how, width, rows_rad: std::array::from_fn(|_| vec![0.0; width]), is_known: false, has_before: false, ahead: 0 }
    }

    /// This tick has no row.
    pub(crate) fn clear(&mut self) {
        (self.is_known, self.has_before, self.ahead) = (false, false, 0);
    }

    /// `row` is that of the tick that has begun.
    pub(crate) fn advance(&mut self, row: &[f64]) {
        self.rows_rad.swap(0, 1);
        self.has_before = self.is_known;
        self.rows_rad[1].copy_from_slice(row);
        (self.is_known, self.ahead) = (true, 0);
    }

    /// What the next two ticks will have, as far as is known.
    pub(crate) fn look_ahead(&mut self, next: Option<&[f64]>, after: Option<&[f64]>) {
        for (slot, row) in [(2, next), (3, after)] {
            let Some(row) = row else { return };
            self.rows_rad[slot].copy_from_slice(row);
            self.ahead = slot - 1;
        }
    }

    /// The goals when a `share` (0 to 1) of this tick has passed; `false` when nothing is known. With
    /// no next row, that of this tick stands.
    pub(crate) fn at(&self, share: f64, goals_rad: &mut [f64]) -> bool {
        if !self.is_known {
            return false;
        }
        let [before, now, next, after] = &self.rows_rad;
        if self.ahead == 0 || share == 0.0 {
            goals_rad.copy_from_slice(now);
            return true;
        }
        for i in 0..self.width.min(goals_rad.len()) {
            let way = next[i] - now[i];
            goals_rad[i] = match self.how {
                Interpolation::Linear => now[i] + share * way,
                Interpolation::Cubic => {
                    let slope = if self.has_before { (next[i] - before[i]) / 2.0 } else { way };
                    let next_slope = if self.ahead > 1 { (after[i] - now[i]) / 2.0 } else { way };
                    // Hermite's form: ends and slopes as given.
                    let (s, rest) = (share, 1.0 - share);
                    now[i] + way * s * s * (3.0 - 2.0 * s) + s * rest * (slope * rest - next_slope * s)
                }
            };
        }
        true
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn through(how: Interpolation, rows: &[f64], share: f64) -> Vec<f64> {
        let mut interpolator = Interpolator::new(how, 1);
        let mut goals = Vec::new();
        for i in 0..rows.len() {
            interpolator.advance(&rows[i..=i]);
            interpolator.look_ahead(rows.get(i + 1..i + 2), rows.get(i + 2..i + 3));
            let mut goal = [f64::NAN];
            assert!(interpolator.at(share, &mut goal));
            goals.push(goal[0]);
        }
        goals
    }

    #[test]
    fn rows_are_met_and_the_line_between_is_straight() {
        for how in [Interpolation::Linear, Interpolation::Cubic] {
            assert_eq!(through(how, &[1.0, 2.0, 4.0], 0.0), [1.0, 2.0, 4.0]);
            // A straight line stays one, and the last row stands.
            for (found, expected) in through(how, &[0.0, 2.0, 4.0, 6.0], 0.25).iter().zip([0.5, 2.5, 4.5, 6.0]) {
                assert!((found - expected).abs() < 1e-12, "{how:?}: {found}");
            }
        }
        assert_eq!(through(Interpolation::Linear, &[1.0, 2.0, 4.0], 0.5), [1.5, 3.0, 4.0]);
    }

    #[test]
    fn a_cubic_has_the_same_slope_on_both_sides_of_a_row() {
        let rows = [0.0, 1.0, -1.0, 0.5, 3.0, 3.0];
        let (before, after) = (through(Interpolation::Cubic, &rows, 1.0 - 1e-6), through(Interpolation::Cubic, &rows, 1e-6));
        for i in 1..rows.len() - 1 {
            let (left, right) = ((rows[i] - before[i - 1]) / 1e-6, (after[i] - rows[i]) / 1e-6);
            assert!((left - right).abs() < 1e-3, "row {i}: {left} and {right}");
        }
        // A parabola is met where all four rows are known.
        let parabola: Vec<f64> = (0..5).map(|i| f64::from(i * i)).collect();
        assert!((through(Interpolation::Cubic, &parabola, 0.5)[1] - 2.25).abs() < 1e-12);
    }

    #[test]
    fn without_a_row_there_is_nothing_between() {
        let mut interpolator = Interpolator::new(Interpolation::Linear, 1);
        assert!(!interpolator.at(0.5, &mut [0.0]));
        interpolator.advance(&[1.0]);
        interpolator.clear();
        assert!(!interpolator.at(0.5, &mut [0.0]));
    }
}
