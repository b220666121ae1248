//! Which channel of a description is which of the daemon's values.

use std::io::Write;

use sinew_core::{ChannelSource, CommandMode, Observation, RobotDescription, SafeCommand, Timestamp};

use super::known::{Heard, Known};
use super::pose::{matrix, turned_by};
use crate::TORQUE_LOST;

const HEAD: [&str; 6] = ["head.x", "head.y", "head.z", "head.roll", "head.pitch", "head.yaw"];
const JOINTS: [&str; 7] =
    ["body_yaw.pos", "stewart_1.pos", "stewart_2.pos", "stewart_3.pos", "stewart_4.pos", "stewart_5.pos", "stewart_6.pos"];
const ANTENNAS: [&str; 2] = ["right_antenna.pos", "left_antenna.pos"];
const IMU: [&str; 6] = ["imu.accel_x", "imu.accel_y", "imu.accel_z", "imu.gyro_x", "imu.gyro_y", "imu.gyro_z"];

#[derive(Clone, Copy)]
enum Value {
    Joint(usize),
    Antenna(usize),
    Head(usize),
    Imu(usize),
}

impl Value {
    fn named(name: &str) -> Option<Self> {
        let at = |names: &[&str]| names.iter().position(|known| *known == name);
        let joint = at(&JOINTS).map(Self::Joint);
        joint.or_else(|| at(&ANTENNAS).map(Self::Antenna)).or_else(|| at(&HEAD).map(Self::Head)).or_else(|| at(&IMU).map(Self::Imu))
    }
}

/// Whether the body's yaw carries the head, so that its pose is in the body's frame and not in the base's.
fn head_is_carried(robot: &RobotDescription) -> bool {
    let named = |name: &str| robot.parts.iter().position(|part| part.feature_name() == name);
    let (Some(head), Some(body)) = (named("head.yaw"), named("body_yaw.pos")) else { return false };
    robot.chain_to(head).contains(&body)
}

/// The channels of state.
pub(super) struct Reads {
    /// What each is, and how old it may be in nanoseconds.
    channels: Vec<(Value, i64)>,
    is_carried: bool,
}

impl Reads {
    pub fn of(robot: &RobotDescription) -> Result<Self, String> {
        let mut channels = Vec::new();
        for channel in robot.state_channels() {
            let value = Value::named(&channel.name).ok_or_else(|| {
                let all = [&JOINTS[..], &ANTENNAS, &HEAD, &IMU].concat().join(", ");
                format!("expected channels of state among {all}, found {}", channel.name)
            })?;
            let max_age_ms = match channel.source {
                ChannelSource::Sensor(sensor, _) => robot.sensors.get(sensor).and_then(|sensor| sensor.max_age_ms),
                ChannelSource::Part(_) | ChannelSource::Base(_) => None,
            };
            channels.push((value, i64::from(max_age_ms.unwrap_or(robot.feedback.max_age_ms)) * 1_000_000));
        }
        Ok(Self { channels, is_carried: head_is_carried(robot) })
    }

    /// Puts what is known `now` into the state. What came since the last time is fresh, what is too old is missed.
    pub fn fill(&self, known: &Known, has_lost_torque: bool, now: Timestamp, observation: &mut Observation) {
        let head = if self.is_carried { turned_by(-known.joints.value[0], known.head.value) } else { known.head.value };
        for (i, (value, max_age_ns)) in self.channels.iter().enumerate() {
            fn of<const N: usize>(heard: &Heard<[f64; N]>, i: usize) -> (f64, Option<Timestamp>) {
                (heard.value[i], heard.time)
            }
            let (value, time) = match *value {
                Value::Joint(joint) => of(&known.joints, joint),
                Value::Antenna(antenna) => of(&known.antennas, antenna),
                Value::Head(axis) => (head[axis], known.head.time.and(known.joints.time).and(known.head.time)),
                Value::Imu(axis) => of(&known.imu, axis),
            };
            match time.filter(|time| now.nanos_since(*time) <= *max_age_ns) {
                None => observation.state.miss(i),
                // It stands from before.
                Some(time) if observation.state.readings().get(i).is_some_and(|reading| reading.time == Some(time)) => {}
                Some(time) if has_lost_torque => observation.state.set_with_alert(i, value, time, TORQUE_LOST),
                Some(time) => observation.state.set(i, value, time),
            }
        }
    }
}

/// Where the daemon is to bring the robot: the head in the base's frame, the body's yaw, the antennas.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub(super) struct Targets {
    pub head: Option<[f64; 6]>,
    pub body_yaw: Option<f64>,
    pub antennas: Option<[f64; 2]>,
}

impl Targets {
    /// Writes the message `set_full_target`.
    pub fn write(&self, text: &mut Vec<u8>) {
        // Into memory, which takes everything; and a number that is not finite has not come past the gate.
        let _ = self.try_write(text);
    }

    fn try_write(&self, text: &mut Vec<u8>) -> std::io::Result<()> {
        text.clear();
        write!(text, r#"{{"type":"set_full_target""#)?;
        if let Some(head) = self.head {
            write!(text, r#","head":["#)?;
            for (i, value) in matrix(head).as_flattened().iter().enumerate() {
                write!(text, "{}{value}", if i == 0 { "" } else { "," })?;
            }
            write!(text, "]")?;
        }
        if let Some([right, left]) = self.antennas {
            write!(text, r#","antennas":[{right},{left}]"#)?;
        }
        if let Some(yaw) = self.body_yaw {
            write!(text, r#","body_yaw":{yaw}"#)?;
        }
        write!(text, "}}")
    }
}

/// The channels of action.
pub(super) struct Goals {
    head: Option<[usize; 6]>,
    body_yaw: Option<usize>,
    antennas: Option<[usize; 2]>,
    is_carried: bool,
    /// Motors of parts that end without torque, by the daemon's names.
    pub limp: Vec<&'static str>,
    /// Whether all motors do.
    pub all_limp: bool,
    /// Which targets end where the robot is.
    holds: [bool; 3],
}

impl Goals {
    pub fn of(robot: &RobotDescription) -> Result<Self, String> {
        const LEGS: [&str; 6] = ["stewart_1", "stewart_2", "stewart_3", "stewart_4", "stewart_5", "stewart_6"];
        let channels = robot.action_channels();
        let commanded = || JOINTS[..1].iter().chain(&ANTENNAS).chain(&HEAD).copied();
        for channel in &channels {
            if !commanded().any(|name| name == channel.name) || channel.mode != Some(CommandMode::Position) {
                let all = commanded().collect::<Vec<_>>().join(", ");
                let mode = channel.mode.map_or_else(|| "nothing".to_owned(), |mode| format!("{mode:?}").to_lowercase());
                return Err(format!("expected channels of action among {all}, by position, found {} by {mode}", channel.name));
            }
        }
        let at = |name: &str| channels.iter().position(|channel| channel.name == name);
        let all_or_none = |names: &[&str]| {
            let found: Vec<usize> = names.iter().filter_map(|name| at(name)).collect();
            let fits = found.is_empty() || found.len() == names.len();
            let missing = || format!("expected all or none of {} to be commanded, found {}", names.join(", "), found.len());
            if fits { Ok(found) } else { Err(missing()) }
        };
        let stop = |name: &str| {
            let part = robot.parts.iter().find(|part| part.feature_name() == name);
            part.and_then(|part| part.stop).unwrap_or(robot.stop.behaviour) == sinew_core::StopBehaviour::Limp
        };
        let head: Option<[usize; 6]> = all_or_none(&HEAD)?.try_into().ok();
        let antennas: Option<[usize; 2]> = all_or_none(&ANTENNAS)?.try_into().ok();
        let body_yaw = at(JOINTS[0]);
        let mut limp = Vec::new();
        if head.is_some() && HEAD.iter().any(|name| stop(name)) {
            // The legs move the head together: none of its axes can be without torque alone.
            if let Some(stiff) = HEAD.iter().find(|name| !stop(name)) {
                return Err(format!("expected all of {} to stop in the same way, found {stiff} to hold", HEAD.join(", ")));
            }
            limp.extend(LEGS);
        }
        if body_yaw.is_some() && stop(JOINTS[0]) {
            limp.push("body_rotation");
        }
        if antennas.is_some() {
            limp.extend(ANTENNAS.iter().zip(["right_antenna", "left_antenna"]).filter(|(name, _)| stop(name)).map(|(_, motor)| motor));
        }
        let holds = [
            !limp.contains(&LEGS[0]),
            !limp.contains(&"body_rotation"),
            !limp.contains(&"right_antenna") || !limp.contains(&"left_antenna"),
        ];
        Ok(Self { head, body_yaw, antennas, is_carried: head_is_carried(robot), all_limp: limp.len() == 9, limp, holds })
    }

    /// Where `command` brings the robot.
    pub fn of_command(&self, command: &SafeCommand, known: &Known) -> Targets {
        let goal = |i: usize| command.goals().get(i).copied().unwrap_or_default();
        let body_yaw = self.body_yaw.map(goal);
        let carrier = if self.is_carried { body_yaw.unwrap_or(known.joints.value[0]) } else { 0.0 };
        Targets {
            head: self.head.map(|head| turned_by(carrier, head.map(goal))),
            body_yaw,
            antennas: self.antennas.map(|all| all.map(goal)),
        }
    }

    /// Where the robot is, as far as it is commanded; `None` where that was not heard since `since`.
    pub fn present(&self, known: &Known, since: Timestamp) -> Option<Targets> {
        let joints = known.joints.since(since)?;
        Some(Targets {
            head: if self.head.is_some() { Some(*known.head.since(since)?) } else { None },
            body_yaw: self.body_yaw.map(|_| joints[0]),
            antennas: if self.antennas.is_some() { Some(*known.antennas.since(since)?) } else { None },
        })
    }

    /// What of `present` is held when the robot stops.
    pub fn held(&self, present: Targets) -> Targets {
        let [head, body_yaw, antennas] = self.holds;
        Targets {
            head: present.head.filter(|_| head),
            body_yaw: present.body_yaw.filter(|_| body_yaw),
            antennas: present.antennas.filter(|_| antennas),
        }
    }

    /// Says of each channel of action what `targets` are for it.
    pub fn each(&self, targets: &Targets, known: &Known, mut tell: impl FnMut(usize, f64)) {
        let carrier = if self.is_carried { targets.body_yaw.unwrap_or(known.joints.value[0]) } else { 0.0 };
        if let (Some(channels), Some(head)) = (self.head, targets.head) {
            channels.into_iter().zip(turned_by(-carrier, head)).for_each(|(channel, value)| tell(channel, value));
        }
        if let (Some(channel), Some(yaw)) = (self.body_yaw, targets.body_yaw) {
            tell(channel, yaw);
        }
        if let (Some(channels), Some(antennas)) = (self.antennas, targets.antennas) {
            channels.into_iter().zip(antennas).for_each(|(channel, value)| tell(channel, value));
        }
    }
}
