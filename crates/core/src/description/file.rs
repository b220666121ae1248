//! A robot.toml, which may be put together of others.

use std::collections::BTreeMap;

use serde::Deserialize;
use toml::de::{DeTable, Deserializer};

use super::{DescriptionError, MOST_PARTS, ROBOT_SCHEMA, RobotDescription};

/// Another robot that is a part of this one: its parts, sensors, tools and cameras. What it says of how a session
/// ends, of its rate, its names and its simulation is left to this one.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Include {
    /// Its name, as for `--robot`.
    robot: String,
    /// What stands before the names of its parts, sensors, tools, cameras and features.
    prefix: String,
    /// What its buses are called here; those that are not named keep their names, with the prefix.
    #[serde(default)]
    bus: BTreeMap<String, String>,
    /// Where its base stands in this robot's.
    #[serde(default)]
    base_from_robot: super::Pose,
    /// Whether its cameras are cameras of this one.
    #[serde(default = "yes")]
    cameras: bool,
}

fn yes() -> bool {
    true
}

/// What a file includes, whatever else is in it.
#[derive(Deserialize)]
struct Includes {
    #[serde(default)]
    include: Vec<Include>,
}

/// How deep robots may include each other.
const MOST_INCLUDED: usize = 8;

impl RobotDescription {
    /// Reads and checks `text`, which includes no other robot, or is what [`to_toml`](Self::to_toml) wrote; `name` is what
    /// errors call it.
    ///
    /// # Errors
    /// When the text is no such TOML, is of another schema, a key is unknown or missing, or a value makes
    /// no sense.
    pub fn from_toml(name: &str, text: &str) -> Result<Self, DescriptionError> {
        read(name, text, None, &mut Vec::new())
    }

    /// As [`from_toml`](Self::from_toml), of a file that somebody wrote; `find` has the texts of robots that may be included.
    ///
    /// # Errors
    /// As [`from_toml`](Self::from_toml), and when a robot that is included is not to be had, or the text says itself what
    /// was included.
    pub fn from_toml_with(name: &str, text: &str, find: &dyn Fn(&str) -> Option<String>) -> Result<Self, DescriptionError> {
        read(name, text, Some(find), &mut Vec::new())
    }

    /// The text that [`from_toml`](Self::from_toml) reads as the same description.
    ///
    /// # Errors
    /// When a value can't be written, which none that was read can.
    pub fn to_toml(&self) -> Result<String, toml::ser::Error> {
        toml::to_string(self)
    }
}

/// No line of an error is longer, whatever lines the file has.
const LONGEST_LINE: usize = 200;

fn cut(words: &str) -> String {
    let cut = |line: &str| match line.char_indices().nth(LONGEST_LINE) {
        Some((end, _)) => format!("{}…", line.get(..end).unwrap_or_default()),
        None => line.to_owned(),
    };
    words.trim_end().lines().map(cut).collect::<Vec<_>>().join("\n")
}

/// Reads `text`, which was included by those `above`, the outermost first; without `find` it is what was written of a
/// description, in which others are included already.
fn read(
    name: &str,
    text: &str,
    find: Option<&dyn Fn(&str) -> Option<String>>,
    above: &mut Vec<String>,
) -> Result<RobotDescription, DescriptionError> {
    let syntax = |mut source: toml::de::Error| {
        // So that it shows the line.
        source.set_input(Some(text));
        DescriptionError::Syntax { name: name.to_owned(), what: cut(&source.to_string()) }
    };
    let invalid = |what: String| DescriptionError::Invalid { name: name.to_owned(), what };
    let table: toml::Table = toml::from_str(text).map_err(syntax)?;
    match table.get("schema") {
        Some(toml::Value::Integer(found)) if *found == i64::from(ROBOT_SCHEMA) => {}
        None => {
            let found = if table.contains_key("joint") { "it is of the old schema, with joints in a chain" } else { "it has no schema" };
            return Err(DescriptionError::Schema { name: name.to_owned(), found: found.to_owned() });
        }
        Some(found) => return Err(DescriptionError::Schema { name: name.to_owned(), found: format!("schema is {found}") }),
    }
    if find.is_some() && table.contains_key("included") {
        return Err(invalid("included is filled in by sinew, expected [[include]] with the name of the other robot".to_owned()));
    }
    let Includes { include: includes } = toml::from_str(text).map_err(syntax)?;
    let mut table = DeTable::parse(text).map_err(syntax)?;
    table.get_mut().remove("include");
    let mut description = RobotDescription::deserialize(Deserializer::from(table)).map_err(syntax)?;
    above.push(name.to_owned());
    let mut parts = Vec::new();
    for include in &includes {
        let robot = &include.robot;
        if above.contains(robot) {
            return Err(invalid(format!("it includes {robot}, in a circle: {}, {robot}", above.join(", "))));
        }
        if above.len() > MOST_INCLUDED {
            return Err(invalid(format!("robots include each other {} deep, expected at most {MOST_INCLUDED}", above.len())));
        }
        let missing = || DescriptionError::NotIncluded { name: name.to_owned(), included: robot.clone() };
        let included = read(robot, &find.and_then(|find| find(robot)).ok_or_else(missing)?, find, above)?;
        if let Some(unknown) = include.bus.keys().find(|bus| !included.buses.iter().any(|other| other.name == **bus)) {
            return Err(invalid(format!("it renames the bus {unknown} of {robot}, which has none of that name")));
        }
        description.take(included, include, &mut parts).map_err(invalid)?;
        if parts.len() > MOST_PARTS {
            return Err(invalid(format!("it has {} parts and more, expected at most {MOST_PARTS}", parts.len())));
        }
    }
    above.pop();
    parts.append(&mut description.parts);
    description.parts = parts;
    description.fault().map_or(Ok(description), |what| Err(invalid(what)))
}

impl RobotDescription {
    /// Makes `included` a part of this robot; its parts, which come first, go to `parts`.
    fn take(&mut self, included: Self, include: &Include, parts: &mut Vec<super::Part>) -> Result<(), String> {
        let Include { prefix, robot, base_from_robot, .. } = include;
        let prefixed = |name: &str| format!("{prefix}{name}");
        let bus_name = |name: &str| include.bus.get(name).cloned().unwrap_or_else(|| prefixed(name));
        if included.base.is_some() {
            return Err(format!("{robot} has a base, and a robot with a base can't be included"));
        }
        if !base_from_robot.is_usable() {
            return Err(format!("base_from_robot of {robot} is no pose"));
        }
        for mut bus in included.buses {
            bus.name = bus_name(&bus.name);
            match self.buses.iter().find(|other| other.name == bus.name) {
                None => self.buses.push(bus),
                // Two robots may share a bus.
                Some(other) if *other == bus => {}
                Some(_) => return Err(format!("the bus {} of {robot} is another one here", bus.name)),
            }
        }
        for mut part in included.parts {
            part.feature = part.feature.as_deref().map(prefixed);
            part.name = prefixed(&part.name);
            if part.parent.is_none() {
                // Untouched where nothing is moved, so that no bit of it is rounded.
                if *base_from_robot != super::Pose::default() {
                    let pose = base_from_robot.to_isometry() * part.parent_from_part.to_isometry();
                    let rotation = pose.rotation.quaternion();
                    part.parent_from_part = super::Pose {
                        translation_m: pose.translation.vector.into(),
                        rotation_wxyz: [rotation.w, rotation.i, rotation.j, rotation.k],
                    };
                }
            }
            part.parent = part.parent.as_deref().map(prefixed);
            if let Some(motor) = &mut part.motor {
                motor.bus = bus_name(&motor.bus);
            }
            parts.push(part);
        }
        let within = included.included.into_iter().map(|inner| super::Included { prefix: prefixed(&inner.prefix), ..inner });
        self.included.push(super::Included { lerobot: included.lerobot, prefix: prefix.clone() });
        self.included.extend(within);
        self.sensors.extend(included.sensors.into_iter().map(|mut sensor| {
            sensor.name = prefixed(&sensor.name);
            sensor.bus = sensor.bus.as_deref().map(bus_name);
            sensor.features.iter_mut().for_each(|feature| *feature = prefixed(feature));
            sensor
        }));
        self.tools.extend(included.tools.into_iter().map(|mut tool| {
            tool.name = prefixed(&tool.name);
            tool.part = prefixed(&tool.part);
            tool
        }));
        if include.cameras {
            self.cameras.extend(included.cameras.into_iter().map(|mut camera| {
                camera.name = prefixed(&camera.name);
                camera
            }));
        }
        Ok(())
    }
}
