//! From one source of actions to another without a jump.

use crate::control::Shared;

/// Goals of a new actor that begin where the last command was, and come to the actor's own at the speed for rest.
pub(crate) struct HandOver {
    /// The next goals are the actor's first.
    is_due: bool,
    /// What is added to the actor's goals. It fades.
    offset_rad: Vec<f64>,
    /// How much of it fades in a turn of the loop.
    fade_rad: f64,
}

impl HandOver {
    /// Of an actor who goes on with what was.
    pub(crate) fn new(shared: &Shared<'_>, width: usize) -> Self {
        let fade_rad = (shared.config.rest_velocity_rad_per_s * shared.turn_ns() as f64 * 1e-9).max(0.0);
        Self { is_due: false, offset_rad: vec![0.0; width], fade_rad }
    }

    /// Another actor takes over, or nobody.
    pub(crate) fn begin(&mut self, is_due: bool) {
        self.is_due = is_due;
        self.offset_rad.fill(0.0);
    }

    /// Whether nothing is known of the new actor's goals yet.
    pub(crate) fn is_due(&self) -> bool {
        self.is_due
    }

    /// Changes the actor's goals for this turn. First goals that are all within `within_rad` of the last command
    /// are no jump.
    pub(crate) fn smooth(&mut self, command_rad: &[f64], wanted_rad: &mut [f64], within_rad: f64) {
        if std::mem::take(&mut self.is_due) {
            for ((offset, command), wanted) in self.offset_rad.iter_mut().zip(command_rad).zip(&*wanted_rad) {
                // What is no number is for the gate to refuse, now as later.
                *offset = if wanted.is_finite() { command - wanted } else { 0.0 };
            }
            if self.offset_rad.iter().all(|offset| offset.abs() <= within_rad) {
                self.offset_rad.fill(0.0);
            }
        }
        for (wanted, offset) in wanted_rad.iter_mut().zip(&mut self.offset_rad) {
            *wanted += *offset;
            *offset -= offset.clamp(-self.fade_rad, self.fade_rad);
        }
    }
}
