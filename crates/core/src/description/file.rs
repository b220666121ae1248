//! A robot.toml, which may be put together of others.

use serde::Deserialize;

use super::{DescriptionError, ROBOT_SCHEMA, RobotDescription};

/// Another robot that is a part of this one.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Include {
    /// Its name, as for `--robot`.
    robot: String,
    /// What stands before the names of its parts, sensors, tools, cameras and features.
    prefix: String,
    /// What its buses are called here; those that are not named keep their names, with the prefix.
    #[serde(default)]
    bus: toml::Table,
    /// Where its base stands in this robot's.
    #[serde(default)]
    base_from_robot: super::Pose,
}

/// Robots that include each other deeper than this do so in a circle.
const MOST_INCLUDED: usize = 8;

impl RobotDescription {
    /// Reads and checks `text`, which includes no other robot; `name` is what errors call it.
    ///
    /// # Errors
    /// When the text is no such TOML, is of another schema, a key is unknown or missing, or a value makes
    /// no sense.
    pub fn from_toml(name: &str, text: &str) -> Result<Self, DescriptionError> {
        Self::from_toml_with(name, text, &|_| None)
    }

    /// As [`from_toml`](Self::from_toml); `find` has the texts of robots that may be included.
    ///
    /// # Errors
    /// As [`from_toml`](Self::from_toml), and when a robot that is included is not to be had.
    pub fn from_toml_with(name: &str, text: &str, find: &dyn Fn(&str) -> Option<String>) -> Result<Self, DescriptionError> {
        read(name, text, find, 0)
    }

    /// The text that [`from_toml`](Self::from_toml) reads as the same description.
    ///
    /// # Errors
    /// When a value can't be written, which none that was read can.
    pub fn to_toml(&self) -> Result<String, toml::ser::Error> {
        toml::to_string(self)
    }
}

fn read(name: &str, text: &str, find: &dyn Fn(&str) -> Option<String>, depth: usize) -> Result<RobotDescription, DescriptionError> {
    let syntax = |source| DescriptionError::Syntax { name: name.to_owned(), source: Box::new(source) };
    let invalid = |what: String| DescriptionError::Invalid { name: name.to_owned(), what };
    let mut table: toml::Table = toml::from_str(text).map_err(syntax)?;
    match table.get("schema") {
        Some(toml::Value::Integer(found)) if *found == i64::from(ROBOT_SCHEMA) => {}
        None => {
            let found = if table.contains_key("joint") { "it is of the old schema, with joints in a chain" } else { "it has no schema" };
            return Err(DescriptionError::Schema { name: name.to_owned(), found: found.to_owned() });
        }
        Some(found) => return Err(DescriptionError::Schema { name: name.to_owned(), found: format!("schema is {found}") }),
    }
    let includes: Vec<Include> = match table.remove("include") {
        None => {
            // From the text itself, so that an error says the line.
            let description: RobotDescription = toml::from_str(text).map_err(syntax)?;
            return description.fault().map_or(Ok(description), |what| Err(invalid(what)));
        }
        Some(includes) => includes.try_into().map_err(syntax)?,
    };
    if depth >= MOST_INCLUDED {
        return Err(invalid("robots include each other in a circle".into()));
    }
    let mut description: RobotDescription = table.try_into().map_err(syntax)?;
    let mut parts = Vec::new();
    for include in &includes {
        let missing = || DescriptionError::NotIncluded { name: name.to_owned(), included: include.robot.clone() };
        let text = find(&include.robot).ok_or_else(missing)?;
        let included = read(&include.robot, &text, find, depth + 1)?;
        if let Some(unknown) = include.bus.keys().find(|bus| !included.buses.iter().any(|other| other.name == **bus)) {
            return Err(invalid(format!("it renames the bus {unknown} of {}, which has none of that name", include.robot)));
        }
        description.take(included, include, &mut parts).map_err(invalid)?;
    }
    parts.append(&mut description.parts);
    description.parts = parts;
    description.fault().map_or(Ok(description), |what| Err(invalid(what)))
}

impl RobotDescription {
    /// Makes `included` a part of this robot; its parts, which come first, go to `parts`.
    fn take(&mut self, included: Self, include: &Include, parts: &mut Vec<super::Part>) -> Result<(), String> {
        let Include { prefix, robot, base_from_robot, .. } = include;
        let prefixed = |name: &str| format!("{prefix}{name}");
        let bus_name = |name: &str| match include.bus.get(name) {
            Some(toml::Value::String(here)) => here.clone(),
            _ => prefixed(name),
        };
        if included.base.is_some() {
            return Err(format!("{robot} has a base, and a robot with a base can't be included"));
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
                let pose = base_from_robot.to_isometry() * part.parent_from_part.to_isometry();
                let rotation = pose.rotation.quaternion();
                // Untouched where nothing is moved, so that no bit of it is rounded.
                if *base_from_robot != super::Pose::default() {
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
        self.cameras.extend(included.cameras.into_iter().map(|mut camera| {
            camera.name = prefixed(&camera.name);
            camera
        }));
        Ok(())
    }
}
