//! `sinew rig`

use std::path::Path;

use anyhow::Context;
use sinew_core::{RobotDescription, Role, check_name};
use sinew_drivers::camera::CameraAddress;
use sinew_drivers::setup::serial_ports;
use sinew_sim::robots;

use crate::args::{Misuse, PortArg, RigCommand};
use crate::arm::Answers;
use crate::rig_file::{self, Ports, RigFile};
use crate::text::say;
use crate::way::Way;
use crate::whole::{self, Readers};
use crate::{Done, hardware, text};

pub fn run(command: &RigCommand) -> anyhow::Result<Done> {
    let folder = rig_file::folder()?;
    match command {
        RigCommand::Init { name, force } => init(name, *force)?,
        RigCommand::List { json: true } => text::print_json(&rig_file::names_in(&folder))?,
        RigCommand::List { json: false } => {
            let names = rig_file::names_in(&folder);
            names.iter().for_each(|name| say!("{name}"));
            if names.is_empty() {
                say!("there is none yet; `sinew rig init NAME` stores one");
            }
        }
        RigCommand::Show { name } => {
            let path = rig_file::path_of(name, &folder);
            let text = {
                rig_file::look(&path, &folder)?;
                std::fs::read_to_string(&path).with_context(|| format!("reading the rig {}", path.display()))?
            };
            text.lines().for_each(|line| say!("{line}"));
        }
    }
    Ok(Done::Ok)
}

fn init(name: &str, force: bool) -> anyhow::Result<()> {
    let path = rig_file::path_of(name, &rig_file::folder()?);
    // What is a path is the user's own.
    if path != Path::new(name) {
        check_name(name).map_err(|error| Misuse(format!("writing a rig: {error}")))?;
    }
    anyhow::ensure!(force || !path.exists(), "writing the rig {}: it is there already; --force replaces it", path.display());
    let answers = Answers::start()?;
    let (robot_name, robot) =
        told(&answers, "Which robot is it, of those that `sinew robots` lists, or a folder? [so101]", "so101", |name| {
            Ok((whole(name), hardware::describe(name, Role::Robot)?))
        })?;
    let list = serial_ports().unwrap_or_default();
    let known: Vec<String> =
        list.iter().map(|port| port.serial.as_ref().map_or_else(|| port.path.clone(), |s| format!("usb:{s}"))).collect();
    if !known.is_empty() {
        say!("serial ports: {}", known.join(", "));
    }
    let port = ports(&answers, &robot, "--port", |_| Ok(()))?;
    let id = called(&answers, "Which calibration does it use? (press Enter if it has only one)")?;
    let mut rig = RigFile::new(robot_name, port).called(id);

    let usual = format!("{}_leader", robot.name);
    let usual = if robots::get(&usual).is_ok() { usual } else { "none".to_owned() };
    let leader = told(&answers, &format!("Which leader arm leads it, or none? [{usual}]"), &usual, |name| {
        if name == "none" { Ok(None) } else { Ok(Some((whole(name), hardware::describe(name, Role::Teleoperator)?))) }
    })?;
    if let Some((name, leader)) = leader {
        let port = ports(&answers, &leader, "--teleop-port", |ports| {
            anyhow::ensure!(!rig.is_at(ports), "that is where the robot is, expected another port for who leads it");
            Ok(())
        })?;
        let id = called(&answers, "Which calibration does the leader arm use? (press Enter if it has only one)")?;
        rig = rig.led_by(name, port, id);
    }
    loop {
        let camera =
            told(&answers, "A camera, as NAME=SOURCE such as front=usb:200901010001,640x480@30? (nothing ends the list)", "", |text| {
                if !text.is_empty() {
                    let camera = text.parse::<CameraAddress>()?;
                    anyhow::ensure!(!rig.sees(&camera.name), "there is a camera {} already, expected another name", camera.name);
                }
                Ok(Some(text.to_owned()).filter(|text| !text.is_empty()))
            })?;
        let Some((name, source)) = camera.as_deref().and_then(|camera| camera.split_once('=')) else { break };
        rig.see(name.to_owned(), source.to_owned());
    }
    let rig = rig.told(perhaps(&answers, "What is it to do, in a sentence? (press Enter if that changes)")?);
    let text = rig.to_toml()?;
    let doing = || format!("writing the rig {}", path.display());
    let parent = path.parent().filter(|parent| !parent.as_os_str().is_empty());
    if let Some(parent) = parent {
        std::fs::create_dir_all(parent).with_context(doing)?;
    }
    whole::write(&path, text.as_bytes(), Readers::Usual).with_context(doing)?;
    say!("{}", path.display());
    Ok(())
}

/// A folder by its whole path, as a rig is used from anywhere; another name as it is.
fn whole(name: &str) -> String {
    let folder = name.contains('/').then(|| std::fs::canonicalize(name).ok()).flatten();
    folder.and_then(|folder| folder.to_str().map(str::to_owned)).unwrap_or_else(|| name.to_owned())
}

/// An answer that `check` makes something of; `usual` where it is empty. Asked again until it does.
fn told<T>(answers: &Answers, question: &str, usual: &str, check: impl Fn(&str) -> anyhow::Result<T>) -> anyhow::Result<T> {
    loop {
        let answer = answers.ask(question)?;
        match check(if answer.is_empty() { usual } else { &answer }) {
            Ok(value) => return Ok(value),
            Err(error) => say!("{}", text::chain(&error)),
        }
    }
}

fn perhaps(answers: &Answers, question: &str) -> anyhow::Result<Option<String>> {
    Ok(Some(answers.ask(question)?).filter(|answer| !answer.is_empty()))
}

/// The name of a calibration, where one is given.
fn called(answers: &Answers, question: &str) -> anyhow::Result<Option<String>> {
    told(answers, question, "", |name| {
        if name.is_empty() {
            return Ok(None);
        }
        check_name(name)?;
        Ok(Some(name.to_owned()))
    })
}

/// The port of each bus of `robot`.
fn ports(answers: &Answers, robot: &RobotDescription, option: &str, check: impl Fn(&Ports) -> anyhow::Result<()>) -> anyhow::Result<Ports> {
    let question = match &robot.buses[..] {
        [_] | [] => format!("Which port is {} on ({option}), for example usb:58FA0834591?", robot.title),
        buses => {
            let buses: Vec<String> = buses.iter().map(|bus| format!("{}=PORT", bus.name)).collect();
            format!("Which ports is {} on ({option}): {}?", robot.title, buses.join(" "))
        }
    };
    told(answers, &question, "", |text| {
        let given: Vec<PortArg> = text.split_whitespace().map(|port| port.parse().map_err(anyhow::Error::msg)).collect::<Result<_, _>>()?;
        Way::of(robot, &given, option)?;
        let ports = match &given[..] {
            [PortArg { bus: None, place }] => Ports::One(place.clone()),
            ports => Ports::ByBus(ports.iter().filter_map(|port| Some((port.bus.clone()?, port.place.clone()))).collect()),
        };
        check(&ports).map(|()| ports)
    })
}
