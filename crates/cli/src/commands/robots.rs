//! `sinew robots`

use std::io::Write;

use sinew_core::{Part, PartKind, RobotDescription, Role, StopBehaviour};
use sinew_drivers::check_motors;

use crate::args::{RobotsArgs, RobotsCommand};
use crate::commands::monitor::{self, Watching};
use crate::{Done, text};

pub fn run(args: &RobotsArgs) -> anyhow::Result<Done> {
    match &args.command {
        None => list(args.json),
        Some(RobotsCommand::Monitor { arm, id, token, seconds, fps, json, rig: _ }) => {
            monitor::run(&Watching { arm, id: id.as_deref(), token: token.as_deref(), seconds: *seconds, fps: *fps, json: *json })
        }
        Some(RobotsCommand::Show { robot, json }) => {
            let robot = sinew_sim::robots::get(robot)?.description;
            check_motors(&robot)?;
            show(&robot, *json)
        }
    }
}

fn list(json: bool) -> anyhow::Result<Done> {
    let mut out = text::stdout();
    let names = sinew_sim::robots::list().collect::<Vec<_>>();
    let all = names.iter().map(|name| Ok(sinew_sim::robots::get(name)?.description)).collect::<anyhow::Result<Vec<_>>>()?;
    let heads = [(Role::Robot, "robot"), (Role::Teleoperator, "teleoperator")];
    for (i, (role, head)) in heads.into_iter().enumerate() {
        let mut rows = vec![[head, "what it is", "channels", "cameras", "rate", "LeRobot's names"].map(str::to_owned).to_vec()];
        for robot in all.iter().filter(|robot| robot.role == role) {
            // What a teleoperator is read for is what its robot is told.
            let channels = if role == Role::Robot { robot.action_names() } else { robot.state_names() };
            let cameras: Vec<&str> = robot.cameras.iter().map(|camera| camera.name.as_str()).collect();
            if json {
                text::print_json(&serde_json::json!({
                    "name": robot.name, "role": role, "title": robot.title, "robot_type": robot.lerobot.class,
                    "aliases": robot.lerobot.types, "channels": channels, "cameras": cameras,
                    "control_rate_hz": robot.control_rate_hz, "can_be_simulated": robot.simulation.is_some(),
                }))?;
                continue;
            }
            let mut names = vec![robot.lerobot.class.as_str()];
            names.extend(robot.lerobot.types.iter().map(String::as_str).filter(|name| *name != robot.lerobot.class));
            rows.push(vec![
                robot.name.clone(),
                robot.title.clone(),
                channels.len().to_string(),
                cameras.join(", "),
                format!("{} Hz", robot.control_rate_hz),
                names.join(", "),
            ]);
        }
        if !json {
            write!(out, "{}{}", if i == 0 { "" } else { "\n" }, text::table(&rows))?;
        }
    }
    if !json {
        let simulated: Vec<&str> = all.iter().filter(|robot| robot.simulation.is_some()).map(|robot| robot.name.as_str()).collect();
        writeln!(out, "\n`sinew robots show NAME` shows one. In the simulator: {}.", simulated.join(", "))?;
    }
    Ok(Done::Ok)
}

fn show(robot: &RobotDescription, json: bool) -> anyhow::Result<Done> {
    if json {
        text::print_json(robot)?;
        return Ok(Done::Ok);
    }
    let mut out = text::stdout();
    writeln!(out, "{}: {} (LeRobot's {}), {} Hz", robot.name, robot.title, robot.lerobot.class, robot.control_rate_hz)?;
    for bus in &robot.buses {
        let baud = bus.baud_rate.map_or_else(String::new, |baud| format!(" at {baud} baud"));
        writeln!(out, "bus {}: {}{baud}", bus.name, bus.protocol)?;
    }
    match robot.role {
        Role::Robot => {
            let end = match robot.stop.behaviour {
                StopBehaviour::Hold => "holds its place, with torque",
                StopBehaviour::Limp => "goes limp: torque off",
            };
            writeln!(out, "when a run ends it {end}\n")?;
        }
        Role::Teleoperator => writeln!(out, "a teleoperator: it is moved by hand and read\n")?,
    }
    let mut rows = vec![["part", "feature", "motor", "position", "velocity", "step", "rest"].map(str::to_owned).to_vec()];
    for part in &robot.parts {
        let number = |value: Option<f64>, after: &str| value.map_or_else(|| "-".to_owned(), |value| in_words(part, value, after));
        let range = part.limits.position.map(|[lower, upper]| format!("{} to {}", in_words(part, lower, ""), in_words(part, upper, "")));
        rows.push(vec![
            part.name.clone(),
            if part.is_feature() { part.feature_name() } else { "-".to_owned() },
            part.motor.as_ref().map_or_else(|| "-".to_owned(), |motor| format!("{} #{} on {}", motor.model, motor.id, motor.bus)),
            range.unwrap_or_else(|| "-".to_owned()),
            number(part.limits.velocity, "/s"),
            number(part.limits.step, ""),
            number(part.rest, ""),
        ]);
    }
    write!(out, "{}", text::table(&rows))?;
    if let Some(base) = &robot.base {
        let kind = format!("{:?}", base.kind).to_lowercase();
        writeln!(out, "\nbase: {kind}, {} wheels, {}", base.wheels.len(), base.feature_names().join(", "))?;
    }
    for sensor in &robot.sensors {
        writeln!(out, "sensor {}: {}", sensor.name, sensor.features.join(", "))?;
    }
    let mut rows = vec![["camera", "feature", "size"].map(str::to_owned).to_vec()];
    for camera in &robot.cameras {
        rows.push(vec![
            camera.name.clone(),
            format!("observation.images.{}", camera.name),
            format!("{}×{}{}", camera.width, camera.height, if camera.depth { ", depth" } else { "" }),
        ]);
    }
    if !robot.cameras.is_empty() {
        write!(out, "\n{}", text::table(&rows))?;
    }
    Ok(Done::Ok)
}

/// A value of `part`: degrees for what turns, millimetres for what slides.
fn in_words(part: &Part, value: f64, after: &str) -> String {
    match part.kind {
        PartKind::Prismatic => format!("{:.0} mm{after}", value * 1e3),
        _ => format!("{:.0}{}°{after}", value.to_degrees(), if after.is_empty() { "" } else { " " }),
    }
}
