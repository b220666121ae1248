//! `sinew find-port`

use std::path::Path;
use std::time::Duration;

use anyhow::bail;
use serde::Serialize;
use sinew_drivers::setup::{SerialPort, serial_ports, serial_ports_in};
use sinew_drivers::who_may_open;

use crate::args::FindPortArgs;
use crate::arm::Answers;
use crate::text::say;
use crate::{Done, text};

/// How long the system may take to see that a port has gone.
const SETTLE: Duration = Duration::from_millis(500);

#[derive(Serialize)]
struct Found {
    #[serde(flatten)]
    port: SerialPort,
    /// What is needed to open it; nothing where it can be opened.
    advice: Option<String>,
}

pub fn run(args: &FindPortArgs) -> anyhow::Result<Done> {
    let list = || if args.root == Path::new("/") { serial_ports() } else { serial_ports_in(&args.root) };
    let before = list()?;
    let found = |port: &SerialPort| Found { advice: advice(&args.root, &port.path), port: port.clone() };
    if args.json {
        text::print_json(&before.iter().map(found).collect::<Vec<_>>())?;
        return Ok(Done::Ok);
    }
    if before.is_empty() {
        bail!("found no serial port: is the adapter plugged in, and is its cable one that carries data?");
    }
    for port in &before {
        say!("{}", line(port));
        found(port).advice.iter().for_each(|advice| say!("  {advice}"));
    }
    if args.list {
        return Ok(Done::Ok);
    }
    let answers = Answers::start()?;
    answers.ask("Unplug the USB cable of the arm that you look for; then ENTER (--list asks nothing)")?;
    std::thread::sleep(SETTLE);
    let after = list()?;
    let gone: Vec<&SerialPort> = before.iter().filter(|port| !after.iter().any(|other| other.path == port.path)).collect();
    match gone.as_slice() {
        [port] => {
            let serial = port.serial.as_ref().map(|serial| format!(", or usb:{serial}, wherever it is plugged in")).unwrap_or_default();
            say!("The arm is on {}{serial}. Plug it in again.", port.path);
            Ok(Done::Ok)
        }
        [] => bail!("no port has gone: expected one to be unplugged of {}", names(&before.iter().collect::<Vec<_>>())),
        several => bail!("{} ports have gone ({}): expected one, unplug one arm only", several.len(), names(several)),
    }
}

fn names(ports: &[&SerialPort]) -> String {
    ports.iter().map(|port| port.path.as_str()).collect::<Vec<_>>().join(", ")
}

fn line(port: &SerialPort) -> String {
    let mut line = port.path.clone();
    if let Some(adapter) = port.adapter {
        line += &format!("  {}: {}", adapter.chip, adapter.found_on);
    } else if let Some(title) = &port.title {
        line += &format!("  {title}");
    }
    if let (Some(vendor), Some(product)) = (port.vendor, port.product) {
        line += &format!("  {vendor:04x}:{product:04x}");
    }
    if let Some(serial) = &port.serial {
        line += &format!("  usb:{serial}");
    }
    line
}

/// What somebody who may not open a port can do about it.
fn advice(root: &Path, port: &str) -> Option<String> {
    use rustix::fs::{Access, access};
    let device = root.join(port.trim_start_matches('/'));
    if access(&device, Access::READ_OK | Access::WRITE_OK).is_ok() {
        return None;
    }
    who_may_open(&device, &std::fs::read_to_string(root.join("etc/group")).unwrap_or_default())
}
