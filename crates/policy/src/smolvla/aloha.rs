//! Between an Aloha's joint values and those of the robots that the base model was trained with. The
//! numbers are LeRobot's; the grippers' come from the Interbotix driver's linkage and a robot that was
//! measured.

/// Joints whose direction differs.
const FLIPPED: [usize; 4] = [1, 2, 8, 9];
const GRIPPERS: [usize; 2] = [6, 13];

/// The gripper's opening in metres at 0 and 1.
const LINEAR: [f32; 2] = [0.01844, 0.05800];
/// The gripper's angle in radians at 0 and 1, as the base model knows it.
const ANGULAR: [f32; 2] = [0.4, 1.5];
/// The same as the Aloha's driver has it.
const JOINT: [f32; 2] = [-0.6213, 1.4910];
/// The linkage, in metres.
const ARM_LENGTH: f32 = 0.036;
const HORN_RADIUS: f32 = 0.022;

fn scaled(value: f32, [low, high]: [f32; 2]) -> f32 {
    value * (high - low) + low
}

fn unscaled(value: f32, [low, high]: [f32; 2]) -> f32 {
    (value - low) / (high - low)
}

/// A state of 14 values or more, for the model.
pub(super) fn decode_state(state: &mut [f32]) {
    flip(state);
    for gripper in GRIPPERS {
        if let Some(value) = state.get_mut(gripper) {
            let opening = scaled(*value, LINEAR);
            let sine = (HORN_RADIUS.powi(2) + opening * opening - ARM_LENGTH.powi(2)) / (2.0 * HORN_RADIUS * opening);
            *value = unscaled(sine.clamp(-1.0, 1.0).asin(), ANGULAR);
        }
    }
}

/// A row of the model's answer, 14 values or more, for the robot.
pub(super) fn encode_action(row: &mut [f32]) {
    flip(row);
    for gripper in GRIPPERS {
        if let Some(value) = row.get_mut(gripper) {
            *value = unscaled(scaled(*value, ANGULAR), JOINT);
        }
    }
}

fn flip(joints: &mut [f32]) {
    for joint in FLIPPED {
        if let Some(value) = joints.get_mut(joint) {
            *value = -*value;
        }
    }
}
