//! What of a description only those know who speak to its motors.

use sinew_core::{Bus, Motor, Part, RobotDescription};
use thiserror::Error;

use crate::ControlTable;
use crate::arm::registers_fault;
use crate::wire::Protocol;

/// A description whose motors can't be those that it says.
#[derive(Debug, Error)]
#[error("checking the motors of {robot}: {what}")]
pub struct MotorsError {
    pub robot: String,
    pub what: String,
}

/// What `protocol` of a bus says. Those that are no motors' on a serial port are known by name only: who speaks them checks
/// the rest.
const OTHERS: [&str; 3] = ["damiao", "robstride", "daemon"];

fn serial(protocol: &str) -> Option<Protocol> {
    match protocol {
        "feetech" => Some(Protocol::Feetech0),
        "feetech1" => Some(Protocol::Feetech1),
        "dynamixel" => Some(Protocol::Dynamixel2),
        _ => None,
    }
}

/// Checks what a description says of its motors against what is known of their models: that the protocol of the bus is
/// theirs and the speed one of them, that ids are within the protocol's, and registers ones that a description may set.
///
/// # Errors
/// The first thing that does not fit.
pub fn check_motors(robot: &RobotDescription) -> Result<(), MotorsError> {
    let refuse = |what| Err(MotorsError { robot: robot.name.clone(), what });
    for bus in &robot.buses {
        if serial(&bus.protocol).is_none() && !OTHERS.contains(&bus.protocol.as_str()) {
            let known = ["feetech", "feetech1", "dynamixel"].into_iter().chain(OTHERS).collect::<Vec<_>>().join(", ");
            return refuse(format!("bus {}: expected one of the protocols {known}, found {}", bus.name, bus.protocol));
        }
    }
    for part in &robot.parts {
        let Some(motor) = &part.motor else { continue };
        let Some(bus) = robot.buses.iter().find(|bus| bus.name == motor.bus) else { continue };
        let fault = match serial(&bus.protocol) {
            Some(protocol) => motor_fault(part, motor, bus, protocol),
            None => can_motor_fault(part, motor, bus),
        };
        if let Some(what) = fault {
            return refuse(what);
        }
    }
    Ok(())
}

fn motor_fault(part: &Part, motor: &Motor, bus: &Bus, protocol: Protocol) -> Option<String> {
    let name = &part.name;
    let Some(table) = ControlTable::of_model(&motor.model) else {
        let known: Vec<&str> = ControlTable::ALL.iter().filter(|table| table.protocol == protocol).map(|table| table.model).collect();
        return Some(format!("{name}: expected a motor model that is known ({}), found {}", known.join(", "), motor.model));
    };
    if table.protocol != protocol {
        return Some(speaks(part, table, bus));
    }
    if motor.id > u16::from(protocol.most_id()) {
        return Some(format!("{name}: expected an id of 0 to {}, as {} has them, found {}", protocol.most_id(), bus.protocol, motor.id));
    }
    if let Some(answer_id) = motor.answer_id {
        return Some(format!("{name}: motors on a {} bus answer from their id, expected no answer_id, found {answer_id}", bus.protocol));
    }
    if let Some(baud) = bus.baud_rate.filter(|baud| table.baud_code(*baud).is_none()) {
        let known: Vec<String> = table.bauds.iter().map(|(baud, _)| baud.to_string()).collect();
        return Some(format!("bus {}: expected a baud_rate that a {} has ({}), found {baud}", bus.name, table.model, known.join(", ")));
    }
    registers_fault(part, table)
}

fn can_motor_fault(part: &Part, motor: &Motor, bus: &Bus) -> Option<String> {
    let most_id = match bus.protocol.as_str() {
        "damiao" => 0x7FE,
        "robstride" => 0xFE,
        _ => return None,
    };
    if let Some(table) = ControlTable::of_model(&motor.model) {
        return Some(speaks(part, table, bus));
    }
    let wrong = [Some(motor.id), motor.answer_id].into_iter().flatten().find(|id| !(1..=most_id).contains(id));
    wrong.map(|id| format!("{}: expected ids of 1 to {most_id}, as {} has them, found {id}", part.name, bus.protocol))
}

fn speaks(part: &Part, table: &ControlTable, bus: &Bus) -> String {
    format!("{}: a {} speaks {}, and its bus {} is {}", part.name, table.model, word(table.protocol), bus.name, bus.protocol)
}

/// As descriptions call it.
fn word(protocol: Protocol) -> &'static str {
    match protocol {
        Protocol::Feetech0 => "feetech",
        Protocol::Feetech1 => "feetech1",
        Protocol::Dynamixel2 => "dynamixel",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const EXAMPLE: &str = include_str!("../../../robots/example/robot.toml");
    const KOCH: &str = include_str!("../../../robots/koch/robot.toml");
    const OPENARM: &str = include_str!("../../../robots/openarm/robot.toml");
    const OMX_LEADER: &str = include_str!("../../../robots/omx_leader/robot.toml");

    /// What is said of `text` with its first `from` made `to`; nothing where it is fine.
    #[track_caller]
    fn said(text: &str, from: &str, to: &str) -> String {
        assert!(text.contains(from), "{from}");
        let robot = RobotDescription::from_toml("it", &text.replacen(from, to, 1)).unwrap();
        check_motors(&robot).err().map_or_else(String::new, |error| error.to_string())
    }

    #[test]
    fn motors_are_on_a_bus_of_theirs() {
        for (from, to, expected) in [
            ("\"feetech\"", "\"dynamixel\"", "turn: a sts3215 speaks feetech, and its bus arm is dynamixel"),
            ("\"feetech\"", "\"feetech1\"", "turn: a sts3215 speaks feetech, and its bus arm is feetech1"),
            ("\"feetech\"", "\"damiao\"", "turn: a sts3215 speaks feetech, and its bus arm is damiao"),
            ("\"feetech\"", "\"feetch\"", "bus arm: expected one of the protocols feetech, feetech1, dynamixel, damiao, robstride, daemon"),
            ("model = \"sts3215\"", "model = \"sts9999\"", "turn: expected a motor model that is known (sts3215, "),
            ("id = 1 ", "id = 254 ", "turn: expected an id of 0 to 253, as feetech has them, found 254"),
            ("id = 1 ", "id = 257 ", "found 257"),
            ("id = 1 ", "id = 1, answer_id = 7 ", "answer from their id, expected no answer_id, found 7"),
            ("baud_rate = 1000000", "baud_rate = 123457", "bus arm: expected a baud_rate that a sts3215 has (1000000, "),
            ("baud_rate = 1000000", "baud_rate = 9600", "found 9600"),
        ] {
            // The simulator has no word for the model.
            let text = EXAMPLE.split("[simulation]").next().unwrap();
            let found = said(text, from, to);
            assert!(found.starts_with("checking the motors of example: ") && found.contains(expected), "{found}, expected {expected}");
        }
        assert!(said(KOCH, "id = 1", "id = 253").contains("an id of 0 to 252, as dynamixel has them"));
        assert_eq!(said(EXAMPLE, "id = 1 ", "id = 253 "), "");
        assert!(said(OPENARM, "answer_id = 17", "answer_id = 2048").contains("joint_1: expected ids of 1 to 2046, as damiao has them"));
        assert!(said(OPENARM, "id = 1,", "id = 0,").contains("found 0"));
        assert_eq!(said(OPENARM, "OpenArm", "OpenArm"), "");
        assert_eq!(said(EXAMPLE, "baud_rate = 1000000\n", ""), "");
    }

    #[test]
    fn registers_that_the_driver_or_a_calibration_owns_are_not_set_by_a_description() {
        let set = |text: &str, id: &str, register: &str| said(text, id, &format!("{id}, registers = {{ {register} }}"));
        for register in [
            "id = 5",
            "baud_rate = 7",
            "torque_enable = 1",
            "goal_position = 4000",
            "goal_velocity = 100",
            "goal_time = 9",
            "lock = 1",
            "homing_offset = 1000",
            "operating_mode = 1",
            "min_position_limit = 4000",
            "max_position_limit = 10",
            "phase = 16",
            "angular_resolution = 3",
            "response_status_level = 0",
            "present_position = 1",
        ] {
            let found = set(EXAMPLE, "id = 1", register);
            let name = register.split(' ').next().unwrap();
            assert!(found.contains(&format!("turn: expected registers that a description may set, found {name}")), "{register}: {found}");
        }
        for register in [
            "secondary_id = 7",
            "protocol_type = 2",
            "operating_mode = 0",
            "homing_offset = 5",
            "min_position_limit = 4",
            "goal_position = 4",
            "goal_pwm = 800",
            "bus_watchdog = 1",
            "status_return_level = 0",
        ] {
            let found = set(KOCH, "id = 1", register);
            assert!(found.contains("expected registers that a description may set"), "{register}: {found}");
        }
        assert!(set(EXAMPLE, "id = 1", "nix = 5").contains("turn: expected registers of a sts3215, found nix"));
        assert!(set(EXAMPLE, "id = 1", "p_coefficient = 99999").contains("the value 99999 does not fit"));
        assert!(set(EXAMPLE, "id = 1", "p_coefficient = -1").contains("the value -1 does not fit"));
        // Beside the direction the register has a bit with which a goal switches torque on.
        assert!(set(KOCH, "id = 1", "drive_mode = 8").contains("that a description may set, found drive_mode = 8"));
        assert_eq!(set(KOCH, "id = 1", "drive_mode = 1"), "");
        for fine in ["p_coefficient = 20", "maximum_acceleration = 30", "max_torque_limit = 400"] {
            assert_eq!(set(EXAMPLE, "id = 1", fine), "");
        }
        // Where nobody calibrates, the description has the offset.
        assert_eq!(said(OMX_LEADER, "homing_offset = 100", "homing_offset = 50"), "");
        let moved = said(OMX_LEADER, "homing_offset = 100 }, calibration = \"fixed\"", "homing_offset = 100 }");
        assert!(moved.contains("expected registers that a description may set, found homing_offset"), "{moved}");
    }
}
