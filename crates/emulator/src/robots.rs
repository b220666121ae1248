//! Robots as lists of motors.

use sinew_core::{DescriptionError, Part, PartKind, RobotDescription};
use sinew_drivers::ControlTable;
use sinew_drivers::wire::Protocol;
use thiserror::Error;

use crate::motor::{Firmware, Joint};

/// What gravity does to the joints of an arm that is stretched out, as parts of each motor's full torque. No description
/// says it.
const PULL: [(&str, f64); 3] = [("shoulder_lift", 0.15), ("elbow_flex", -0.12), ("wrist_flex", 0.05)];

/// A joint that goes this far, in radians, goes on without end.
const WHOLE_TURN: f64 = 5.4;

/// Protocols that descriptions name and this crate plays.
const PLAYED: [&str; 3] = ["feetech", "feetech1", "dynamixel"];

/// A description of a robot that nothing here can play.
#[derive(Debug, Error)]
pub enum RobotError {
    #[error(transparent)]
    Description(#[from] DescriptionError),
    #[error("emulating {robot}: its bus {bus} uses {protocol}, which is not emulated; expected one of {}", PLAYED.join(", "))]
    Protocol { robot: String, bus: String, protocol: String },
    #[error("emulating {robot}: the motor of {part} is a {model}, expected one of a model that has a control table")]
    Model { robot: String, part: String, model: String },
    #[error("emulating {robot}: the motor of {part} has the id {id}, expected 0 to 252")]
    Id { robot: String, part: String, id: u16 },
    #[error("emulating {robot}: the motors of {one} and {other} are on the bus {bus} and speak different protocols")]
    Mixed { robot: String, bus: String, one: String, other: String },
}

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

    /// The motors of a robot, a wire for each of its buses that has motors: the bus's name, and what is on it. Its joints
    /// are as those of [`new`](Self::new); those that turn a whole turn go on without end, and gravity pulls at those of an arm.
    ///
    /// # Errors
    /// When a bus is no wire that motors answer on, or a motor none that is known.
    pub fn from_description(robot: &RobotDescription) -> Result<Vec<(String, Self)>, RobotError> {
        let mut wires = Vec::new();
        for bus in &robot.buses {
            let parts: Vec<&Part> =
                robot.parts.iter().filter(|part| part.motor.as_ref().is_some_and(|motor| motor.bus == bus.name)).collect();
            let Some(first) = parts.first() else { continue };
            if !PLAYED.contains(&bus.protocol.as_str()) {
                let (robot, bus, protocol) = (robot.name.clone(), bus.name.clone(), bus.protocol.clone());
                return Err(RobotError::Protocol { robot, bus, protocol });
            }
            let motors = parts.iter().map(|part| motor_of(robot, part)).collect::<Result<Vec<_>, _>>()?;
            let protocol = motors[0].2.protocol;
            if let Some((other, _)) = parts.iter().zip(&motors).find(|(_, (.., table))| table.protocol != protocol) {
                let (robot, bus) = (robot.name.clone(), bus.name.clone());
                return Err(RobotError::Mixed { robot, bus, one: first.name.clone(), other: other.name.clone() });
            }
            let name = if robot.buses.len() == 1 { robot.name.clone() } else { format!("{} {}", robot.name, bus.name) };
            let mut wire = Self::new(&name, protocol, motors);
            for (joint, part) in wire.joints.iter_mut().zip(parts) {
                if turns_whole(part) {
                    joint.stops = (f64::NEG_INFINITY, f64::INFINITY);
                }
                joint.load = PULL.iter().find(|(name, _)| part.name.ends_with(name)).map_or(0.0, |(_, pull)| *pull);
            }
            wires.push((bus.name.clone(), wire));
        }
        Ok(wires)
    }
}

fn motor_of(robot: &RobotDescription, part: &Part) -> Result<(String, u8, &'static ControlTable), RobotError> {
    let (model, id) = part.motor.as_ref().map_or(("", 0), |motor| (motor.model.as_str(), motor.id));
    let (robot, name) = (|| robot.name.clone(), || part.name.clone());
    let table = ControlTable::of_model(model).ok_or_else(|| RobotError::Model { robot: robot(), part: name(), model: model.to_owned() })?;
    let address = u8::try_from(id).ok().filter(|id| *id <= 252).ok_or_else(|| RobotError::Id { robot: robot(), part: name(), id })?;
    Ok((name(), address, table))
}

fn turns_whole(part: &Part) -> bool {
    let range = part.limits.position.or(part.range);
    matches!(part.kind, PartKind::Continuous | PartKind::Wheel) || range.is_some_and(|[lower, upper]| upper - lower > WHOLE_TURN)
}

/// Those that tests know by name.
macro_rules! known {
    ($($function:ident $folder:literal)*) => {
        impl Robot {
            $(
                #[doc = concat!("`robots/", $folder, "` on its only bus.")]
                ///
                /// # Panics
                /// When that file is none that can be played, which a test rules out.
                pub fn $function() -> Self {
                    only(include_str!(concat!("../../../robots/", $folder, "/robot.toml")))
                }
            )*
        }
    };
}

known! {
    so101_follower "so101"
    so101_leader "so101_leader"
    koch_follower "koch"
    koch_leader "koch_leader"
    omx_follower "omx"
    omx_leader "omx_leader"
    lekiwi "lekiwi"
    hope_jr_hand "hope_jr_hand"
    hope_jr_arm "hope_jr_arm"
}

#[allow(clippy::expect_used, reason = "the files are those of the repository")]
fn only(text: &str) -> Robot {
    let included = |name: &str| (name == "so101").then(|| include_str!("../../../robots/so101/robot.toml").to_owned());
    let description = RobotDescription::from_toml_with("robot.toml", text, &included).expect("a robot of the repository");
    let mut wires = Robot::from_description(&description).expect("a robot on a serial bus");
    wires.remove(0).1
}

#[cfg(test)]
mod tests {
    use super::*;

    fn text(name: &str) -> Option<String> {
        let folder = std::path::Path::new(&std::env::var("CARGO_MANIFEST_DIR").unwrap()).join("../../robots");
        std::fs::read_to_string(folder.join(name).join("robot.toml")).ok()
    }

    fn read(text_of: &str) -> RobotDescription {
        RobotDescription::from_toml_with("it", text_of, &text).unwrap_or_else(|error| panic!("{error:?}"))
    }

    #[test]
    fn a_robot_is_a_wire_for_each_of_its_buses() {
        let wires = Robot::from_description(&read(&text("bi_so").unwrap())).unwrap();
        assert_eq!(
            wires.iter().map(|(bus, robot)| (bus.as_str(), robot.name.as_str())).collect::<Vec<_>>(),
            [("left", "bi_so left"), ("right", "bi_so right")]
        );
        for (side, robot) in &wires {
            assert_eq!(robot.joints.iter().map(|joint| joint.id).collect::<Vec<_>>(), [1, 2, 3, 4, 5, 6]);
            assert_eq!(robot.joints[1].name, format!("{side}_shoulder_lift"));
            assert_eq!(robot.joints[1].load, 0.15);
        }
        let lekiwi = Robot::lekiwi();
        assert_eq!(lekiwi.joints.len(), 9);
        let endless: Vec<&str> =
            lekiwi.joints.iter().filter(|joint| joint.stops.1.is_infinite()).map(|joint| joint.name.as_str()).collect();
        assert_eq!(endless, ["arm_wrist_roll", "base_left_wheel", "base_back_wheel", "base_right_wheel"]);
    }

    #[test]
    fn registers_in_descriptions_are_ones_that_the_motor_has() {
        let folder = std::path::Path::new(&std::env::var("CARGO_MANIFEST_DIR").unwrap()).join("../../robots");
        let names = std::fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().file_name().into_string().unwrap());
        let mut count = 0;
        for part in names.filter_map(|name| text(&name)).flat_map(|own| read(&own).parts) {
            let Some(motor) = part.motor.filter(|motor| !motor.registers.is_empty()) else { continue };
            let table = ControlTable::of_model(&motor.model).unwrap();
            for (name, value) in &motor.registers {
                let register = sinew_drivers::Register::ALL.iter().copied().find(|register| register.name() == name);
                let register = register.unwrap_or_else(|| panic!("{name} of {}", part.name));
                assert!(table.encode(register, sinew_drivers::MotorId(motor.id), *value).is_ok(), "{name} = {value} of {}", part.name);
                count += 1;
            }
        }
        assert!(count > 20, "{count}");
    }

    #[test]
    fn what_can_not_be_played_is_said() {
        let refused = |text_of: &str| Robot::from_description(&read(text_of)).unwrap_err().to_string();
        let so101 = text("so101").unwrap();
        assert_eq!(
            refused(&text("openarm").unwrap()),
            "emulating openarm: its bus can uses damiao, which is not emulated; expected one of feetech, feetech1, dynamixel"
        );
        assert_eq!(
            refused(&so101.split("[simulation]").next().unwrap().replacen("sts3215\", id = 3", "sts9\", id = 3", 1)),
            "emulating so101: the motor of elbow_flex is a sts9, expected one of a model that has a control table"
        );
        let plain = so101.split("[simulation]").next().unwrap();
        assert!(refused(&plain.replace("id = 3", "id = 300")).contains("the id 300, expected 0 to 252"));
        let mixed = refused(&plain.replace("sts3215\", id = 3", "xl330-m288\", id = 3"));
        assert_eq!(mixed, "emulating so101: the motors of shoulder_pan and elbow_flex are on the bus arm and speak different protocols");
    }

    #[test]
    fn robots_that_tests_know_by_name_are_there() {
        let known = [
            Robot::so101_follower(),
            Robot::so101_leader(),
            Robot::koch_follower(),
            Robot::koch_leader(),
            Robot::omx_follower(),
            Robot::omx_leader(),
            Robot::lekiwi(),
            Robot::hope_jr_hand(),
            Robot::hope_jr_arm(),
        ];
        let found: Vec<(String, usize)> = known.iter().map(|robot| (robot.name.clone(), robot.joints.len())).collect();
        let names = ["so101", "so101_leader", "koch", "koch_leader", "omx", "omx_leader", "lekiwi", "hope_jr_hand", "hope_jr_arm"];
        let counts = [6, 6, 6, 6, 6, 6, 9, 16, 7];
        assert_eq!(found, names.iter().zip(counts).map(|(name, count)| ((*name).to_owned(), count)).collect::<Vec<_>>());
    }
}
