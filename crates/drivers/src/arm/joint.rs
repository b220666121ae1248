//! One part with its motor.

use std::f64::consts::TAU;

use sinew_core::{StopBehaviour, Timestamp};

use crate::wire::Protocol;
use crate::{Bytes, ControlTable, MotorId, Register, Scale};

/// How far a reading may be off, in ticks, beside what speed explains.
const SLACK: f64 = 40.0;
/// How much faster than without load a joint may be that is pushed.
const PUSHED: f64 = 2.0;
/// After so many readings that fit each other, but not what was known, they are believed.
const AGREE: u32 = 3;

/// More than any register of velocity is to hold.
const FASTEST_RAW: i32 = 0x7fff;
/// Robotis' unit of velocity, turns a minute.
const DYNAMIXEL_VELOCITY: f64 = 0.229;

#[derive(Clone)]
pub(super) struct Joint {
    pub part: usize,
    pub name: String,
    /// Where it stands in the state and in the action.
    pub state: Option<usize>,
    pub action: Option<usize>,
    pub motor: MotorId,
    pub table: &'static ControlTable,
    pub scale: Scale,
    pub stop: StopBehaviour,
    /// What its registers are to hold.
    pub wanted: Vec<(Register, i32)>,
    /// Which of the base's wheels it is; its velocity is commanded then, by the base.
    pub wheel: Option<usize>,
    /// Rad/s of a wheel for a tick a second of its motor.
    wheel_tick: f64,
    /// Where a motor that is moved by hand pulls it to, in ticks.
    pub trigger: Option<i32>,
    /// Ticks a second that it can't exceed.
    fastest: f64,
    known: Option<(i32, Timestamp)>,
    doubtful: Option<(i32, Timestamp, u32)>,
    /// Whether its torque was switched on, and not off since, as far as is known.
    pub has_torque: bool,
    /// Whether it said that it has torque, when it was asked last.
    pub says_torque: bool,
    /// The next goal is where it is, whatever is wanted: set when nobody knows what it did meanwhile.
    pub must_rest: Option<Timestamp>,
    /// Whether it is known since then that it has torque, or not.
    pub is_checked: bool,
    /// What tells it from the same joint of another arm.
    pub marks: [Option<Bytes>; 2],
}

/// Turns a minute without load at the highest voltage that the model is made for, from the makers' data sheets.
fn turns_a_minute(model: &str) -> f64 {
    match model {
        "sts3215" => 55.0,
        "sts3250" => 80.0,
        "sm8512bl" => 60.0,
        "scs0009" => 110.0,
        "xl330-m077" => 456.0,
        "xl330-m288" => 123.0,
        "xc330-m181" => 155.0,
        "xc330-m288" => 97.0,
        "xc330-t181" => 112.0,
        "xc330-t288" => 71.0,
        "xl430-w250" => 61.0,
        "xc430-w150" => 106.0,
        "xm430-w350" => 57.0,
        "xm540-w270" => 37.0,
        _ => 460.0,
    }
}

impl Joint {
    pub fn new(part: usize, name: &str, motor: MotorId, table: &'static ControlTable, scale: Scale, stop: StopBehaviour) -> Self {
        let fastest = PUSHED * turns_a_minute(table.model) / 60.0 * f64::from(table.resolution);
        Self {
            part,
            name: name.to_owned(),
            state: None,
            action: None,
            motor,
            table,
            scale,
            stop,
            wanted: Vec::new(),
            wheel: None,
            wheel_tick: 0.0,
            trigger: None,
            fastest,
            known: None,
            doubtful: None,
            has_torque: false,
            says_torque: false,
            must_rest: None,
            is_checked: false,
            marks: [None; 2],
        }
    }

    /// Where it was read last, in ticks.
    pub fn known(&self) -> Option<(i32, Timestamp)> {
        self.known
    }

    /// Where it was read after `since`.
    pub fn known_since(&self, since: Timestamp) -> Option<i32> {
        self.known.filter(|(_, time)| *time >= since).map(|(ticks, _)| ticks)
    }

    /// Takes a reading; `false` when the motor can't have come there from where it was, and nothing confirms it.
    pub fn take(&mut self, ticks: i32, now: Timestamp) -> bool {
        let is_near = |(from, time): (i32, Timestamp)| {
            let dt_s = now.nanos_since(time).max(0) as f64 * 1e-9;
            (f64::from(ticks) - f64::from(from)).abs() <= SLACK + self.fastest * dt_s
        };
        if self.known.is_none_or(is_near) {
            (self.known, self.doubtful) = (Some((ticks, now)), None);
            return true;
        }
        let count = match self.doubtful {
            Some((from, time, count)) if is_near((from, time)) => count + 1,
            _ => 1,
        };
        if count >= AGREE {
            (self.known, self.doubtful) = (Some((ticks, now)), None);
            return true;
        }
        self.doubtful = Some((ticks, now, count));
        false
    }

    /// What was known is of another time.
    pub fn forget(&mut self) {
        (self.known, self.doubtful) = (None, None);
    }

    /// Makes it the base's wheel `index`. As LeRobot has it (`lekiwi.py`), a turn is all of the motor's ticks.
    pub fn roll(&mut self, index: usize, direction: f64, gear: f64) {
        self.wheel = Some(index);
        self.wheel_tick = direction / gear * TAU / f64::from(self.table.resolution);
    }

    /// Whether goals go to it: it gets torque, and is stopped.
    pub fn is_driven(&self) -> bool {
        self.action.is_some() || self.wheel.is_some()
    }

    /// A wheel's velocity in rad/s, of what its register says.
    pub fn rolls(&self, raw: f64) -> f64 {
        self.ticks_per_s(raw) * self.wheel_tick
    }

    /// What a wheel's register is to hold for a velocity in rad/s; 0 for one that is not finite.
    pub fn to_roll(&self, rad_per_s: f64) -> i32 {
        let raw = (rad_per_s / self.wheel_tick / self.ticks_per_s(1.0)).round();
        #[expect(clippy::as_conversions, clippy::cast_possible_truncation, reason = "what is too large becomes the largest")]
        let raw = if raw.is_finite() { raw as i32 } else { 0 };
        raw.clamp(-FASTEST_RAW, FASTEST_RAW)
    }

    /// What a register of velocity says, in ticks a second.
    pub fn ticks_per_s(&self, raw: f64) -> f64 {
        match self.table.protocol {
            Protocol::Dynamixel2 => raw * DYNAMIXEL_VELOCITY * f64::from(self.table.resolution) / 60.0,
            Protocol::Feetech0 | Protocol::Feetech1 => raw,
        }
    }

    /// A register's value in what was read from `address` on.
    pub fn decode(&self, register: Register, address: u16, bytes: &[u8]) -> Option<f64> {
        self.table.decode(register, self.motor, address, bytes).ok().map(f64::from)
    }
}

#[cfg(test)]
mod tests {
    use sinew_core::RobotDescription;

    use super::*;
    use crate::{MotorCalibration, STS3215};

    fn joint() -> Joint {
        let text = "schema = 2\nname = \"one\"\ntitle = \"one\"\ncontrol_rate_hz = 30\nlerobot = { class = \"one\" }\n\
                    stop = { behaviour = \"hold\" }\n[[part]]\nname = \"motor\"\nunit = \"degrees\"\ncommand = \"position\"\n\
                    limits = { position = [-1.0, 1.0], velocity = 3.0, step = 0.35 }\n";
        let robot = RobotDescription::from_toml("one", text).unwrap();
        let calibration = MotorCalibration { id: 1, drive_mode: 0, homing_offset: 0, range_min: 0, range_max: 4095 };
        let scale = Scale::of(&robot.parts[0], &STS3215, &calibration).unwrap();
        Joint::new(0, "motor", MotorId(1), &STS3215, scale, StopBehaviour::Hold)
    }

    #[test]
    fn a_jump_that_no_motor_can_make_is_no_value_until_it_is_confirmed() {
        let mut joint = joint();
        let at = |ms: i64| Timestamp::from_nanos(ms * 1_000_000);
        assert!(joint.take(2048, at(0)) && joint.take(2100, at(16)) && joint.take(2000, at(33)));
        // A flipped bit.
        assert!(!joint.take(2000 ^ 0x400, at(50)));
        assert!(joint.take(2001, at(66)));
        // A hand that is quicker than the motor, or a motor that counts anew: the third is believed.
        assert!(!joint.take(100, at(83)) && !joint.take(105, at(100)));
        assert!(joint.take(110, at(116)));
        assert_eq!(joint.known(), Some((110, at(116))));
        // After silence it may be anywhere that time allows.
        assert!(joint.take(3000, at(1116)));
        assert!(!joint.take(1000, at(1130)) && !joint.take(2000, at(1140)) && !joint.take(1000, at(1150)));
    }
}
