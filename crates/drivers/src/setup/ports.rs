//! Which serial ports there are, and what is behind them.

use std::fs;
use std::path::{Path, PathBuf};

use serde::Serialize;

use super::SetupError;

/// A USB adapter that is known from robots.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub struct Adapter {
    pub vendor: u16,
    pub product: u16,
    pub chip: &'static str,
    /// Where it is found.
    pub found_on: &'static str,
}

const fn adapter(vendor: u16, product: u16, chip: &'static str, found_on: &'static str) -> Adapter {
    Adapter { vendor, product, chip, found_on }
}

/// By the makers' USB ids, as the kernel's drivers and Robotis' udev rules have them.
const ADAPTERS: &[Adapter] = &[
    adapter(0x1a86, 0x55d3, "CH343", "Waveshare's and Feetech's bus servo boards (SO-100, SO-101, LeKiwi)"),
    adapter(0x1a86, 0x55d4, "CH9102", "Waveshare's servo boards"),
    adapter(0x1a86, 0x7523, "CH340", "Feetech's URT boards"),
    adapter(0x10c4, 0xea60, "CP210x", "Feetech's and other servo boards"),
    adapter(0x0403, 0x6014, "FT232H", "Robotis' U2D2 (Koch, OMX)"),
    adapter(0x0403, 0x6001, "FT232R", "Robotis' USB2Dynamixel and other boards"),
    adapter(0x0403, 0x6015, "FT231X", "servo boards"),
    adapter(0x0483, 0x5740, "STM32", "servo boards with an STM32"),
    adapter(0x2f5d, 0x2202, "OpenRB-150", "Robotis' OpenRB-150 (OMX, Koch)"),
    adapter(0xfff1, 0xff48, "OpenCM9.04", "Robotis' OpenCM9.04"),
];

/// A serial port.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub struct SerialPort {
    /// Such as `/dev/ttyACM0`.
    pub path: String,
    /// Its name that does not change when it is plugged in elsewhere, if the system has one.
    pub by_id: Option<String>,
    pub vendor: Option<u16>,
    pub product: Option<u16>,
    /// What `usb:SERIAL` names it by.
    pub serial: Option<String>,
    /// What it says of itself.
    pub title: Option<String>,
    pub adapter: Option<Adapter>,
}

/// The serial ports of this machine, those with known adapters first.
///
/// # Errors
/// When the system doesn't say.
pub fn serial_ports() -> Result<Vec<SerialPort>, SetupError> {
    if cfg!(target_os = "linux") {
        return serial_ports_in(Path::new("/"));
    }
    let found =
        serialport::available_ports().map_err(|error| SetupError::Ports { path: "the system's list".into(), source: error.into() })?;
    let ports = found.into_iter().map(|port| {
        let mut known = SerialPort { path: port.port_name, ..SerialPort::default() };
        if let serialport::SerialPortType::UsbPort(usb) = port.port_type {
            (known.vendor, known.product) = (Some(usb.vid), Some(usb.pid));
            (known.serial, known.title) = (usb.serial_number, usb.product);
        }
        known
    });
    Ok(in_order(ports.collect()))
}

/// The same on a Linux whose files lie under `root`: `sys/class/tty` and `dev`.
///
/// # Errors
/// When there is no such list.
pub fn serial_ports_in(root: &Path) -> Result<Vec<SerialPort>, SetupError> {
    // Links are followed to their ends.
    let root = &root.canonicalize().map_err(|source| SetupError::Ports { path: root.display().to_string(), source })?;
    let list = root.join("sys/class/tty");
    let failed = |path: &Path| {
        let path = path.display().to_string();
        move |source| SetupError::Ports { path, source }
    };
    let by_id = names_by_id(&root.join("dev/serial/by-id"));
    let mut ports = Vec::new();
    for entry in fs::read_dir(&list).map_err(failed(&list))? {
        let entry = entry.map_err(failed(&list))?;
        let name = entry.file_name().to_string_lossy().into_owned();
        // What has no device is a virtual console. A device may vanish while it is looked at.
        let Ok(device) = entry.path().join("device").canonicalize() else { continue };
        let usb = device.ancestors().take_while(|folder| folder.starts_with(root)).find(|folder| folder.join("idVendor").is_file());
        let is_platform = device.join("driver").canonicalize().is_ok_and(|driver| driver.ends_with("serial8250"));
        if usb.is_none() && is_platform || !root.join("dev").join(&name).exists() {
            continue;
        }
        let text = |what: &str| {
            let text = fs::read_to_string(usb?.join(what)).ok()?;
            Some(text.trim().to_owned()).filter(|text| !text.is_empty())
        };
        let number = |what: &str| u16::from_str_radix(&text(what)?, 16).ok();
        let title: Vec<String> = ["manufacturer", "product"].into_iter().filter_map(text).collect();
        ports.push(SerialPort {
            path: format!("/dev/{name}"),
            by_id: by_id.iter().find(|(_, known)| *known == name).map(|(link, _)| format!("/dev/serial/by-id/{link}")),
            vendor: number("idVendor"),
            product: number("idProduct"),
            serial: text("serial"),
            title: (!title.is_empty()).then(|| title.join(" ")),
            adapter: None,
        });
    }
    Ok(in_order(ports))
}

/// Links and the names of the devices behind them.
fn names_by_id(folder: &Path) -> Vec<(String, String)> {
    let link = |entry: fs::DirEntry| -> Option<(String, String)> {
        let target: PathBuf = fs::read_link(entry.path()).ok()?;
        Some((entry.file_name().to_string_lossy().into_owned(), target.file_name()?.to_string_lossy().into_owned()))
    };
    fs::read_dir(folder).into_iter().flatten().flatten().filter_map(link).collect()
}

fn in_order(mut ports: Vec<SerialPort>) -> Vec<SerialPort> {
    for port in &mut ports {
        port.adapter = ADAPTERS.iter().find(|known| Some(known.vendor) == port.vendor && Some(known.product) == port.product).copied();
    }
    ports.sort_by(|a, b| (a.adapter.is_none(), a.vendor.is_none(), &a.path).cmp(&(b.adapter.is_none(), b.vendor.is_none(), &b.path)));
    ports
}
