//! What is plugged in, and whether this user may use it.

use std::path::Path;

use rustix::fs::{Access, access};
use sinew_drivers::setup::serial_ports as list_ports;
use sinew_drivers::{slow_adapter, who_may_open};

use super::{Check, State};

/// What somebody who may not open a device can do about it.
fn advice(path: &Path) -> Option<String> {
    if access(path, Access::READ_OK | Access::WRITE_OK).is_ok() {
        return None;
    }
    who_may_open(path, &std::fs::read_to_string("/etc/group").unwrap_or_default())
}

/// One check for each device, or one that says that there is none.
fn of_each(name: &'static str, devices: Vec<(String, String)>, none: &str) -> Vec<Check> {
    if devices.is_empty() {
        return vec![Check::ok(name, none)];
    }
    let check = |(path, title): (String, String)| {
        let check = Check::ok(name, format!("{path} {title}").trim_end().to_owned());
        match advice(Path::new(&path)) {
            Some(advice) => check.advise(State::Problem, advice),
            None => match slow_adapter(&path) {
                Some(advice) => check.advise(State::Hint, advice),
                None => check,
            },
        }
    };
    devices.into_iter().map(check).collect()
}

pub fn serial_ports() -> Vec<Check> {
    match list_ports() {
        Err(error) => vec![Check::ok("serial", error.to_string()).advise(State::Problem, "serial ports can't be listed on this system")],
        Ok(ports) => {
            let title = |port: &sinew_drivers::setup::SerialPort| match (port.adapter, &port.title) {
                (Some(adapter), _) => format!("({})", adapter.chip),
                (None, Some(title)) => format!("({title})"),
                (None, None) => String::new(),
            };
            let devices = ports.iter().map(|port| (port.path.clone(), title(port))).collect();
            of_each("serial", devices, "no port; an arm's adapter shows up as /dev/ttyACM0 or /dev/ttyUSB0")
        }
    }
}

#[cfg(target_os = "linux")]
pub fn cameras() -> Vec<Check> {
    use sinew_drivers::camera::v4l2::{Roots, cameras as list_cameras};
    match list_cameras(&Roots::default()) {
        Err(error) => vec![Check::ok("camera", error.to_string()).advise(State::Problem, "cameras can't be listed on this system")],
        Ok(found) => {
            let devices = found.iter().map(|camera| (format!("/dev/{}", camera.node), format!("({})", camera.card))).collect();
            of_each("camera", devices, "none; `sinew find-cameras` takes a picture with each that there is")
        }
    }
}

#[cfg(not(target_os = "linux"))]
pub fn cameras() -> Vec<Check> {
    Vec::new()
}

/// Gamepads, pedals and SpaceMice. Keyboards and mice of the desktop need no rights.
#[cfg(target_os = "linux")]
pub fn input() -> Vec<Check> {
    let Ok(folder) = std::fs::read_dir("/dev/input/by-id") else { return Vec::new() };
    let is_meant = |name: &str| name.ends_with("-event-joystick") || name.contains("FootSwitch") || name.contains("SpaceMouse");
    let names = folder.flatten().map(|entry| entry.file_name().to_string_lossy().into_owned()).filter(|name| is_meant(name));
    let devices: Vec<(String, String)> = names.map(|name| (format!("/dev/input/by-id/{name}"), String::new())).collect();
    if devices.is_empty() { Vec::new() } else { of_each("input", devices, "") }
}

#[cfg(not(target_os = "linux"))]
pub fn input() -> Vec<Check> {
    Vec::new()
}
