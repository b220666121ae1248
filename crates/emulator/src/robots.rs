//! Robots as lists of motors.

use sinew_drivers::ControlTable;
use sinew_drivers::tables::{SCS0009, SM8512BL, STS3215, STS3250, XL330_M077, XL330_M288, XL430_W250};
use sinew_drivers::wire::Protocol;

use crate::motor::{Firmware, Joint};

/// The names of an arm with five joints and a gripper.
const ARM: [&str; 6] = ["shoulder_pan", "shoulder_lift", "elbow_flex", "wrist_flex", "wrist_roll", "gripper"];

/// What gravity does to such an arm that is stretched out, as parts of each motor's full torque.
const PULL: [f64; 6] = [0.0, 0.15, -0.12, 0.05, 0.0, 0.0];

/// A robot on one bus.
#[derive(Clone, Debug, PartialEq)]
pub struct Robot {
    pub name: String,
    pub joints: Vec<Joint>,
    pub firmware: Firmware,
    /// Motors as they leave the factory, whose ids and speeds are not yet set.
    pub is_new: bool,
}

impl Robot {
    /// Motors by name, id and model, each with its joint in the middle of its turn, free to go from 200 to 3900 of 4096
    /// ticks (and as much of a smaller turn), with nothing that pulls at it.
    pub fn new(name: &str, protocol: Protocol, motors: impl IntoIterator<Item = (String, u8, &'static ControlTable)>) -> Self {
        let joints = motors.into_iter().map(|(name, id, table)| {
            let turn = f64::from(table.resolution);
            Joint { name, id, table, position: turn / 2.0, stops: (turn * 200.0 / 4096.0, turn * 3900.0 / 4096.0), load: 0.0 }
        });
        Self { name: name.to_owned(), joints: joints.collect(), firmware: Firmware::of(protocol), is_new: false }
    }

    /// A single motor as it leaves the factory.
    pub fn new_motor(table: &'static ControlTable) -> Self {
        Self { is_new: true, ..Self::new("new motor", table.protocol, [("motor".to_owned(), 1, table)]) }
    }

    fn arm(name: &str, protocol: Protocol, ids: impl IntoIterator<Item = u8>, tables: [&'static ControlTable; 6]) -> Self {
        let motors = ARM.iter().zip(ids).zip(tables).map(|((name, id), table)| ((*name).to_owned(), id, table));
        let mut robot = Self::new(name, protocol, motors);
        for (joint, pull) in robot.joints.iter_mut().zip(PULL) {
            joint.load = pull;
            if joint.name == "wrist_roll" {
                joint.stops = (f64::NEG_INFINITY, f64::INFINITY);
            }
        }
        robot
    }

    pub fn so101_follower() -> Self {
        Self::arm("so101_follower", Protocol::Feetech0, 1..=6, [&STS3215; 6])
    }

    /// Its gears are lighter and its gripper is a trigger, but its motors are the follower's.
    pub fn so101_leader() -> Self {
        Self { name: "so101_leader".to_owned(), ..Self::so101_follower() }
    }

    pub fn koch_follower() -> Self {
        Self::arm(
            "koch_follower",
            Protocol::Dynamixel2,
            1..=6,
            [&XL430_W250, &XL430_W250, &XL330_M288, &XL330_M288, &XL330_M288, &XL330_M288],
        )
    }

    pub fn koch_leader() -> Self {
        Self::arm("koch_leader", Protocol::Dynamixel2, 1..=6, [&XL330_M077; 6])
    }

    pub fn omx_follower() -> Self {
        Self::arm(
            "omx_follower",
            Protocol::Dynamixel2,
            11..=16,
            [&XL430_W250, &XL430_W250, &XL430_W250, &XL330_M288, &XL330_M288, &XL330_M288],
        )
    }

    pub fn omx_leader() -> Self {
        let motors = [&XL330_M288, &XL330_M288, &XL330_M288, &XL330_M288, &XL330_M288, &XL330_M077];
        Self::arm("omx_leader", Protocol::Dynamixel2, 1..=6, motors)
    }

    /// An SO-101 on three wheels.
    pub fn lekiwi() -> Self {
        let mut robot = Self { name: "lekiwi".to_owned(), ..Self::so101_follower() };
        for joint in &mut robot.joints {
            joint.name = format!("arm_{}", joint.name);
        }
        for (name, id) in [("base_left_wheel", 7), ("base_back_wheel", 8), ("base_right_wheel", 9)] {
            let stops = (f64::NEG_INFINITY, f64::INFINITY);
            robot.joints.push(Joint { name: name.to_owned(), id, table: &STS3215, position: 2048.0, stops, load: 0.0 });
        }
        robot
    }

    pub fn hope_jr_hand() -> Self {
        let fingers = ["index", "middle", "ring", "pinky"];
        let parts = ["radial_flexor", "ulnar_flexor", "pip_dip"];
        let thumb = ["thumb_cmc", "thumb_mcp", "thumb_pip", "thumb_dip"].map(str::to_owned);
        let rest = fingers.iter().flat_map(|finger| parts.iter().map(move |part| format!("{finger}_{part}")));
        let motors = thumb.into_iter().chain(rest).zip(1..).map(|(name, id)| (name, id, &SCS0009));
        Self::new("hope_jr_hand", Protocol::Feetech1, motors)
    }

    pub fn hope_jr_arm() -> Self {
        let names = ["shoulder_pitch", "shoulder_yaw", "shoulder_roll", "elbow_flex", "wrist_roll", "wrist_yaw", "wrist_pitch"];
        let motors = names.iter().zip(1..).map(|(name, id)| ((*name).to_owned(), id, if id == 1 { &SM8512BL } else { &STS3250 }));
        Self::new("hope_jr_arm", Protocol::Feetech0, motors)
    }

    /// All that have a name.
    pub fn all() -> Vec<Self> {
        vec![
            Self::so101_follower(),
            Self::so101_leader(),
            Self::koch_follower(),
            Self::koch_leader(),
            Self::omx_follower(),
            Self::omx_leader(),
            Self::lekiwi(),
            Self::hope_jr_hand(),
            Self::hope_jr_arm(),
        ]
    }
}
