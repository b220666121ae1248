//! A position servo: what stands between a goal register and a part.
//!
//! The torque is that of [`MotorModel`], seen through the motor's gear. Its spring and its damper go to the
//! physics engine as a motor of limited force, which is integrated implicitly and so may be as stiff as the
//! real one; armature, viscous and dry friction are the engine's own. Viscous friction is what bounds the
//! speed: at stall torque over damping nothing is left to accelerate with.

use std::collections::VecDeque;

use sinew_core::MotorModel;

/// What a servo asks of the part for one substep: a spring and a damper of limited torque, which
/// the solver integrates implicitly. In N m and radians, or N and metres.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct Drive {
    pub target: f64,
    pub stiffness: f64,
    pub damping: f64,
    /// The most torque or force.
    pub most: f64,
}

/// The state of one servo. Goals arrive late by the model's latency.
#[derive(Clone, Debug)]
pub(crate) struct Servo {
    /// As the part feels it.
    model: MotorModel,
    latency_substeps: u64,
    torque_on: bool,
    goal: f64,
    /// Goals on their way, by the substep at which they take effect.
    pending: VecDeque<(u64, f64)>,
}

/// What a part feels of a motor that turns `gear` times as far; for a part that slides, numbers a radian
/// become numbers a metre.
fn geared(motor: &MotorModel, gear: f64) -> MotorModel {
    let twice = gear * gear;
    MotorModel {
        model: motor.model.clone(),
        stall_torque_nm: motor.stall_torque_nm * gear,
        no_load_speed_rad_per_s: motor.no_load_speed_rad_per_s / gear,
        proportional_gain_nm_per_rad: motor.proportional_gain_nm_per_rad * twice,
        derivative_gain_nm_s_per_rad: motor.derivative_gain_nm_s_per_rad * twice,
        damping_nm_s_per_rad: motor.damping_nm_s_per_rad * twice,
        friction_nm: motor.friction_nm * gear,
        armature_kg_m2: motor.armature_kg_m2 * twice,
        backlash_rad: motor.backlash_rad / gear,
        latency_s: motor.latency_s,
    }
}

impl Servo {
    pub fn new(motor: &MotorModel, gear: f64, value: f64, substep_s: f64) -> Self {
        let latency_substeps = (motor.latency_s / substep_s).round().max(0.0) as u64;
        // One goal a substep at most; no more than a second's worth is worth room in advance.
        let room = latency_substeps.min(256) as usize + 2;
        let pending = VecDeque::with_capacity(room);
        Self { model: geared(motor, gear), latency_substeps, torque_on: false, goal: value, pending }
    }

    /// Goal := `value`, then torque on.
    pub fn enable(&mut self, value: f64) {
        self.pending.clear();
        self.goal = value;
        self.torque_on = true;
    }

    pub fn disable(&mut self) {
        self.pending.clear();
        self.torque_on = false;
    }

    pub fn torque_is_on(&self) -> bool {
        self.torque_on
    }

    pub fn set_goal(&mut self, substep: u64, goal: f64) {
        let due = substep + self.latency_substeps;
        match self.pending.back_mut() {
            Some((last, slot)) if *last == due => *slot = goal,
            _ => self.pending.push_back((due, goal)),
        }
    }

    /// The drive for `substep`, the part being at `value`.
    pub fn drive(&mut self, substep: u64, value: f64) -> Drive {
        while let Some(&(due, goal)) = self.pending.front() {
            if due > substep {
                break;
            }
            self.goal = goal;
            self.pending.pop_front();
        }
        if !self.torque_on {
            return Drive { target: value, stiffness: 0.0, damping: 0.0, most: 0.0 };
        }
        Drive {
            target: value + self.felt_error(value),
            stiffness: self.model.proportional_gain_nm_per_rad,
            damping: self.model.derivative_gain_nm_s_per_rad,
            most: self.model.stall_torque_nm,
        }
    }

    /// What of the position error reaches the part: within the play of the gears the motor turns
    /// without it.
    fn felt_error(&self, value: f64) -> f64 {
        let error = self.goal - value;
        error.signum() * (error.abs() - 0.5 * self.model.backlash_rad).max(0.0)
    }

    /// Share of the stall torque that the motor gives now, −1..1.
    pub fn effort(&self, value: f64, velocity: f64) -> f64 {
        if !self.torque_on {
            return 0.0;
        }
        let torque = self.model.proportional_gain_nm_per_rad * self.felt_error(value) - self.model.derivative_gain_nm_s_per_rad * velocity;
        (torque / self.model.stall_torque_nm).clamp(-1.0, 1.0)
    }

    /// As the part feels it.
    pub fn model(&self) -> &MotorModel {
        &self.model
    }

    /// Every number that decides what this servo will do.
    pub fn digest(&self, mut word: impl FnMut(u64)) {
        word(u64::from(self.torque_on));
        word(self.goal.to_bits());
        for (due, goal) in &self.pending {
            word(*due);
            word(goal.to_bits());
        }
    }
}
