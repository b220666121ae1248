//! An SO-101 of emulated motors, and a loop that drives it.

use std::sync::Arc;
use std::time::Duration;

use sinew_core::{Armed, Clock, Observation, Part, PartKind, RobotDescription, Role, StopBehaviour, Tick, Timestamp, Unwatched, Wanted};
use sinew_drivers::{ArmOptions, Calibration, ConnectError, MotorCalibration, PortAddress, SerialArm};

use super::Bench;

pub const ARM: [&str; 6] = ["shoulder_pan", "shoulder_lift", "elbow_flex", "wrist_flex", "wrist_roll", "gripper"];
pub const PERIOD: Duration = Duration::from_nanos(16_666_667);

pub fn so101() -> RobotDescription {
    RobotDescription::from_toml("so101", include_str!("../../../../robots/so101/robot.toml")).unwrap()
}

pub fn with_stop(behaviour: StopBehaviour) -> RobotDescription {
    let mut robot = so101();
    robot.stop.behaviour = behaviour;
    robot
}

/// Of all but the roll, whose turn is whole.
pub fn calibration() -> Calibration {
    let of = |(name, id): (&str, u16)| {
        let (range_min, range_max) = if name == "wrist_roll" { (0, 4095) } else { (700, 3400) };
        (name.to_owned(), MotorCalibration { id, drive_mode: 0, homing_offset: 0, range_min, range_max })
    };
    Calibration::new(ARM.into_iter().zip(1..).map(of))
}

pub fn options(bench: &Bench, robot: &RobotDescription) -> ArmOptions {
    let port = PortAddress::Path(bench.emulator.port().to_str().unwrap().to_owned());
    ArmOptions { writes_calibration: true, latency: Duration::from_millis(5), ..ArmOptions::new(robot, vec![("arm".into(), port)]) }
}

pub fn try_connect(bench: &Bench, robot: RobotDescription) -> Result<SerialArm, ConnectError> {
    let options = options(bench, &robot);
    SerialArm::connect(Arc::new(robot), &options, &calibration(), bench.clock.clone())
}

pub fn connect(bench: &Bench, robot: RobotDescription) -> SerialArm {
    try_connect(bench, robot).unwrap()
}

/// The loop's clock work: ticks at their due times.
pub struct Loop {
    begin: Timestamp,
    pub turn: u64,
}

impl Loop {
    pub fn new(bench: &Bench) -> Self {
        Self { begin: bench.clock.now(), turn: 0 }
    }

    /// Waits for the next tick; one that was missed is skipped.
    pub fn tick(&mut self, bench: &Bench) -> Tick {
        loop {
            let due = self.begin + PERIOD * u32::try_from(self.turn).unwrap();
            self.turn += 1;
            if due + PERIOD > bench.clock.now() {
                bench.clock.sleep_until(due);
                return Tick { turn: self.turn - 1, due, period: PERIOD, wants_images: false };
            }
        }
    }
}

pub fn arm<'a>(bench: &'a Bench, robot: &'a mut SerialArm, observation: &mut Observation) -> Armed<'a> {
    let tick = Tick { turn: 0, due: bench.clock.now(), period: PERIOD, wants_images: false };
    Armed::new(robot, &Unwatched, bench.clock.as_ref(), &tick, observation).unwrap()
}

pub fn wanted(robot: &RobotDescription, goals: &[f64], time: Timestamp) -> Wanted {
    Wanted { goals: goals.to_vec(), time, ..Wanted::for_robot(robot) }
}

/// Of any robot: its joints have most of their turns, its wheels all.
pub fn calibration_of(robot: &RobotDescription) -> Calibration {
    let of = |part: &Part| {
        let motor = part.motor.as_ref()?;
        let (range_min, range_max) = match (part.kind, motor.model.as_str()) {
            (PartKind::Wheel, _) => (0, 4095),
            (_, "scs0009") => (200, 800),
            _ => (700, 3400),
        };
        Some((part.name.clone(), MotorCalibration { id: motor.id, drive_mode: 0, homing_offset: 0, range_min, range_max }))
    };
    Calibration::new(robot.parts.iter().filter_map(of))
}

/// Connects any robot, each of whose buses has a bench of its own.
pub fn connect_all(benches: &[(&str, &Bench)], robot: &RobotDescription) -> Result<SerialArm, ConnectError> {
    let port = |bench: &Bench| PortAddress::Path(bench.emulator.port().to_str().unwrap().to_owned());
    let ports = benches.iter().map(|(bus, bench)| ((*bus).to_owned(), port(bench))).collect();
    let options = ArmOptions { writes_calibration: true, latency: Duration::from_millis(5), ..ArmOptions::new(robot, ports) };
    // A machine that is busy stands still for longer than a robot may be silent.
    let mut patient = robot.clone();
    patient.feedback.fault_age_ms = 5000;
    SerialArm::connect(Arc::new(patient), &options, &calibration_of(robot), benches[0].1.clock.clone())
}

/// `robot` as one that is moved by hand.
pub fn leader_of(mut robot: RobotDescription) -> RobotDescription {
    robot.role = Role::Teleoperator;
    robot.parts.iter_mut().for_each(|part| part.command = None);
    robot
}

pub fn koch() -> RobotDescription {
    RobotDescription::from_toml("koch", include_str!("../../../../robots/koch/robot.toml")).unwrap()
}

/// Of those that the core tries descriptions with.
pub fn described(name: &str) -> RobotDescription {
    let texts = |name: &str| {
        Some(match name {
            "so101" => include_str!("../../../../robots/so101/robot.toml"),
            "lekiwi" => include_str!("../../../../robots/lekiwi/robot.toml"),
            "bi_so" => include_str!("../../../../robots/bi_so/robot.toml"),
            "hope_jr_hand" => include_str!("../../../../robots/hope_jr_hand/robot.toml"),
            _ => return None,
        })
    };
    RobotDescription::from_toml_with(name, texts(name).unwrap(), &|name| texts(name).map(str::to_owned)).unwrap()
}

/// Koch's leader, whose gripper is a trigger.
pub fn koch_leader() -> RobotDescription {
    let mut robot = leader_of(koch());
    robot.parts.iter_mut().for_each(|part| part.motor.as_mut().unwrap().model = "xl330-m077".into());
    robot.parts[5].trigger = Some(0.8);
    robot
}
