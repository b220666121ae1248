//! From one source of actions to another without a jump.

use crate::control::Shared;

/// Positions of a new actor begin where the last command was, and come to the actor's own at the speed for rest.
/// Velocities and efforts are the gate's to smooth.
pub(crate) struct HandOver {
    /// The next goals are the actor's first.
    is_due: bool,
    /// Which channels are positions.
    positions: Vec<bool>,
    /// What is added to the actor's goals. It fades.
    offset: Vec<f64>,
    /// How much of it fades in a turn of the loop.
    fade: f64,
}

impl HandOver {
    /// Of an actor who goes on with what was.
    pub(crate) fn new(shared: &Shared<'_>, positions: Vec<bool>) -> Self {
        let fade = shared.config.rest_velocity_per_s * shared.turn_ns() as f64 * 1e-9;
        // Where there is no such speed, only the first goals are where the last command was.
        let fade = if fade > 0.0 { fade } else { f64::INFINITY };
        Self { is_due: false, offset: vec![0.0; positions.len()], positions, fade }
    }

    /// Another actor takes over, or nobody.
    pub(crate) fn begin(&mut self, is_due: bool) {
        self.is_due = is_due;
        self.offset.fill(0.0);
    }

    /// Whether nothing is known of the new actor's goals yet.
    pub(crate) fn is_due(&self) -> bool {
        self.is_due
    }

    /// Changes the actor's goals for this turn.
    pub(crate) fn smooth(&mut self, commanded: &[f64], goals: &mut [f64]) {
        let is_first = std::mem::take(&mut self.is_due);
        for (i, (goal, offset)) in goals.iter_mut().zip(&mut self.offset).enumerate() {
            if !is_first {
                *offset -= offset.clamp(-self.fade, self.fade);
            } else if self.positions[i] && goal.is_finite() {
                *offset = commanded[i] - *goal;
                *goal = commanded[i];
                continue;
            }
            // What is no number is for the gate to refuse, now as later.
            if *offset != 0.0 {
                *goal += *offset;
            }
        }
    }
}
