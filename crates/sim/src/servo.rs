//! A position servo: what stands between a goal register and a joint.
//!
//! The torque is that of [`MotorModel`]. Its spring and its damper go to the physics engine as a
//! motor of limited force, which is integrated implicitly and so may be as stiff as the real one;
//! armature, viscous and dry friction are the engine's own. Viscous friction is what bounds the
//! speed: at stall torque over damping nothing is left to accelerate with.

use std::collections::VecDeque;

use sinew_core::MotorModel;

/// What a servo asks of the joint for one substep: a spring and a damper of limited torque, which
/// the solver integrates implicitly.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct Drive {
    pub target_rad: f64,
    pub stiffness_nm_per_rad: f64,
    pub damping_nm_s_per_rad: f64,
    pub max_torque_nm: f64,
}

/// The state of one servo. Goals arrive late by the model's latency.
#[derive(Clone, Debug)]
pub(crate) struct Servo {
    model: MotorModel,
    latency_substeps: u64,
    torque_on: bool,
    goal_rad: f64,
    /// Goals on their way, by the substep at which they take effect.
    pending: VecDeque<(u64, f64)>,
}

impl Servo {
    pub fn new(model: MotorModel, position_rad: f64, substep_s: f64) -> Self {
        let latency_substeps = (model.latency_s / substep_s).round().max(0.0) as u64;
        Self { model, latency_substeps, torque_on: false, goal_rad: position_rad, pending: VecDeque::new() }
    }

    /// Goal := `position_rad`, then torque on.
    pub fn enable(&mut self, position_rad: f64) {
        self.pending.clear();
        self.goal_rad = position_rad;
        self.torque_on = true;
    }

    pub fn disable(&mut self) {
        self.pending.clear();
        self.torque_on = false;
    }

    pub fn torque_is_on(&self) -> bool {
        self.torque_on
    }

    pub fn set_goal(&mut self, substep: u64, goal_rad: f64) {
        self.pending.push_back((substep + self.latency_substeps, goal_rad));
    }

    /// The drive for `substep`, the joint being at `position_rad`.
    pub fn drive(&mut self, substep: u64, position_rad: f64) -> Drive {
        while let Some(&(due, goal_rad)) = self.pending.front() {
            if due > substep {
                break;
            }
            self.goal_rad = goal_rad;
            self.pending.pop_front();
        }
        if !self.torque_on {
            return Drive { target_rad: position_rad, stiffness_nm_per_rad: 0.0, damping_nm_s_per_rad: 0.0, max_torque_nm: 0.0 };
        }
        Drive {
            target_rad: position_rad + self.felt_error_rad(position_rad),
            stiffness_nm_per_rad: self.model.proportional_gain_nm_per_rad,
            damping_nm_s_per_rad: self.model.derivative_gain_nm_s_per_rad,
            max_torque_nm: self.model.stall_torque_nm,
        }
    }

    /// What of the position error reaches the joint: within the play of the gears the motor turns
    /// without it.
    fn felt_error_rad(&self, position_rad: f64) -> f64 {
        let error = self.goal_rad - position_rad;
        error.signum() * (error.abs() - 0.5 * self.model.backlash_rad).max(0.0)
    }

    /// Share of the stall torque that the motor gives now, −1..1.
    pub fn effort(&self, position_rad: f64, velocity_rad_per_s: f64) -> f64 {
        if !self.torque_on {
            return 0.0;
        }
        let torque = self.model.proportional_gain_nm_per_rad * self.felt_error_rad(position_rad)
            - self.model.derivative_gain_nm_s_per_rad * velocity_rad_per_s;
        (torque / self.model.stall_torque_nm).clamp(-1.0, 1.0)
    }

    pub fn model(&self) -> &MotorModel {
        &self.model
    }

    /// Every number that decides what this servo will do.
    pub fn digest(&self, mut word: impl FnMut(u64)) {
        word(u64::from(self.torque_on));
        word(self.goal_rad.to_bits());
        for (due, goal) in &self.pending {
            word(*due);
            word(goal.to_bits());
        }
    }
}
