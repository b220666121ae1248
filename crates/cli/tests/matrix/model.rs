//! An arm that is no kinder than the world: servos that lag and are pulled at, encoders with steps and noise, joints
//! that fall when they have no torque.

/// Of a servo as heavy as it is loaded, a second squared and a second.
const STIFFNESS: f64 = 900.0;
const DAMPING: f64 = 54.0;
/// The most that its torque gives, and what gravity takes, rad/s².
const PUSH: f64 = 100.0;
const GRAVITY: f64 = 8.0;
/// Of gears without torque, a second.
const FRICTION: f64 = 6.0;
const STEP_NS: i64 = 1_000_000;
/// Of an encoder, rad.
pub const ENCODER_STEP: f64 = std::f64::consts::TAU / 4096.0;

#[derive(Clone, Copy, Debug)]
struct Joint {
    position: f64,
    velocity: f64,
    goal: f64,
    has_torque: bool,
    /// What it lies on.
    support: f64,
}

/// Some joints, moved on by whoever knows the time.
#[derive(Clone, Debug)]
pub struct Model {
    joints: Vec<Joint>,
    now_ns: Option<i64>,
    noise: u64,
    /// Of any joint, ever.
    pub fastest_per_s: f64,
}

impl Model {
    /// Without torque, each joint lying on something just below.
    pub fn new(positions: &[f64]) -> Self {
        let joint =
            |position: &f64| Joint { position: *position, velocity: 0.0, goal: *position, has_torque: false, support: position - 0.02 };
        Self { joints: positions.iter().map(joint).collect(), now_ns: None, noise: 0x2545_f491_4f6c_dd1d, fastest_per_s: 0.0 }
    }

    pub fn advance_to(&mut self, time_ns: i64) {
        let now_ns = self.now_ns.get_or_insert(time_ns);
        while *now_ns + STEP_NS <= time_ns {
            *now_ns += STEP_NS;
            for joint in &mut self.joints {
                let dt_s = STEP_NS as f64 * 1e-9;
                let servo = if joint.has_torque {
                    (STIFFNESS * (joint.goal - joint.position) - DAMPING * joint.velocity).clamp(-PUSH, PUSH)
                } else {
                    -FRICTION * joint.velocity
                };
                joint.velocity += (servo - GRAVITY * joint.position.cos()) * dt_s;
                joint.position += joint.velocity * dt_s;
                if joint.position < joint.support {
                    (joint.position, joint.velocity) = (joint.support, joint.velocity.max(0.0));
                }
                self.fastest_per_s = self.fastest_per_s.max(joint.velocity.abs());
            }
        }
    }

    pub fn positions(&self) -> Vec<f64> {
        self.joints.iter().map(|joint| joint.position).collect()
    }

    /// What the encoders say: a step off now and then.
    pub fn measured(&mut self) -> Vec<f64> {
        let mut noise = self.noise;
        let measured = self.joints.iter().map(|joint| {
            noise ^= noise << 13;
            noise ^= noise >> 7;
            noise ^= noise << 17;
            ((joint.position / ENCODER_STEP).round() + (noise % 3) as f64 - 1.0) * ENCODER_STEP
        });
        let measured = measured.collect();
        self.noise = noise;
        measured
    }

    /// Goal := present, then torque, of the joint `joint`.
    pub fn enable(&mut self, joint: usize) {
        let joint = &mut self.joints[joint];
        // The support stays where it is: it is the table.
        (joint.goal, joint.has_torque) = (joint.position, true);
    }

    /// The arm is lifted: what it lay on is not below it any more.
    pub fn set_goal(&mut self, joint: usize, goal: f64) {
        self.joints[joint].goal = goal;
        self.joints[joint].support = -3.0;
    }

    /// Goal := present, where there is torque.
    pub fn hold(&mut self) {
        for joint in self.joints.iter_mut().filter(|joint| joint.has_torque) {
            joint.goal = joint.position;
        }
    }
}
