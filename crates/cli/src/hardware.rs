//! Robots and leader arms: from what the user typed to something that is connected.

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use anyhow::Context;
use sinew_core::{CameraDescription, Cameras, Clock, Fnv1a, Image, RobotDescription, Role, Tick, check_name};
use sinew_drivers::camera::{CameraAddress, SourceAddress};
use sinew_drivers::setup::{Aim, Calibrator, SetupError, Unfinished};
use sinew_drivers::{
    ArmOptions, Calibration, CalibrationFile, ConnectReport, LeKiwiCameras, PortAddress, SerialArm, SerialLeader, WhenLost,
    calibration_files, check_motors,
};
use sinew_sim::robots;

use crate::args::{HardwareArgs, PortArg, misuse};
use crate::arm::calibrations;
use crate::buses::Connected;
use crate::cameras::{self, Looking};
use crate::jpeg;
use crate::text::note;
use crate::way::Way;

/// How long a host's first picture may take, and how often one looks.
const PICTURE_WITHIN: Duration = Duration::from_secs(5);
const LOOK_EVERY: Duration = Duration::from_millis(10);
/// Where the word is that a LeKiwi's host and its clients share.
pub const TOKEN: &str = "SINEW_TOKEN";

/// The description that `name` names, of a robot or of a leader arm.
pub fn describe(name: &str, role: Role) -> anyhow::Result<RobotDescription> {
    let description = robots::get(name)?.description;
    check_motors(&description)?;
    let (found, expected, option) = match role {
        Role::Robot => ("a leader arm", "a robot that is commanded", "--teleop"),
        Role::Teleoperator => ("a robot", "a leader arm", "--robot"),
    };
    if description.role != role {
        misuse!("{name} is {found}, expected {expected}: give it with {option}, or see `sinew robots`");
    }
    Ok(description)
}

/// The robot as its owner has it: with the cameras that are given only, at the rate and with the end that he wants.
pub fn describe_unit(name: &str, args: &HardwareArgs, cameras: &[CameraAddress]) -> anyhow::Result<RobotDescription> {
    let mut description = describe(name, Role::Robot)?;
    if let Some(fps) = args.fps {
        description.control_rate_hz = fps;
    }
    if let Some(exit) = args.on_exit {
        description.stop.behaviour = exit.into();
        description.parts.iter_mut().for_each(|part| part.stop = None);
    }
    if let Some((_, twice)) = cameras.iter().enumerate().find(|(i, camera)| cameras[..*i].iter().any(|other| other.name == camera.name)) {
        misuse!("--camera {}: it is given twice, expected each camera once", twice.name);
    }
    // Of a file, a pattern or a world there may be several.
    let is_one = |camera: &&CameraAddress| {
        !matches!(camera.source, SourceAddress::File(_) | SourceAddress::Pattern | SourceAddress::Sim(_) | SourceAddress::LeKiwi)
    };
    for (i, camera) in cameras.iter().enumerate() {
        if let Some(other) = cameras[..i].iter().filter(is_one).find(|other| other.source == camera.source) {
            misuse!("--camera {}={}: that is camera {}, expected another one", camera.name, camera.source, other.name);
        }
    }
    let known = std::mem::take(&mut description.cameras);
    let is_there = |given: &CameraAddress| known.iter().any(|camera| camera.name == given.name);
    // Its host has those that it has.
    if let Some(unknown) = cameras.iter().find(|given| given.source == SourceAddress::LeKiwi && !is_there(given)) {
        let known: Vec<&str> = known.iter().map(|camera| camera.name.as_str()).collect();
        misuse!("--camera {}: {name} has no such camera, expected one of {}", unknown.name, known.join(", "));
    }
    let given = |name: &str| cameras.iter().find(|given| given.name == name);
    let those = known.iter().filter_map(|camera| Some(cameras::describe(given(&camera.name)?, Some(camera))));
    let others = cameras.iter().filter(|given| !is_there(given)).map(|given| cameras::describe(given, None));
    description.cameras = those.chain(others).collect();
    // Before anything is fetched or opened.
    Way::of(&description, &args.port, "--port")?.check(&description, args, cameras)?;
    Ok(description)
}

/// What clients and host of a LeKiwi share, where it is given.
pub fn token(given: Option<&str>) -> Option<String> {
    given.map(str::to_owned).or_else(|| std::env::var(TOKEN).ok()).filter(|token| !token.is_empty())
}

/// The serial ports of a robot that can be set up, or that leads.
pub fn serial_ports(robot: &RobotDescription, given: &[PortArg], option: &str) -> anyhow::Result<Vec<(String, PortAddress)>> {
    match Way::of(robot, given, option)? {
        Way::Serial(ports) => Ok(ports),
        _ => misuse!("{option} of {}: expected a serial port of this machine, which its motors are not on", robot.name),
    }
}

/// The robot's calibration that its owner calls `id`; without that the only one that there is. One that was cut off while it was written
/// is finished before.
fn calibration(
    description: &RobotDescription,
    id: Option<&str>,
    names: (&str, &str),
    options: &ArmOptions,
    clock: &Arc<dyn Clock>,
) -> anyhow::Result<(String, Calibration)> {
    let folder = calibrations()?;
    let id = match id {
        Some(id) => id.to_owned(),
        None => only_id(description, &folder, names)?,
    };
    finish(description, &calibration_files(description, &id, &folder)?, options, clock)?;
    let how = || {
        let (option, id_option) = names;
        format!(
            "connecting {name}: reading its calibration {id}; `sinew calibrate {option} {name} {id_option} {id}` makes one",
            name = description.name
        )
    };
    Ok((id.clone(), Calibration::for_robot(description, &id, &folder).with_context(how)?))
}

/// Brings a calibration to its end that was being written when its process was gone.
fn finish(robot: &RobotDescription, files: &[CalibrationFile], options: &ArmOptions, clock: &Arc<dyn Clock>) -> anyhow::Result<()> {
    let doing = || format!("finishing the calibration of {}, which was cut off while it was written", robot.name);
    let Some(left) = Unfinished::read(files).with_context(doing)? else { return Ok(()) };
    let mut calibrator = Calibrator::open(Arc::new(robot.clone()), &options.ports, options.latency, clock.clone()).with_context(doing)?;
    if options.may_go_limp {
        calibrator.go_limp().with_context(doing)?;
    }
    let name = &robot.name;
    match left.finish(&mut calibrator, robot, files) {
        Ok(Aim::Keep) => note!("{name}: its calibration was cut off while it was written; motors and file now hold what was measured"),
        Ok(Aim::Write) => note!("{name}: the writing of its calibration was cut off; the motors now hold what the file says"),
        Ok(Aim::Undo) => note!("{name}: its calibration was ended while it was written; the motors hold again what they held before"),
        // If they hold what the file says, nothing is left to do; if not, who connects is told so.
        Err(error @ SetupError::Otherwise { .. }) => {
            note!("{name}: a calibration that was cut off is not finished: {error}");
            Unfinished::end(files).with_context(doing)?;
        }
        Err(error) => return Err(error).with_context(doing),
    }
    Ok(())
}

/// The ids of which all files are there, or were about to be when their process was gone.
pub fn ids_of(description: &RobotDescription, folder: &Path) -> anyhow::Result<Vec<String>> {
    const PROBE: &str = "ID";
    let files = calibration_files(description, PROBE, folder)?;
    let mut ids = Vec::new();
    if let Some(first) = files.first()
        && let Some(ending) = first.path.file_name().and_then(|name| name.to_str()).and_then(|name| name.strip_prefix(PROBE))
    {
        let places = std::iter::once(&first.path).chain(&first.old_paths).filter_map(|path| path.parent());
        let entries = places.filter_map(|place| std::fs::read_dir(place).ok()).flatten().flatten();
        let id = |name: &str| Some(name.strip_suffix(Unfinished::ENDING).unwrap_or(name).strip_suffix(ending)?.to_owned());
        let names = entries.filter_map(|entry| id(entry.file_name().to_str()?));
        // LeRobot calls a file so whose robot nobody gave a name.
        ids.extend(names.filter(|id| id != "None" && check_name(id).is_ok()));
    }
    ids.sort();
    ids.dedup();
    ids.retain(|id| {
        calibration_files(description, id, folder).is_ok_and(|files| {
            files.iter().all(|file| file.found().is_some()) || Unfinished::path(&files).is_some_and(|path| path.is_file())
        })
    });
    Ok(ids)
}

/// The only one of them.
fn only_id(description: &RobotDescription, folder: &Path, (option, id_option): (&str, &str)) -> anyhow::Result<String> {
    let name = &description.name;
    match &ids_of(description, folder)?[..] {
        [id] => Ok(id.clone()),
        [] => anyhow::bail!(
            "connecting {name}: expected a calibration of it in {}, found none; `sinew calibrate {option} {name} … {id_option} NAME` makes one",
            folder.display()
        ),
        several => anyhow::bail!("connecting {name}: expected {id_option} to say which calibration, found {}", several.join(", ")),
    }
}

/// A robot that is connected.
pub struct Hardware {
    pub robot: Box<dyn Connected>,
    pub cameras: Looking,
    pub calibration: Option<InUse>,
}

/// The calibration that a robot is worked with.
pub struct InUse {
    pub id: String,
    digest: u64,
}

impl InUse {
    fn of(id: String, calibration: &Calibration) -> Self {
        let mut digest = Fnv1a::default();
        digest.write(calibration.to_json().as_bytes());
        Self { id, digest: digest.finish() }
    }

    /// Its name and what tells it from others of the name.
    pub fn in_words(&self) -> String {
        format!("{} {:016x}", self.id, self.digest)
    }
}

impl Hardware {
    /// With which calibration, for people.
    pub fn calibrated(&self) -> String {
        self.calibration.as_ref().map_or_else(String::new, |calibration| format!(" ({})", calibration.id))
    }
}

fn options(description: &RobotDescription, ports: Vec<(String, PortAddress)>, args: &HardwareArgs) -> ArmOptions {
    let usual = ArmOptions::new(description, ports);
    ArmOptions {
        latency: args.latency_ms.map_or(usual.latency, Duration::from_millis),
        writes_calibration: args.write_calibration,
        may_go_limp: args.may_go_limp,
        when_lost: match args.patience() {
            Duration::ZERO => WhenLost::End,
            within => WhenLost::Resume { within },
        },
        ..usual
    }
}

/// Connects the robot that `description` describes. Nothing moves.
pub fn connect(
    description: RobotDescription,
    args: &HardwareArgs,
    cameras: &[CameraAddress],
    clock: Arc<dyn Clock>,
) -> anyhow::Result<Hardware> {
    let ports = match Way::of(&description, &args.port, "--port")? {
        Way::Serial(ports) => ports,
        way => return connect_away(way, description, args, cameras, clock),
    };
    let cameras = cameras::open(&description, cameras, args.patience(), clock.clone())?;
    let options = options(&description, ports, args);
    let (id, calibration) = calibration(&description, args.id.as_deref(), ("--robot", "--id"), &options, &clock)?;
    let name = description.name.clone();
    let robot = SerialArm::connect(Arc::new(description), &options, &calibration, clock)?;
    say_changes(&name, robot.report());
    Ok(Hardware { robot: Box::new(robot), cameras, calibration: Some(InUse::of(id, &calibration)) })
}

/// Connects a robot that is not on a serial port.
fn connect_away(
    way: Way,
    description: RobotDescription,
    args: &HardwareArgs,
    cameras: &[CameraAddress],
    clock: Arc<dyn Clock>,
) -> anyhow::Result<Hardware> {
    let description = Arc::new(description);
    let wants_pictures = matches!(way, Way::LeKiwi { .. }) && !description.cameras.is_empty();
    let token = token(args.token.as_deref());
    let decode = wants_pictures.then(|| Box::new(jpeg::decode) as sinew_drivers::DecodeJpeg);
    let (robot, pictures) = way.connect(description.clone(), token, decode, clock.clone())?;
    let cameras = match pictures {
        Some(mut pictures) => {
            first_pictures(&mut pictures, &description, &*clock)?;
            Looking::through(Box::new(pictures))
        }
        None => cameras::open(&description, cameras, args.patience(), clock)?,
    };
    Ok(Hardware { robot, cameras, calibration: None })
}

/// Waits until each camera has shown something.
fn first_pictures(cameras: &mut LeKiwiCameras, robot: &RobotDescription, clock: &dyn Clock) -> anyhow::Result<()> {
    let mut images: Vec<Image> = robot.cameras.iter().map(CameraDescription::blank).collect();
    let begin = clock.now();
    loop {
        let now = Tick { turn: 0, due: clock.now(), period: LOOK_EVERY, wants_images: true };
        cameras.newest(&now, &mut images).with_context(|| format!("connecting {}: looking at its host's cameras", robot.name))?;
        let Some((missing, _)) = robot.cameras.iter().zip(&images).find(|(_, image)| image.sequence == 0) else { return Ok(()) };
        if clock.now() > begin + PICTURE_WITHIN {
            anyhow::bail!(
                "connecting {}: expected a picture of camera {} within {} s, found none; its host does not offer it, or nothing is in it",
                robot.name,
                missing.name,
                PICTURE_WITHIN.as_secs()
            );
        }
        clock.sleep_until(clock.now() + LOOK_EVERY);
    }
}

/// Connects a leader arm; only the triggers that it has get torque.
pub fn connect_leader(
    description: RobotDescription,
    given: &[PortArg],
    id: Option<&str>,
    args: &HardwareArgs,
    clock: Arc<dyn Clock>,
) -> anyhow::Result<(SerialLeader, String)> {
    let ports = serial_ports(&description, given, "--teleop-port")?;
    let options = options(&description, ports, args);
    let (id, calibration) = calibration(&description, id, ("--teleop", "--teleop-id"), &options, &clock)?;
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
