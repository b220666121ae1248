//! Where a robot's buses are, as it is typed.

use std::str::FromStr;

use sinew_core::RobotDescription;

use super::{Misuse, misuse};

/// A port as it is typed: a place, or `BUS=` and a place. What a place is depends on what the bus speaks
/// ([`Way`](crate::way::Way)).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PortArg {
    /// `None` where the robot has one bus only.
    pub bus: Option<String>,
    pub place: String,
}

impl FromStr for PortArg {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let is_name = |name: &str| !name.is_empty() && name.chars().all(|c| c.is_ascii_alphanumeric() || "_-.".contains(c));
        let (bus, place) = match text.split_once('=') {
            Some((bus, rest)) if is_name(bus) => (Some(bus.to_owned()), rest),
            _ => (None, text),
        };
        if place.is_empty() || place == "usb:" {
            return Err("expected PATH, usb:SERIAL, another place, or one of these after BUS=".to_owned());
        }
        Ok(Self { bus, place: place.to_owned() })
    }
}

/// The place of each of the robot's buses that motors hang on, by the bus's name; `option` is how it is called, `example` a
/// place, and `form` what places look like.
///
/// # Errors
/// When a bus has none or several, or there is no such bus.
pub fn places_of(
    robot: &RobotDescription,
    given: &[PortArg],
    option: &str,
    (example, form): (&str, &str),
) -> anyhow::Result<Vec<(String, String)>> {
    let has_motor = |name: &str| robot.parts.iter().any(|part| part.motor.as_ref().is_some_and(|motor| motor.bus == name));
    let buses: Vec<&str> = robot.buses.iter().map(|bus| bus.name.as_str()).filter(|name| has_motor(name)).collect();
    let examples = || buses.iter().map(|bus| format!("{option} {bus}={example}")).collect::<Vec<_>>().join(" ");
    if buses.is_empty() {
        misuse!("{option}: {} has no motors that hang on a bus, so that a port leads to nothing", robot.name);
    }
    // By whatever link it was named.
    let device = |place: &str| std::fs::canonicalize(place).unwrap_or_else(|_| place.into());
    let mut places: Vec<(String, String)> = Vec::new();
    for port in given {
        let bus = match &port.bus {
            Some(bus) => *buses.iter().find(|known| *known == bus).ok_or_else(|| {
                Misuse(format!("{option} {bus}={}: {} has no bus {bus}, expected one of {}", port.place, robot.name, buses.join(", ")))
            })?,
            None => match buses.as_slice() {
                [bus] => bus,
                _ => misuse!("{option} {}: {} has {} buses, expected {}", port.place, robot.name, buses.len(), examples()),
            },
        };
        if places.iter().any(|(known, _)| known == bus) {
            misuse!("{option}: bus {bus} of {} has two ports", robot.name);
        }
        if let Some((other, _)) = places.iter().find(|(_, place)| device(place) == device(&port.place)) {
            misuse!("{option}: the buses {other} and {bus} of {} have the same port, {}; expected one for each", robot.name, port.place);
        }
        places.push((bus.to_owned(), port.place.clone()));
    }
    if let Some(missing) = buses.iter().find(|bus| !places.iter().any(|(known, _)| known == *bus)) {
        let how = if buses.len() == 1 { format!("{option} {form}") } else { examples() };
        misuse!("{} needs a port for its bus {missing}: {how}", robot.name);
    }
    Ok(places)
}
