//! Wheels: what a base is told becomes velocities of motors, and back.

use std::time::Duration;

use sinew_core::{Base, Channel, ChannelSource, Observation, RobotDescription, SafeCommand, Sent, Timestamp};

use super::health::{Miss, Slot};
use super::line::Line;
use crate::{Block, Bus, BusError, Frame, MotorError, MotorFault, Operation, Register, Reply};

/// A base's channels, and its wheels in the base's order. Its buffers are made once.
pub(super) struct Drive {
    base: Base,
    /// Forward, left, turning: where each stands in the state and in the action.
    state: [Option<usize>; 3],
    action: [Option<usize>; 3],
    /// Rad/s.
    wanted: Vec<f64>,
    measured: Vec<Option<f64>>,
    speeds: Vec<f64>,
    /// The alarm bits of all wheels together.
    alert: u32,
}

impl Drive {
    pub fn of(robot: &RobotDescription) -> Option<Self> {
        let base = robot.base.clone()?;
        let place =
            |channels: &[Channel]| [0, 1, 2].map(|axis| channels.iter().position(|channel| channel.source == ChannelSource::Base(axis)));
        let (state, action) = (place(&robot.state_channels()), place(&robot.action_channels()));
        let wheels = base.wheels.len();
        Some(Self { base, state, action, wanted: vec![0.0; wheels], measured: vec![None; wheels], speeds: vec![0.0; wheels], alert: 0 })
    }

    /// A new reading begins.
    pub fn begin(&mut self) {
        self.measured.fill(None);
        self.alert = 0;
    }

    /// A wheel's velocity in rad/s, and its alarm bits.
    pub fn measure(&mut self, wheel: usize, read: Option<(f64, u32)>) {
        if let (Some(slot), Some((velocity, alert))) = (self.measured.get_mut(wheel), read) {
            *slot = Some(velocity);
            self.alert |= alert;
        }
    }

    /// What the wheels make of the base; nothing is known of it while one of them is silent.
    pub fn observe(&mut self, time: Timestamp, observation: &mut Observation) {
        let is_known = self.measured.iter().all(Option::is_some);
        for (speed, measured) in self.speeds.iter_mut().zip(&self.measured) {
            *speed = measured.unwrap_or(0.0);
        }
        let motion = self.base.motion(&self.speeds);
        for (channel, value) in self.state.iter().zip(motion) {
            match channel {
                Some(channel) if !is_known => observation.state.miss(*channel),
                Some(channel) if self.alert != 0 => observation.state.set_with_alert(*channel, value, time, self.alert),
                Some(channel) => observation.state.set(*channel, value, time),
                None => {}
            }
        }
    }

    /// Makes wheels' velocities of a command, or of none; what that is for the base.
    pub fn roll(&mut self, command: Option<&SafeCommand>) -> [f64; 3] {
        let motion = self.action.map(|channel| channel.and_then(|channel| command?.goals().get(channel).copied()).unwrap_or(0.0));
        self.base.wheel_velocities(motion, &mut self.wanted);
        let fastest = self.wanted.iter().fold(0.0, |fastest: f64, speed| fastest.max(speed.abs()));
        // Slowed down as a whole it goes elsewhere than it was told.
        let is_slowed = fastest >= self.base.wheel_velocity_rad_per_s * (1.0 - 1e-9);
        if is_slowed { self.base.motion(&self.wanted) } else { motion }
    }

    pub fn wanted(&self) -> &[f64] {
        &self.wanted
    }

    pub fn reach(&self, motion: [f64; 3], sent: &mut Sent) {
        for (channel, value) in self.action.iter().zip(motion) {
            if let Some(channel) = channel {
                sent.reach(*channel, value);
            }
        }
    }
}

impl Line {
    pub fn has_wheels(&self) -> bool {
        self.positions < self.joints.len()
    }

    /// Reads the wheels' velocities and hands each on: which wheel, rad/s and alarm bits.
    pub fn read_wheels(
        &mut self,
        now: impl Fn() -> Timestamp,
        slots: &[Slot],
        deadline: Timestamp,
        mut each: impl FnMut(usize, Option<(f64, u32)>),
    ) -> u32 {
        let Some(block) = self.velocity.filter(|_| self.has_wheels()) else { return 0 };
        let replies = &mut self.replies[self.positions..];
        let result = if self.lost_until.is_some() { Err(None) } else { self.bus.read(block, replies, deadline).map_err(Some) };
        if let Err(error) = result {
            replies.iter_mut().for_each(|reply| *reply = Reply::of(reply.motor, Operation::Read(block)));
            if let Some(error) = error {
                self.note(&error, now());
            }
        }
        let (now, mut retries) = (now(), 0);
        let motors = self.joints.iter().zip(&self.replies).zip(&slots[self.first_slot..]);
        for ((joint, reply), slot) in motors.skip(self.positions) {
            let Some(wheel) = joint.wheel else { continue };
            retries += slot.retry(reply);
            let decode = |bytes: &[u8]| joint.decode(Register::PresentVelocity, block.address, bytes);
            match reply.answer.map(|answer| (decode(answer.bytes.as_slice()), u32::from(answer.alert))) {
                Ok((Some(raw), alert)) => {
                    let velocity = joint.rolls(raw);
                    slot.read(now, velocity, alert);
                    each(wheel, Some((velocity, alert | slot.lost_torque())));
                }
                Ok((None, _)) => slot.miss(Miss::Implausible),
                Err(error) => {
                    slot.miss(Miss::Fault(error.fault));
                    each(wheel, None);
                }
            }
        }
        retries
    }

    /// Whether every wheel here has its torque, and nothing happened that it must rest after.
    pub fn may_roll(&self) -> bool {
        self.joints[self.positions..].iter().all(|joint| joint.has_torque && joint.must_rest.is_none())
    }

    /// Sends velocities in rad/s to the wheels here, by their place in the base; 0 is sent whatever is known of them.
    pub fn roll(&mut self, wanted: impl Fn(usize) -> f64, deadline: Timestamp) -> Result<(), BusError> {
        let Some(address) = self.goal_velocity.filter(|_| self.has_wheels()) else { return Ok(()) };
        self.frames.clear();
        for joint in &self.joints[self.positions..] {
            let raw = joint.wheel.map_or(0, |wheel| joint.to_roll(wanted(wheel)));
            self.frames.extend(joint.frame(Register::GoalVelocity, raw).map(|(_, frame)| frame));
        }
        self.bus.write(address, &self.frames, deadline)?;
        for joint in &mut self.joints[self.positions..] {
            joint.must_rest = joint.must_rest.filter(|_| !joint.is_checked);
        }
        Ok(())
    }

    /// Whether the wheels' goals are 0; one whose goal is not is told once more by itself.
    pub fn stands(&mut self, deadline: Timestamp) -> Result<(), BusError> {
        let Some(address) = self.goal_velocity.filter(|_| self.has_wheels()) else { return Ok(()) };
        let len = self.velocity.map_or(0, |block| block.len);
        let block = Block { address, len };
        let mut result = Ok(());
        self.bus.read(block, &mut self.replies[self.positions..], deadline)?;
        for i in self.positions..self.joints.len() {
            let answer = self.replies[i].answer;
            let one = match answer {
                Ok(answer) if answer.bytes.as_slice().iter().all(|byte| *byte == 0) => Ok(()),
                Ok(_) => self.tell(i, Register::GoalVelocity, 0, deadline).and_then(|()| {
                    match self.ask(i, Register::GoalVelocity, deadline)? {
                        0 => Ok(()),
                        _ => Err(refused(block, self.joints[i].motor)),
                    }
                }),
                Err(error) => Err(error.into()),
            };
            result = result.and(one);
        }
        result
    }

    /// Packets that stop the wheels: all with one, then each with its own.
    pub fn standing_packets(&self) -> Vec<Vec<u8>> {
        let Some(address) = self.goal_velocity.filter(|_| self.has_wheels()) else { return Vec::new() };
        let protocol = self.bus.protocol();
        let frames: Vec<Frame> = self.joints[self.positions..]
            .iter()
            .filter_map(|joint| joint.frame(Register::GoalVelocity, 0))
            .map(|(_, frame)| frame)
            .collect();
        let id = |frame: &Frame| u8::try_from(frame.motor.0).unwrap_or(u8::MAX);
        let len = frames.first().map_or(0, |frame| frame.bytes.as_slice().len());
        let block = Block { address, len: u8::try_from(len).unwrap_or(u8::MAX) };
        let (mut packet, mut packets) = (Vec::new(), Vec::new());
        if protocol.sync_write(&mut packet, block, frames.iter().map(|frame| (id(frame), frame.bytes.as_slice()))).is_ok() {
            packets.push(packet.clone());
        }
        for frame in &frames {
            if protocol.write(&mut packet, id(frame), address, frame.bytes.as_slice()).is_ok() {
                packets.push(packet.clone());
            }
        }
        packets
    }

    /// What the wheels' turn of reading takes.
    pub fn time_for_wheels(&self) -> Duration {
        let wheels = self.joints.len() - self.positions;
        self.velocity.filter(|_| wheels > 0).map_or(Duration::ZERO, |block| self.bus.time_to_read(block.len.into(), wheels))
    }
}

fn refused(block: Block, motor: crate::MotorId) -> BusError {
    MotorError { operation: Operation::Write(block), motor, fault: MotorFault::Refused { bits: 0 } }.into()
}
