//! ACT's temporal ensembling: the mean of everything that was ever predicted for a tick.

use std::collections::VecDeque;

/// Averages overlapping chunks tick by tick, with weight `exp(-coeff * i)` for the `i`-th prediction
/// for a tick, counted from the oldest (Algorithm 2 of arXiv 2304.13705). It averages online, in the
/// same order of operations as LeRobot's `ACTTemporalEnsembler`.
///
/// ```
/// use sinew_policy::TemporalEnsembler;
///
/// // Two predictions for tick 1, of equal weight; one for each other tick.
/// let mut ensembler = TemporalEnsembler::new(0.0, 2, 1);
/// assert_eq!(ensembler.update(0, &[1.0, 2.0]), [1.0, 2.0]);
/// assert_eq!(ensembler.update(1, &[4.0, 6.0]), [3.0, 6.0]);
/// ```
#[derive(Clone, Debug, PartialEq)]
pub struct TemporalEnsembler {
    /// `weights[i]` of the `i`-th prediction and the sums of `weights[..=i]`.
    weights: Vec<f32>,
    sums: Vec<f32>,
    width: usize,
    first_tick: u64,
    rows: VecDeque<Row>,
}

#[derive(Clone, Debug, PartialEq)]
struct Row {
    mean: Vec<f32>,
    /// How many predictions are in the mean, 1 or more.
    count: usize,
}

impl TemporalEnsembler {
    /// For chunks of `chunk_size` rows of `width` values.
    pub fn new(coeff: f64, chunk_size: usize, width: usize) -> Self {
        let weights: Vec<f32> = (0..chunk_size).map(|i| (-coeff as f32 * i as f32).exp()).collect();
        let sums = weights.iter().scan(0.0, |sum, w| {
            *sum += w;
            Some(*sum)
        });
        Self { sums: sums.collect(), weights, width, first_tick: 0, rows: VecDeque::new() }
    }

    /// Forgets everything; for the start of an episode.
    pub fn reset(&mut self) {
        self.rows.clear();
    }

    /// Takes the chunk predicted at `tick` (`[rows, width]`, the first row for `tick`) into the means
    /// and answers with the means from `tick` on, in the same layout.
    ///
    /// Ticks rise between [`reset`](Self::reset)s: a tick that is not after the last one starts over.
    pub fn update(&mut self, tick: u64, chunk: &[f32]) -> Vec<f32> {
        if tick <= self.first_tick {
            self.rows.clear();
        }
        let passed = tick.saturating_sub(self.first_tick).min(self.rows.len() as u64);
        self.rows.drain(..passed as usize);
        self.first_tick = tick;
        for (i, new) in chunk.chunks_exact(self.width.max(1)).enumerate() {
            match self.rows.get_mut(i) {
                None => self.rows.push_back(Row { mean: new.to_vec(), count: 1 }),
                // A tick is predicted at most once by each row of a chunk, so `count` is in range; a
                // chunk longer than promised is cut.
                Some(Row { mean, count }) => {
                    let (Some(weight), Some(sum)) = (self.weights.get(*count), self.sums.get(*count)) else { break };
                    for (mean, new) in mean.iter_mut().zip(new) {
                        *mean = (*mean * self.sums[*count - 1] + new * weight) / sum;
                    }
                    *count += 1;
                }
            }
        }
        self.rows.iter().flat_map(|row| row.mean.iter().copied()).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn skipped_ticks_shift_the_means_and_a_step_back_starts_over() {
        let mut ensembler = TemporalEnsembler::new(0.0, 3, 1);
        ensembler.update(10, &[1.0, 2.0, 3.0]);
        // Tick 11 was skipped: only tick 12 has two predictions.
        assert_eq!(ensembler.update(12, &[5.0, 6.0, 7.0]), [4.0, 6.0, 7.0]);
        assert_eq!(ensembler.update(40, &[1.0, 1.0, 1.0]), [1.0, 1.0, 1.0]);
        assert_eq!(ensembler.update(0, &[2.0, 2.0, 2.0]), [2.0, 2.0, 2.0]);
    }

    #[test]
    fn a_positive_coefficient_favours_the_oldest() {
        let mut ensembler = TemporalEnsembler::new(1.0, 2, 1);
        ensembler.update(0, &[0.0, 0.0]);
        let mean = ensembler.update(1, &[1.0, 1.0])[0];
        let expected = (-1f32).exp() / (1.0 + (-1f32).exp());
        assert!((mean - expected).abs() < 1e-6, "{mean} {expected}");
    }
}
