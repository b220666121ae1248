//! `sinew robots`

use std::io::Write;

use sinew_core::RobotDescription;

use crate::args::{RobotsArgs, RobotsCommand};
use crate::{Done, text};

pub fn run(args: &RobotsArgs) -> anyhow::Result<Done> {
    match &args.command {
        None => list(args.json),
        Some(RobotsCommand::Show { robot, json }) => show(&sinew_sim::robots::get(robot)?.description, *json),
    }
}

fn list(json: bool) -> anyhow::Result<Done> {
    let mut out = std::io::stdout().lock();
    let mut rows = vec![["name", "what it is", "joints", "cameras", "rate", "LeRobot's names"].map(str::to_owned).to_vec()];
    for name in sinew_sim::robots::list() {
        let robot = sinew_sim::robots::get(name)?.description;
        if json {
            let cameras: Vec<&str> = robot.cameras.iter().map(|camera| camera.name.as_str()).collect();
            let line = serde_json::json!({
                "name": robot.name, "title": robot.title, "robot_type": robot.lerobot_robot_type, "aliases": robot.aliases,
                "joints": robot.joints.len(), "cameras": cameras, "control_rate_hz": robot.control_rate_hz,
            });
            writeln!(out, "{line}")?;
            continue;
        }
        rows.push(vec![
            robot.name.clone(),
            robot.title.clone(),
            robot.joints.len().to_string(),
            robot.cameras.iter().map(|camera| camera.name.as_str()).collect::<Vec<_>>().join(", "),
            format!("{} Hz", robot.control_rate_hz),
            std::iter::once(robot.lerobot_robot_type.as_str())
                .chain(robot.aliases.iter().map(String::as_str))
                .collect::<Vec<_>>()
                .join(", "),
        ]);
    }
    if !json {
        write!(out, "{}", text::table(&rows))?;
        writeln!(out, "\n`sinew robots show NAME` shows one.")?;
    }
    Ok(Done::Ok)
}

fn show(robot: &RobotDescription, json: bool) -> anyhow::Result<Done> {
    if json {
        text::print_json(robot)?;
        return Ok(Done::Ok);
    }
    let mut out = std::io::stdout().lock();
    writeln!(out, "{}: {} (LeRobot's {}), {} Hz", robot.name, robot.title, robot.lerobot_robot_type, robot.control_rate_hz)?;
    writeln!(out, "bus {} at {} baud; ends in {:?}\n", robot.bus.protocol, robot.bus.baud_rate, robot.stop.behaviour)?;
    let mut rows = vec![["joint", "feature", "motor", "position", "velocity", "step", "rest"].map(str::to_owned).to_vec()];
    for (joint, rest) in robot.joints.iter().zip(&robot.stop.rest_rad) {
        let [lower, upper] = joint.limits.position_rad.map(f64::to_degrees);
        rows.push(vec![
            joint.name.clone(),
            format!("{}.pos", joint.name),
            format!("{} #{}", joint.motor.model, joint.motor.id),
            format!("{lower:.0}° to {upper:.0}°"),
            format!("{:.0} °/s", joint.limits.velocity_rad_per_s.to_degrees()),
            format!("{:.0}°", joint.limits.step_rad.to_degrees()),
            format!("{:.0}°", rest.to_degrees()),
        ]);
    }
    write!(out, "{}", text::table(&rows))?;
    let mut rows = vec![["camera", "feature", "size"].map(str::to_owned).to_vec()];
    for camera in &robot.cameras {
        rows.push(vec![camera.name.clone(), format!("observation.images.{}", camera.name), format!("{}×{}", camera.width, camera.height)]);
    }
    writeln!(out)?;
    write!(out, "{}", text::table(&rows))?;
    Ok(Done::Ok)
}
