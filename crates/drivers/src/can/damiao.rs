//! Damiao's protocol: frames of 8 bytes, identifiers of 11 bits.
//!
//! From LeRobot 0.6.1 (`lerobot/motors/damiao`) and the package damiao-motor 1.0.6, which `golden.json` has frames of.

use super::CanFrame;
use super::motor::{self, CanAnswer, CanMotor, Feedback, MitCommand, MotorState, Request};

/// To all motors: the one that is meant is named in the data.
const REGISTERS: u32 = 0x7FF;
const READ: u8 = 0x33;
const WRITE: u8 = 0x55;
const STORE: u8 = 0xAA;
const REFRESH: u8 = 0xCC;

/// Registers that are compared before a motor is driven.
/// Silence after which it switches itself off, in 50 us; 0 for never.
pub(super) const TIMEOUT: u16 = 9;
pub(super) const MODE: u16 = 10;
pub(super) const POSITION_SPAN: u16 = 21;
pub(super) const VELOCITY_SPAN: u16 = 22;
pub(super) const TORQUE_SPAN: u16 = 23;
/// Of [`MODE`]: position, velocity, stiffness, damping and torque in one frame.
pub(super) const MIT: u32 = 1;

pub(super) fn ask(motor: &CanMotor, request: Request) -> Option<CanFrame> {
    let special = |code: u8| CanFrame::standard(motor.id.into(), &[0xFF, 0xFF, 0xFF, 0xFF, 0xFF, 0xFF, 0xFF, code]);
    let [low, high] = motor.id.to_le_bytes();
    let global = |code: u8, register: u8, [a, b, c, d]: [u8; 4]| CanFrame::standard(REGISTERS, &[low, high, code, register, a, b, c, d]);
    match request {
        Request::Look => global(REFRESH, 0, [0; 4]),
        Request::Command(command) => CanFrame::standard(motor.id.into(), &mit(motor, &command)),
        Request::Enable => special(0xFC),
        Request::Disable => special(0xFD),
        Request::SetZero => special(0xFE),
        Request::Read(register) => global(READ, register.try_into().ok()?, [0; 4]),
        Request::Write(register, bytes) => global(WRITE, register.try_into().ok()?, bytes),
        Request::Store => global(STORE, 0, [0; 4]),
    }
}

fn mit(motor: &CanMotor, command: &MitCommand) -> [u8; 8] {
    let model = &motor.model;
    let position = motor::nearest(command.position, -model.position, model.position, 16).to_be_bytes();
    let velocity = motor::inwards(command.velocity, model.velocity, 12);
    let stiffness = motor::below(command.stiffness, 0.0, model.stiffness, 12);
    let damping = motor::below(command.damping, 0.0, model.damping, 12);
    let torque = motor::inwards(command.torque, model.torque, 12);
    let [a, b, c] = pair(velocity, stiffness);
    let [d, e, f] = pair(damping, torque);
    [position[0], position[1], a, b, c, d, e, f]
}

/// Two numbers of 12 bits in three bytes.
fn pair(first: u16, second: u16) -> [u8; 3] {
    let [_, a, b, c] = (u32::from(first & 0xFFF) << 12 | u32::from(second & 0xFFF)).to_be_bytes();
    [a, b, c]
}

/// The register that a question is for.
pub(super) fn register(asked: &CanFrame) -> Option<u16> {
    match asked.data() {
        [_, _, READ | WRITE | STORE, register, ..] if asked.id() == REGISTERS => Some((*register).into()),
        _ => None,
    }
}

pub(super) fn answer(motor: &CanMotor, frame: &CanFrame) -> Option<CanAnswer> {
    if frame.is_extended() || frame.id() != u32::from(motor.answer_id) {
        return None;
    }
    let data: &[u8; 8] = frame.data().try_into().ok()?;
    let [low, high] = motor.id.to_le_bytes();
    if let [l, h, READ | WRITE | STORE, register, value @ ..] = data
        && (*l, *h) == (low, high)
    {
        return Some(CanAnswer::Register((*register).into(), *value));
    }
    // Of its own address it says four bits.
    if data[0] & 15 != low & 15 {
        return None;
    }
    let model = &motor.model;
    let number = |high: u8, low: u8| u16::from(high) << 8 | u16::from(low);
    let code = data[0] >> 4;
    let (state, alert) = match code {
        0 => (MotorState::Disabled, 0),
        1 => (MotorState::Enabled, 0),
        _ => (MotorState::Fault, 1 << code),
    };
    Some(CanAnswer::Feedback(Feedback {
        position: motor::value(number(data[1], data[2]), -model.position, model.position, 16),
        velocity: Some(motor::value(number(data[3], data[4]) >> 4, -model.velocity, model.velocity, 12)),
        torque: Some(motor::value(number(data[4] & 15, data[5]), -model.torque, model.torque, 12)),
        temperature_c: Some(f64::from(data[6].max(data[7]))),
        state: Some(state),
        alert,
    }))
}
