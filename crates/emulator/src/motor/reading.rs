//! From the body to the registers and back.

use sinew_drivers::Register;
use sinew_drivers::wire::Protocol;

use super::{Drive, Motor};

/// Dynamixel's unit of speed: 0.229 turns a minute, in ticks a second.
const DYNAMIXEL_SPEED: f64 = 0.229 * 4096.0 / 60.0;
/// Dynamixel's unit of acceleration: 214.577 turns per square minute, in ticks per square second.
const DYNAMIXEL_ACCELERATION: f64 = 214.577 * 4096.0 / 3600.0;
/// Feetech's unit of acceleration in ticks per square second.
const FEETECH_ACCELERATION: f64 = 100.0;

/// Bits of `hardware_error_status` and of Feetech's error byte.
mod alarm {
    pub const VOLTAGE: i32 = 1;
    pub const TEMPERATURE: i32 = 4;
    pub const OVERLOAD: i32 = 32;
}

impl Motor {
    fn is_dynamixel(&self) -> bool {
        self.table.protocol == Protocol::Dynamixel2
    }

    fn number(&self, register: Register) -> f64 {
        f64::from(self.value(register))
    }

    fn direction(&self) -> f64 {
        if self.is_dynamixel() && self.value(Register::DriveMode) & 1 == 1 { -1.0 } else { 1.0 }
    }

    /// Dynamixel's offset, which position mode takes at most a quarter of a turn of.
    fn offset(&self) -> f64 {
        let offset = self.number(Register::HomingOffset);
        if self.value(Register::OperatingMode) == 3 { offset.clamp(-1024.0, 1024.0) } else { offset }
    }

    /// What the register of the present position says at a place of the body.
    fn present_of(&self, position: f64) -> f64 {
        let turn = f64::from(self.table.resolution);
        if self.is_dynamixel() {
            return self.direction() * position + self.offset();
        }
        let present = position - self.number(Register::HomingOffset);
        let counts_turns = self.value(Register::Phase) & 0x10 != 0 || self.value(Register::OperatingMode) == 3;
        if counts_turns { present } else { present.round().rem_euclid(turn) }
    }

    /// The place of the body where a goal is, the nearest where turns are not counted.
    fn place_of(&self, goal: f64) -> f64 {
        if self.is_dynamixel() {
            return self.direction() * (goal - self.offset());
        }
        self.body.position + goal - self.present_of(self.body.position)
    }

    /// Part of the full torque that may be given.
    pub(super) fn torque_limit(&self) -> f64 {
        if self.is_dynamixel() {
            let pwm = self.number(Register::PwmLimit) / 885.0;
            let is_by_current = self.value(Register::OperatingMode) == 5 && self.facts.stall_current > 0.0;
            let current = if is_by_current { self.number(Register::GoalCurrent).abs() / self.facts.stall_current } else { 1.0 };
            return pwm.min(current).clamp(0.0, 1.0);
        }
        let register = if self.table.has(Register::TorqueLimit) { Register::TorqueLimit } else { Register::MaxTorqueLimit };
        let limit = self.number(register) / 1000.0;
        let protective = if self.is_overloaded { self.number(Register::ProtectiveTorque) / 100.0 } else { 1.0 };
        limit.min(protective).clamp(0.0, 1.0)
    }

    /// What the registers make the motor want.
    pub(super) fn drive(&self) -> Drive {
        if self.is_dead || self.value(Register::TorqueEnable) == 0 || self.value(Register::TorqueEnable) == 128 {
            return Drive::Off;
        }
        let mode = self.value(Register::OperatingMode);
        if self.is_dynamixel() {
            let or_fastest = |value: f64| if value == 0.0 { f64::INFINITY } else { value };
            let acceleration = or_fastest(self.number(Register::ProfileAcceleration) * DYNAMIXEL_ACCELERATION);
            return match mode {
                0 => Drive::Torque(self.direction() * self.number(Register::GoalCurrent) / self.facts.stall_current.max(1.0)),
                1 => Drive::Velocity { goal: self.direction() * self.number(Register::GoalVelocity) * DYNAMIXEL_SPEED, acceleration },
                16 => Drive::Velocity {
                    goal: self.direction() * self.number(Register::GoalPwm) / 885.0 * self.body.fastest,
                    acceleration: f64::INFINITY,
                },
                _ => Drive::Position {
                    goal: self.place_of(self.number(Register::GoalPosition)),
                    fastest: or_fastest(self.number(Register::ProfileVelocity) * DYNAMIXEL_SPEED),
                    acceleration,
                    stiffness: self.number(Register::PositionPGain) / 400.0,
                    is_exact: self.value(Register::PositionIGain) != 0,
                },
            };
        }
        let steps = match (self.value(Register::Acceleration), self.value(Register::MaximumAcceleration)) {
            (0, 0) => f64::INFINITY,
            (0, most) => f64::from(most),
            (wanted, 0) => f64::from(wanted),
            (wanted, most) => f64::from(wanted.min(most)),
        };
        let acceleration = steps * FEETECH_ACCELERATION;
        let speed = self.number(Register::GoalVelocity);
        match mode {
            1 => Drive::Velocity { goal: speed, acceleration },
            2 => {
                // The running time's register holds the duty, with bit 10 as its sign.
                let raw = self.value(Register::GoalTime);
                let duty = f64::from(raw & 0x3ff) / 1000.0;
                let duty = if raw & 0x400 == 0 { duty } else { -duty };
                Drive::Velocity { goal: duty * self.body.fastest, acceleration: f64::INFINITY }
            }
            _ => {
                let (least, most) = (self.number(Register::MinPositionLimit), self.number(Register::MaxPositionLimit));
                let goal = self.number(Register::GoalPosition);
                let goal = if mode == 0 && least < most { goal.clamp(least, most) } else { goal };
                Drive::Position {
                    goal: self.place_of(goal),
                    fastest: if speed == 0.0 { f64::INFINITY } else { speed.abs() },
                    acceleration,
                    stiffness: self.number(Register::PCoefficient) / 32.0,
                    is_exact: self.value(Register::ICoefficient) != 0,
                }
            }
        }
    }

    /// Writes what is measured into the registers.
    pub(super) fn measure(&mut self) {
        let direction = self.direction();
        let off = match self.rng.u8(..8) {
            0 => self.noise,
            1 => -self.noise,
            _ => 0.0,
        };
        let present = self.present_of(self.body.position + off);
        let velocity = direction * self.body.velocity;
        let effort = direction * self.body.effort;
        let volts = self.supply - 0.4 * self.body.effort.abs();
        let is_moving = i32::from(self.body.velocity.abs() > 10.0);
        self.put_near(Register::PresentPosition, present);
        self.put_near(Register::PresentTemperature, self.body.temperature);
        self.put(Register::Moving, is_moving);
        self.put_near(Register::PresentVoltage, 10.0 * volts);
        self.put_near(Register::PresentInputVoltage, 10.0 * volts);
        self.put_near(Register::PresentLoad, 1000.0 * effort);
        let current = effort * self.facts.stall_current;
        if self.is_dynamixel() {
            self.put_near(Register::PresentVelocity, velocity / DYNAMIXEL_SPEED);
            self.put_near(Register::PresentCurrent, current);
            self.put_near(Register::PresentPwm, 885.0 * effort);
            self.put_near(Register::VelocityTrajectory, velocity / DYNAMIXEL_SPEED);
            self.put(Register::PositionTrajectory, self.value(Register::PresentPosition));
        } else {
            self.put_near(Register::PresentVelocity, velocity);
            self.put_near(Register::PresentCurrent, current.abs());
            self.put(Register::Status, i32::from(self.alert()));
        }
    }

    /// The alarm that every answer carries.
    pub fn alert(&self) -> u8 {
        if self.is_dynamixel() {
            return if self.value(Register::HardwareErrorStatus) == 0 { 0 } else { 0x80 };
        }
        self.alarms().to_le_bytes()[0]
    }

    /// What is wrong now.
    fn alarms(&self) -> i32 {
        let hottest = if self.is_dynamixel() { Register::TemperatureLimit } else { Register::MaxTemperatureLimit };
        let volts = 10.0 * (self.supply - 0.4 * self.body.effort.abs());
        let mut alarms = 0;
        if self.body.temperature > self.number(hottest) {
            alarms |= alarm::TEMPERATURE;
        }
        if volts < self.number(Register::MinVoltageLimit) || volts > self.number(Register::MaxVoltageLimit) {
            alarms |= alarm::VOLTAGE;
        }
        if self.is_overloaded {
            alarms |= alarm::OVERLOAD;
        }
        alarms
    }

    /// What the motor does to save itself.
    pub(super) fn protect(&mut self, dt: f64, drive: Drive) {
        let (threshold, after_s) = if self.is_dynamixel() {
            (0.9, 2.0)
        } else if self.table.has(Register::OverloadTorque) {
            (self.number(Register::OverloadTorque) / 100.0, self.number(Register::ProtectionTime) / 100.0)
        } else {
            (0.8, self.number(Register::ProtectionTime) / 100.0)
        };
        // A motor that may give less than the threshold is at its limit and never over it, as an SO-101's gripper would
        // be without its own threshold.
        let is_over = drive != Drive::Off && self.body.effort.abs() >= threshold && threshold > 0.0;
        self.overload_s = if is_over { self.overload_s + dt } else { 0.0 };
        if self.overload_s > after_s {
            self.is_overloaded = true;
        }
        let alarms = self.alarms();
        if self.is_dynamixel() {
            // It stays until the next start.
            let known = self.value(Register::HardwareErrorStatus) | alarms;
            self.put(Register::HardwareErrorStatus, known);
            if known & self.value(Register::Shutdown) != 0 {
                self.put(Register::TorqueEnable, 0);
            }
        } else {
            self.put(Register::Status, alarms);
            if alarms & alarm::TEMPERATURE & self.value(Register::UnloadingCondition) != 0 {
                self.put(Register::TorqueEnable, 0);
            }
        }
    }
}
