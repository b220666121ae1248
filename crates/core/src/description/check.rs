//! What makes a description one that can be used.

use std::collections::{BTreeMap, BTreeSet};

use super::{
    Base, CameraDescription, CommandMode, LeRobotNames, MOST_PARTS, Part, PartKind, ROBOT_SCHEMA, RobotDescription, Role, Tool, Workspace,
};

impl RobotDescription {
    /// What is wrong with it, if anything.
    pub(super) fn fault(&self) -> Option<String> {
        if self.schema != ROBOT_SCHEMA {
            return Some(format!("schema is {}, expected {ROBOT_SCHEMA}", self.schema));
        }
        if !(1..=MOST_RATE_HZ).contains(&self.control_rate_hz) {
            return Some(format!("control_rate_hz is {}, expected 1 to {MOST_RATE_HZ}", self.control_rate_hz));
        }
        if self.feedback.max_age_ms == 0 || self.feedback.fault_age_ms < self.feedback.max_age_ms {
            return Some("feedback: expected max_age_ms above 0 and fault_age_ms at least as long".into());
        }
        if let Some((what, name)) = self.names().into_iter().find(|(_, name)| !is_name(name)) {
            return Some(format!("{what} is called {name:?}, expected letters, digits, _, - and dots, not a dot first"));
        }
        if self.title.chars().count() > LONGEST_TITLE {
            return Some(format!("its title has {} characters, expected at most {LONGEST_TITLE}", self.title.chars().count()));
        }
        if self.title.chars().any(|c| c.is_control() || turns_text(c)) {
            return Some(format!("its title {:?} has characters that control a terminal or turn text around", self.title));
        }
        if let Some(twice) = twice(self.buses.iter().map(|bus| &bus.name)) {
            return Some(format!("two buses are called {twice}"));
        }
        if let Some(bus) = self.buses.iter().find(|bus| bus.baud_rate == Some(0) || bus.data_baud_rate == Some(0)) {
            return Some(format!("bus {}: its baud rate is 0", bus.name));
        }
        // One after the other, as each goes by what those before have found right.
        self.parts_fault()
            .or_else(|| self.base_fault())
            .or_else(|| self.sensors_fault())
            .or_else(|| self.names_fault())
            .or_else(|| self.tools_fault())
            .or_else(|| self.cameras_fault())
            .or_else(|| Some(format!("simulation: {}", self.simulation.as_ref()?.fault(self)?)))
    }

    /// All names that may reach a path, a dataset or a terminal, each with what it names.
    fn names(&self) -> Vec<(&'static str, &str)> {
        let LeRobotNames { class, types } = &self.lerobot;
        let mut names = vec![("the robot", self.name.as_str()), ("its class in LeRobot", class)];
        names.extend(types.iter().map(|name| ("a class or type in LeRobot", name.as_str())));
        for robot in &self.included {
            names.push(("the class of an included robot", &robot.lerobot.class));
            names.extend(robot.lerobot.types.iter().map(|name| ("a type of an included robot", name.as_str())));
            names.extend(Some(("a prefix", robot.prefix.as_str())).filter(|(_, prefix)| !prefix.is_empty()));
        }
        names.extend(self.buses.iter().flat_map(|bus| [("a bus", bus.name.as_str()), ("a protocol", &bus.protocol)]));
        for part in &self.parts {
            names.push(("a part", &part.name));
            names.extend(part.feature.iter().map(|name| ("a feature", name.as_str())));
            names.extend(part.motor.iter().map(|motor| ("a motor", motor.model.as_str())));
        }
        names.extend(self.base.iter().flat_map(|base| base.features.iter().flatten()).map(|name| ("a feature", name.as_str())));
        for sensor in &self.sensors {
            names.push(("a sensor", &sensor.name));
            names.extend(sensor.features.iter().map(|name| ("a feature", name.as_str())));
        }
        names.extend(self.tools.iter().map(|tool| ("a tool", tool.name.as_str())));
        names.extend(self.cameras.iter().map(|camera| ("a camera", camera.name.as_str())));
        names.extend(self.cameras.iter().flat_map(|camera| &camera.format).map(|format| ("a camera's format", format.as_str())));
        names
    }

    fn parts_fault(&self) -> Option<String> {
        if self.parts.len() > MOST_PARTS {
            return Some(format!("it has {} parts, expected at most {MOST_PARTS}", self.parts.len()));
        }
        match self.role {
            Role::Robot if self.action_channels().is_empty() => {
                return Some("it has nothing that can be commanded: no part with a command and no base".into());
            }
            Role::Robot => {
                if let Some(part) = self.parts.iter().find(|part| part.trigger.is_some()) {
                    return Some(format!("part {}: it has a trigger, which only a part of a teleoperator has", part.name));
                }
            }
            Role::Teleoperator if !self.action_channels().is_empty() || self.state_channels().is_empty() => {
                return Some("expected a teleoperator to have parts without a command, and neither others nor a base".into());
            }
            Role::Teleoperator => {}
        }
        if let Some(twice) = twice(self.parts.iter().map(|part| &part.name)) {
            return Some(format!("two parts are called {twice}"));
        }
        let mut addresses: BTreeMap<(&str, u16), &str> = BTreeMap::new();
        for part in &self.parts {
            if let Some(what) = part.fault() {
                return Some(format!("part {}: {what}", part.name));
            }
            let mut above = part.parent.as_deref();
            for _ in 0..=self.parts.len() {
                let Some(name) = above else { break };
                match self.parts.iter().find(|other| other.name == name) {
                    None => return Some(format!("part {}: its parent {name} is no part of the robot", part.name)),
                    Some(parent) => above = parent.parent.as_deref(),
                }
            }
            if above.is_some() {
                return Some(format!("part {}: its parents go round in a circle and never reach the base", part.name));
            }
            let Some(motor) = &part.motor else { continue };
            if !self.buses.iter().any(|bus| bus.name == motor.bus) {
                return Some(format!("part {}: its motor is on the bus {}, which the robot does not have", part.name, motor.bus));
            }
            if let Some(other) = addresses.insert((&motor.bus, motor.id), &part.name) {
                return Some(format!("parts {other} and {} have the same motor: {} on the bus {}", part.name, motor.id, motor.bus));
            }
        }
        None
    }

    fn base_fault(&self) -> Option<String> {
        let lone = |part: &&Part| {
            part.kind == PartKind::Wheel && !self.base.iter().any(|base| base.wheels.iter().any(|wheel| wheel.part == part.name))
        };
        if let Some(part) = self.parts.iter().find(lone) {
            return Some(format!("part {} is a wheel of no base", part.name));
        }
        self.base.as_ref().and_then(|base| base.fault(&self.parts)).map(|what| format!("base: {what}"))
    }

    fn sensors_fault(&self) -> Option<String> {
        if let Some(twice) = twice(self.sensors.iter().map(|sensor| &sensor.name)) {
            return Some(format!("two sensors are called {twice}"));
        }
        let unknown = |bus: &String| !self.buses.iter().any(|other| other.name == *bus);
        let bad = self.sensors.iter().find_map(|sensor| Some((sensor, sensor.bus.as_ref().filter(|bus| unknown(bus))?)));
        bad.map(|(sensor, bus)| format!("sensor {}: it is on the bus {bus}, which the robot does not have", sensor.name))
    }

    fn names_fault(&self) -> Option<String> {
        // A state and an action of one name are the same channel.
        let mut names = self.state_names();
        let unmeasured = self.base.iter().filter(|base| !base.is_measured);
        names.extend(unmeasured.flat_map(Base::feature_names));
        twice(names.iter()).map(|twice| format!("two features are called {twice}"))
    }

    fn tools_fault(&self) -> Option<String> {
        if let Some(twice) = twice(self.tools.iter().map(|tool| &tool.name)) {
            return Some(format!("two tools are called {twice}"));
        }
        let middle = |part: &Part| 0.0_f64.clamp(part.position_limits()[0], part.position_limits()[1]);
        let rest: Vec<f64> = self.parts.iter().map(|part| part.rest.unwrap_or_else(|| middle(part))).collect();
        for Tool { name, part, part_from_tool, workspace } in &self.tools {
            let Some(part) = self.part_index(part) else { return Some(format!("tool {name}: {part} is no part of the robot")) };
            if !part_from_tool.is_usable() {
                return Some(format!("tool {name}: part_from_tool is no pose"));
            }
            let Some(Workspace { min_m, max_m }) = workspace else { continue };
            if !(0..3).all(|i| min_m[i].is_finite() && max_m[i].is_finite() && min_m[i] < max_m[i]) {
                return Some(format!("tool {name}: its workspace reaches from {min_m:?} to {max_m:?}, expected finite and rising"));
            }
            let has_position = |part: &Part| !matches!(part.command, Some(CommandMode::Velocity | CommandMode::Effort));
            if let Some(lost) = self.chain_to(part).into_iter().find(|i| !has_position(&self.parts[*i])) {
                let lost = &self.parts[lost].name;
                return Some(format!("tool {name}: it has a workspace, and nobody knows the position of {lost}, which carries it"));
            }
            let at = (self.base_from_parts(&rest)[part] * part_from_tool.to_isometry()).translation.vector;
            if !(0..3).all(|i| (min_m[i]..=max_m[i]).contains(&at[i])) {
                let at: [f64; 3] = at.into();
                return Some(format!("tool {name}: at rest it is at {at:?}, outside its workspace from {min_m:?} to {max_m:?}"));
            }
        }
        None
    }

    fn cameras_fault(&self) -> Option<String> {
        if let Some(twice) = twice(self.cameras.iter().map(|camera| &camera.name)) {
            return Some(format!("two cameras are called {twice}"));
        }
        let fault = |camera: &CameraDescription| {
            if !(1..=8192).contains(&camera.width) || !(1..=8192).contains(&camera.height) {
                return Some(format!("{}x{} is no usable size", camera.width, camera.height));
            }
            if camera.fps == Some(0) || camera.max_age_ms == 0 {
                return Some("fps and max_age_ms must be above 0".into());
            }
            (![0, 90, 180, 270].contains(&camera.rotation_deg))
                .then(|| format!("rotation_deg is {}, expected 0, 90, 180 or 270", camera.rotation_deg))
        };
        self.cameras.iter().find_map(|camera| Some(format!("camera {}: {}", camera.name, fault(camera)?)))
    }
}

/// More than any motor is told.
const MOST_RATE_HZ: u32 = 1000;
const LONGEST_TITLE: usize = 200;

/// Marks of Unicode's that change in which direction what follows is shown, also beyond the title.
fn turns_text(c: char) -> bool {
    matches!(c, '\u{200e}' | '\u{200f}' | '\u{061c}' | '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}')
}

fn is_name(name: &str) -> bool {
    let fits = |c: char| c.is_ascii_alphanumeric() || "_-.".contains(c);
    (1..=100).contains(&name.len()) && !name.starts_with('.') && name.chars().all(fits)
}

/// The first name that comes twice.
fn twice<'a>(names: impl Iterator<Item = &'a String>) -> Option<&'a String> {
    let mut seen = BTreeSet::new();
    names.into_iter().find(|name| !seen.insert(*name))
}
