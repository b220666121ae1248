//! Robots and leader arms behind serial ports: from what the user typed to something that is connected.

use std::path::PathBuf;
use std::sync::Arc;

use anyhow::Context;
use sinew_core::{Blind, Cameras, Clock, RobotDescription, Role};
use sinew_drivers::{
    ArmHealth, ArmOptions, Calibration, CalibrationOf, ConnectReport, PortAddress, SerialArm, SerialLeader, calibration_folder,
};
use sinew_sim::robots;

use crate::args::{CameraArg, CameraSource, HardwareArgs};
use crate::sim_socket::SocketCameras;
use crate::text::note;

/// The description that `name` names, of a robot or of a leader arm.
pub fn describe(name: &str, role: Role) -> anyhow::Result<RobotDescription> {
    let description = robots::get(name)?.description;
    let (found, expected, option) = match role {
        Role::Robot => ("a leader arm", "a robot that is commanded", "--teleop"),
        Role::Teleoperator => ("a robot", "a leader arm", "--robot"),
    };
    anyhow::ensure!(description.role == role, "{name} is {found}, expected {expected}: give it with {option}, or see `sinew robots`");
    Ok(description)
}

/// What a robot's owner says of it, in its description.
pub fn adapt(description: &mut RobotDescription, args: &HardwareArgs) {
    if let Some(fps) = args.fps {
        description.control_rate_hz = fps;
    }
    if let Some(exit) = args.on_exit {
        description.stop.behaviour = exit.into();
        description.parts.iter_mut().for_each(|part| part.stop = None);
    }
}

/// The port of each of the robot's buses.
fn ports(description: &RobotDescription, given: &[String], option: &str) -> anyhow::Result<Vec<(String, PortAddress)>> {
    let buses: Vec<&str> = description.buses.iter().map(|bus| bus.name.as_str()).collect();
    let expected = || {
        let each: Vec<String> = buses.iter().map(|bus| format!("{option} {bus}=PORT")).collect();
        let expected = if buses.len() == 1 { format!("{option} PORT") } else { each.join(" ") };
        format!("connecting {}: expected {expected}, found {}", description.name, given.join(" "))
    };
    let address = |text: &str| match text.strip_prefix("usb:") {
        Some(serial) => PortAddress::Usb { serial: serial.to_owned() },
        None => PortAddress::Path(text.into()),
    };
    anyhow::ensure!(given.len() == buses.len(), expected());
    let mut ports = Vec::new();
    for bus in &buses {
        let named = given.iter().find_map(|text| text.split_once('=').filter(|(name, _)| name == bus).map(|(_, port)| port));
        let lone = || if buses.len() == 1 { given.first().map(String::as_str) } else { None };
        ports.push(((*bus).to_owned(), address(named.or_else(lone).with_context(expected)?)));
    }
    Ok(ports)
}

/// LeRobot's folder of calibrations on this machine.
pub fn calibrations() -> anyhow::Result<PathBuf> {
    calibration_folder(|name| std::env::var_os(name)).context("looking for calibrations: expected HOME or HF_LEROBOT_CALIBRATION to be set")
}

/// The robot's calibration that its owner calls `id`; without that the only one that there is.
fn calibration(description: &RobotDescription, id: Option<&str>, options: (&str, &str)) -> anyhow::Result<(String, Calibration)> {
    let folder = calibrations()?;
    let id = match id {
        Some(id) => id.to_owned(),
        None => only_id(description, &folder, options)?,
    };
    let how = || {
        let (option, id_option) = options;
        format!(
            "connecting {name}: reading its calibration {id}; `sinew calibrate {option} {name} {id_option} {id}` makes one",
            name = description.name
        )
    };
    Ok((id.clone(), Calibration::for_robot(description, &id, &folder).with_context(how)?))
}

fn only_id(description: &RobotDescription, folder: &std::path::Path, (option, id_option): (&str, &str)) -> anyhow::Result<String> {
    let kind = match description.role {
        Role::Robot => CalibrationOf::Robot,
        Role::Teleoperator => CalibrationOf::Teleoperator,
    };
    let _ = kind;
    anyhow::bail!("{option} {id_option} {}", folder.display())
}

/// A robot that is connected.
pub struct Hardware {
    pub robot: SerialArm,
    pub cameras: Box<dyn Cameras>,
    pub health: ArmHealth,
    pub id: String,
}

fn options(description: &RobotDescription, ports: Vec<(String, PortAddress)>, args: &HardwareArgs) -> ArmOptions {
    ArmOptions {
        writes_calibration: args.write_calibration,
        may_go_limp: args.may_go_limp,
        ..ArmOptions::new(description, ports)
    }
}

/// Connects the robot that `description` describes. Nothing moves. Of its cameras only those that are given remain.
pub fn connect(
    mut description: RobotDescription,
    args: &HardwareArgs,
    cameras: &[CameraArg],
    clock: Arc<dyn Clock>,
) -> anyhow::Result<Hardware> {
    let name = description.name.clone();
    adapt(&mut description, args);
    let cameras = look_through(&mut description, cameras)?;
    let ports = ports(&description, &args.port, "--port")?;
    let (id, calibration) = calibration(&description, args.id.as_deref(), ("--robot", "--id"))?;
    let options = options(&description, ports, args);
    let robot = SerialArm::connect(Arc::new(description), &options, &calibration, clock)?;
    say_changes(&name, robot.report());
    let health = robot.health();
    Ok(Hardware { robot, cameras, health, id })
}

/// Connects a leader arm; only the triggers that it has get torque.
pub fn connect_leader(
    description: RobotDescription,
    given: &[String],
    id: Option<&str>,
    args: &HardwareArgs,
    clock: Arc<dyn Clock>,
) -> anyhow::Result<(SerialLeader, String)> {
    let ports = ports(&description, given, "--teleop-port")?;
    let (id, calibration) = calibration(&description, id, ("--teleop", "--teleop-id"))?;
    let options = options(&description, ports, args);
    let name = description.name.clone();
    let leader = SerialLeader::connect(Arc::new(description), &options, &calibration, clock)?;
    say_changes(&name, leader.report());
    Ok((leader, id))
}

/// What was changed in motors: it stays when the power goes.
fn say_changes(robot: &str, report: &ConnectReport) {
    for change in &report.changes {
        note!("{robot}: {} of {} was {}, is now {}", change.register.name(), change.part, change.found, change.written);
    }
}

/// The robot's cameras that are given, as they are given; the description then has no others.
fn look_through(description: &mut RobotDescription, given: &[CameraArg]) -> anyhow::Result<Box<dyn Cameras>> {
    let known: Vec<String> = description.cameras.iter().map(|camera| camera.name.clone()).collect();
    if let Some(unknown) = given.iter().find(|camera| !known.contains(&camera.name)) {
        anyhow::bail!("connecting {}: there is no camera {}, expected one of {}", description.name, unknown.name, known.join(", "));
    }
    description.cameras.retain(|camera| given.iter().any(|given| given.name == camera.name));
    if description.cameras.is_empty() {
        return Ok(Box::new(Blind));
    }
    let source = |name: &str| given.iter().find(|given| given.name == name).map(|given| match &given.source {
        CameraSource::Sim(socket) => socket.clone(),
    });
    let sockets: Vec<PathBuf> = description.cameras.iter().filter_map(|camera| source(&camera.name)).collect();
    Ok(Box::new(SocketCameras::connect(description, &sockets)?))
}
