//! Where a robot's buses are.

use std::str::FromStr;

use anyhow::{Context, bail};
use sinew_core::RobotDescription;
use sinew_drivers::PortAddress;

/// A port as it is typed: `PATH`, `usb:SERIAL`, or one of these after `BUS=`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PortArg {
    /// `None` where the robot has one bus only.
    pub bus: Option<String>,
    pub address: PortAddress,
}

impl FromStr for PortArg {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let is_name = |name: &str| !name.is_empty() && name.chars().all(|c| c.is_ascii_alphanumeric() || "_-.".contains(c));
        let (bus, rest) = match text.split_once('=') {
            Some((bus, rest)) if is_name(bus) => (Some(bus.to_owned()), rest),
            _ => (None, text),
        };
        let address = match rest.strip_prefix("usb:") {
            Some(serial) => PortAddress::Usb { serial: serial.to_owned() },
            None => PortAddress::Path(rest.to_owned()),
        };
        if matches!(&address, PortAddress::Usb { serial: text } | PortAddress::Path(text) if text.is_empty()) {
            return Err("expected PATH, usb:SERIAL, BUS=PATH or BUS=usb:SERIAL".to_owned());
        }
        Ok(Self { bus, address })
    }
}

/// The port of each of the robot's buses that motors hang on, by the bus's name; `option` is how it is called.
///
/// # Errors
/// When a bus has none or several, or there is no such bus.
pub fn ports_of(robot: &RobotDescription, given: &[PortArg], option: &str) -> anyhow::Result<Vec<(String, PortAddress)>> {
    let has_motor = |name: &str| robot.parts.iter().any(|part| part.motor.as_ref().is_some_and(|motor| motor.bus == name));
    let buses: Vec<&str> = robot.buses.iter().map(|bus| bus.name.as_str()).filter(|name| has_motor(name)).collect();
    let examples = || buses.iter().map(|bus| format!("{option} {bus}=PATH")).collect::<Vec<_>>().join(" ");
    let mut ports: Vec<(String, PortAddress)> = Vec::new();
    for port in given {
        let bus = match &port.bus {
            Some(bus) => *buses.iter().find(|known| *known == bus).with_context(|| {
                format!("{option} {bus}={}: {} has no bus {bus}, expected one of {}", port.address, robot.name, buses.join(", "))
            })?,
            None => match buses.as_slice() {
                [bus] => bus,
                _ => bail!("{option} {}: {} has {} buses, expected {}", port.address, robot.name, buses.len(), examples()),
            },
        };
        if ports.iter().any(|(known, _)| known == bus) {
            bail!("{option}: bus {bus} of {} has two ports", robot.name);
        }
        ports.push((bus.to_owned(), port.address.clone()));
    }
    if let Some(missing) = buses.iter().find(|bus| !ports.iter().any(|(known, _)| known == *bus)) {
        let how = if buses.len() == 1 { format!("{option} PATH") } else { examples() };
        bail!("{} needs a port for its bus {missing}: {how} (`sinew find-port` lists ports)", robot.name);
    }
    Ok(ports)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn robot(toml: &str) -> RobotDescription {
        let so101 = include_str!("../../../../robots/so101/robot.toml");
        RobotDescription::from_toml_with("robot", toml, &|name| (name == "so101").then(|| so101.to_owned())).unwrap()
    }

    fn ports(robot: &RobotDescription, given: &[&str]) -> Result<Vec<(String, String)>, String> {
        let given: Vec<PortArg> = given.iter().map(|text| text.parse()).collect::<Result<_, _>>()?;
        let found = ports_of(robot, &given, "--port").map_err(|error| format!("{error:#}"))?;
        Ok(found.into_iter().map(|(bus, address)| (bus, address.to_string())).collect())
    }

    #[test]
    fn every_bus_has_one_port() {
        let one = robot(include_str!("../../../../robots/so101/robot.toml"));
        let two = robot(include_str!("../../../../robots/bi_so/robot.toml"));
        let is = |bus: &str, address: &str| (bus.to_owned(), address.to_owned());
        assert_eq!(ports(&one, &["/dev/ttyACM0"]), Ok(vec![is("arm", "/dev/ttyACM0")]));
        assert_eq!(ports(&one, &["/dev/a=b"]), Ok(vec![is("arm", "/dev/a=b")]));
        assert_eq!(ports(&one, &["arm=usb:58FA"]), Ok(vec![is("arm", "the USB adapter 58FA")]));
        assert_eq!(ports(&two, &["right=/dev/b", "left=/dev/a"]), Ok(vec![is("right", "/dev/b"), is("left", "/dev/a")]));
        for (robot, given, says) in [
            (&one, vec![], "needs a port for its bus arm: --port PATH"),
            (&one, vec!["a", "b"], "bus arm of so101 has two ports"),
            (&one, vec!["leg=/dev/a"], "has no bus leg, expected one of arm"),
            (&two, vec!["/dev/a"], "has 2 buses, expected --port left=PATH --port right=PATH"),
            (&two, vec!["left=/dev/a"], "needs a port for its bus right"),
            (&one, vec!["usb:"], "expected PATH, usb:SERIAL"),
        ] {
            let error = ports(robot, &given).unwrap_err();
            assert!(error.contains(says), "{given:?}: {error}");
        }
    }
}
