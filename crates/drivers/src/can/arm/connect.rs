//! From a description and ports to an arm that is ready. Nothing moves meanwhile.

use std::sync::Arc;
use std::time::Duration;

use sinew_core::{ChannelSource, Clock, CommandMode, Impedance, PartKind, RobotDescription, StopBehaviour};

use super::super::motor::Maker;
use super::super::{CanModel, CanOptions, damiao, robstride};
use super::{CanArm, CanArmOptions, CanBus, CanConnectError, CanMotor, Joint, Line, MotorState, Request};
use crate::{Block, Bus, BusError, Bytes, Frame, MotorId, Operation, Reply};

/// How long a single question may take while connecting, with all its attempts.
const PATIENCE: Duration = Duration::from_millis(200);
/// What descriptions call buses with such motors.
const PROTOCOLS: [&str; 3] = ["can", "damiao", "robstride"];

struct Connecting<'a> {
    robot: &'a RobotDescription,
    options: &'a CanArmOptions,
    clock: &'a Arc<dyn Clock>,
}

pub(super) fn connect(robot: Arc<RobotDescription>, options: &CanArmOptions, clock: Arc<dyn Clock>) -> Result<CanArm, CanConnectError> {
    let connecting = Connecting { robot: &robot, options, clock: &clock };
    connecting.supports()?;
    let mut lines = Vec::new();
    for bus in &robot.buses {
        let joints = connecting.joints(&bus.name)?;
        if !joints.is_empty() {
            lines.push(connecting.line(bus, joints)?);
        }
    }
    Ok(CanArm { robot, lines, clock, options: options.clone() })
}

impl Connecting<'_> {
    fn unsupported<T>(&self, what: String) -> Result<T, CanConnectError> {
        Err(CanConnectError::Unsupported { robot: self.robot.name.clone(), what })
    }

    fn supports(&self) -> Result<(), CanConnectError> {
        if self.robot.base.is_some() {
            return self.unsupported("expected an arm, found one with a base".into());
        }
        if let Some(bus) = self.robot.buses.iter().find(|bus| !PROTOCOLS.contains(&bus.protocol.as_str())) {
            let expected = PROTOCOLS.join(" or ");
            return self.unsupported(format!("bus {}: expected the protocol {expected}, found {}", bus.name, bus.protocol));
        }
        for part in &self.robot.parts {
            if !matches!(part.command, None | Some(CommandMode::Impedance)) {
                return self.unsupported(format!("expected parts that are commanded by impedance, found {}", part.name));
            }
            if part.kind == PartKind::Wheel {
                return self.unsupported(format!("expected parts of an arm, found the wheel {}", part.name));
            }
        }
        Ok(())
    }

    fn joints(&self, bus: &str) -> Result<Vec<Joint>, CanConnectError> {
        let place =
            |channels: &[sinew_core::Channel], part| channels.iter().position(|channel| channel.source == ChannelSource::Part(part));
        let (states, actions) = (self.robot.state_channels(), self.robot.action_channels());
        let mut joints: Vec<Joint> = Vec::new();
        for (i, part) in self.robot.parts.iter().enumerate() {
            let Some(known) = part.motor.as_ref().filter(|motor| motor.bus == bus) else { continue };
            let Some(model) = CanModel::of(&known.model) else {
                let all: Vec<&str> = super::super::CAN_MODELS.iter().map(|model| model.name).collect();
                return self.unsupported(format!("{}: expected a motor of {}, found {}", part.name, all.join(", "), known.model));
            };
            let motor = CanMotor { model, id: known.id, answer_id: known.answer_id.unwrap_or(known.id) };
            let most_id = if model.maker == Maker::Damiao { 0x7FE } else { 0xFE };
            if motor.id == 0 || motor.id > most_id || motor.answer_id > 0x7FE {
                let name = &part.name;
                return self.unsupported(format!("{name}: expected a motor with an identifier of 1 to {most_id}, found {}", motor.id));
            }
            if let Some(other) = joints.iter().find(|other| model.maker == Maker::Damiao && other.motor.answer_id == motor.answer_id) {
                return self.unsupported(format!("{} and {} answer from the same identifier, {}", other.name, part.name, motor.answer_id));
            }
            joints.push(Joint {
                part: i,
                name: part.name.clone(),
                state: place(&states, i),
                action: place(&actions, i),
                motor,
                direction: known.direction,
                gear: known.gear,
                position: part.position_limits(),
                held: Impedance {
                    stiffness: part.limits.stiffness.unwrap_or(0.0),
                    damping: part.limits.damping.unwrap_or(0.0),
                    torque: 0.0,
                },
                step: part.limits.step.unwrap_or(0.0),
                stop: part.stop.unwrap_or(self.robot.stop.behaviour),
                known: None,
                status: None,
                last_goal: None,
                has_torque: false,
                has_lost_torque: false,
                alert: 0,
                must_rest: None,
            });
        }
        Ok(joints)
    }

    /// A motor can be told all that the part's limits allow.
    fn fits(&self, joint: &Joint) -> Result<(), CanConnectError> {
        if joint.action.is_none() {
            return Ok(());
        }
        let (name, model, gear) = (&joint.name, joint.motor.model, joint.gear);
        let most = model.position / gear;
        if joint.position.iter().any(|limit| limit.abs() > most) {
            return self.unsupported(format!("{name}: expected position limits within ±{most:.3}, which its motor can be told"));
        }
        let squared = gear * gear;
        for (what, limit, most) in [("stiffness", joint.held.stiffness, model.stiffness), ("damping", joint.held.damping, model.damping)] {
            let most = most * squared;
            if limit > most {
                return self.unsupported(format!("{name}: expected limits.{what} of at most {most}, which its motor can be told"));
            }
        }
        Ok(())
    }

    fn line(&self, bus: &sinew_core::Bus, mut joints: Vec<Joint>) -> Result<Line, CanConnectError> {
        let Some((_, address)) = self.options.ports.iter().find(|(name, _)| *name == bus.name) else {
            return self.unsupported(format!("expected a port for its bus {}, found none", bus.name));
        };
        let motors = joints.iter().map(|joint| joint.motor).collect();
        let options = CanOptions {
            bit_rate: bus.baud_rate.unwrap_or(1_000_000),
            data_bit_rate: bus.data_baud_rate,
            latency: self.options.latency,
            ..CanOptions::new(address.clone(), motors)
        };
        let failed = |source| CanConnectError::Bus { robot: self.robot.name.clone(), part: format!("bus {}", bus.name), source };
        let mut can = CanBus::open(options, Arc::clone(self.clock)).map_err(failed)?;
        for joint in &mut joints {
            can.ping(joint.id(), self.clock.now() + PATIENCE).map_err(|source| self.failed(joint, source))?;
            match joint.motor.model.maker {
                Maker::Damiao => self.meet_damiao(&mut can, joint)?,
                Maker::Robstride => self.meet_robstride(&mut can, joint)?,
            }
            self.fits(joint)?;
        }
        Ok(Line::new(&bus.name, can, joints))
    }

    /// It says what its numbers span, which is not the same in all motors of a model, but for the torque, by which models
    /// differ; and it takes the commands that are used here.
    fn meet_damiao(&self, bus: &mut CanBus, joint: &mut Joint) -> Result<(), CanConnectError> {
        let mut spans = [0.0; 3];
        for (span, register) in spans.iter_mut().zip([damiao::POSITION_SPAN, damiao::VELOCITY_SPAN, damiao::TORQUE_SPAN]) {
            *span = f64::from(f32::from_le_bytes(self.read(bus, joint, register)?));
        }
        let [position, velocity, torque] = spans;
        let model = joint.motor.model;
        let is_it = (1.0..=1000.0).contains(&position) && (1.0..=1000.0).contains(&velocity) && (torque / model.torque - 1.0).abs() < 1e-3;
        if !is_it {
            let expected = format!("a {}, whose torques span ±{} N m", model.name, model.torque);
            let found = format!("one whose numbers span ±{position} rad, ±{velocity} rad/s, ±{torque} N m");
            return self.other(joint, expected, found);
        }
        (joint.motor.model.position, joint.motor.model.velocity) = (position, velocity);
        bus.know(joint.motor);
        let found = self.read(bus, joint, damiao::MODE)?;
        if u32::from_le_bytes(found) != damiao::MIT {
            self.set_mode(bus, joint, u32::from_le_bytes(found))?;
        }
        self.holds(bus, joint, damiao::TIMEOUT)
    }

    /// Has a motor without torque take the commands that are used here, and reads whether it does.
    fn set_mode(&self, bus: &mut CanBus, joint: &Joint, found: u32) -> Result<(), CanConnectError> {
        if self.state(bus, joint)? != Some(MotorState::Disabled) {
            return self.other(joint, format!("the mode {} (MIT), or no torque", damiao::MIT), format!("{found} while it has torque"));
        }
        let Some(bytes) = Bytes::of(&damiao::MIT.to_le_bytes()) else { return Ok(()) };
        let frame = Frame { motor: joint.id(), bytes };
        bus.write_one(damiao::MODE, &frame, self.clock.now() + PATIENCE).map_err(|source| self.failed(joint, source))?;
        let now = u32::from_le_bytes(self.read(bus, joint, damiao::MODE)?);
        if now != damiao::MIT {
            return self.other(joint, format!("the mode {} (MIT), which it was given", damiao::MIT), now.to_string());
        }
        tracing::info!("{}: mode of {} was {found} and is now {now}", self.robot.name, joint.name);
        Ok(())
    }

    fn meet_robstride(&self, bus: &mut CanBus, joint: &Joint) -> Result<(), CanConnectError> {
        let [mode, ..] = self.read(bus, joint, robstride::MODE)?;
        if mode != 0 {
            return self.other(joint, "the run mode 0 (operation control), which it has after power-on".into(), mode.to_string());
        }
        self.holds(bus, joint, robstride::TIMEOUT)
    }

    /// A part that is to hold when nobody speaks must have a motor that does so.
    fn holds(&self, bus: &mut CanBus, joint: &Joint, register: u16) -> Result<(), CanConnectError> {
        let timeout = u32::from_le_bytes(self.read(bus, joint, register)?);
        if timeout != 0 && joint.action.is_some() && joint.stop == StopBehaviour::Hold {
            let expected = format!("a motor that holds when nobody speaks (CAN time-out, register {register:#x}, 0), or stop = \"limp\"");
            return self.other(joint, expected, format!("one that goes limp after {} ms", f64::from(timeout) * 0.05));
        }
        Ok(())
    }

    fn state(&self, bus: &mut CanBus, joint: &Joint) -> Result<Option<MotorState>, CanConnectError> {
        let mut replies = [Reply::of(joint.id(), Operation::Ping)];
        let Some(frame) = joint.ask(Request::Look) else { return Ok(None) };
        bus.transact(Operation::Ping, &[frame], &mut replies, self.clock.now() + PATIENCE).map_err(|source| self.failed(joint, source))?;
        replies[0].answer.map_err(|error| self.failed(joint, error.into()))?;
        Ok(match bus.answer(&replies[0]) {
            Some(super::super::CanAnswer::Feedback(feedback)) => feedback.state,
            _ => None,
        })
    }

    fn read(&self, bus: &mut CanBus, joint: &Joint, register: u16) -> Result<[u8; 4], CanConnectError> {
        let block = Block { address: register, len: 4 };
        let mut replies = [Reply::of(joint.id(), Operation::Read(block))];
        bus.read(block, &mut replies, self.clock.now() + PATIENCE).map_err(|source| self.failed(joint, source))?;
        let answer = replies[0].answer.map_err(|error| self.failed(joint, error.into()))?;
        Ok(answer.bytes.as_slice().first_chunk().copied().unwrap_or_default())
    }

    fn failed(&self, joint: &Joint, source: BusError) -> CanConnectError {
        CanConnectError::Bus { robot: self.robot.name.clone(), part: joint.name.clone(), source }
    }

    fn other<T>(&self, joint: &Joint, expected: String, found: String) -> Result<T, CanConnectError> {
        let motor: MotorId = joint.id();
        Err(CanConnectError::Motor { robot: self.robot.name.clone(), part: joint.name.clone(), motor, expected, found })
    }
}
