//! Robstride's own protocol: frames of 8 bytes, identifiers of 29 bits that hold a type, 16 bits of data and an address.
//!
//! From the makers' manuals and the package robstride-dynamics 0.0.1, which `golden.json` has frames of.

use super::CanFrame;
use super::motor::{self, CanAnswer, CanMotor, Feedback, MitCommand, MotorState, Request};

/// Our own address.
const HOST: u16 = 0xFF;

const COMMAND: u32 = 1;
const STATUS: u32 = 2;
const ENABLE: u32 = 3;
const DISABLE: u32 = 4;
const SET_ZERO: u32 = 6;
const READ: u32 = 17;
const WRITE: u32 = 18;
const STORE: u32 = 22;

/// Which of its modes it is in; 0 is the one of [`COMMAND`].
pub(super) const MODE: u16 = 0x7005;
/// Where it is, as a float.
const POSITION: u16 = 0x7019;
/// Silence after which it switches itself off, in 50 us; 0 for never.
pub(super) const TIMEOUT: u16 = 0x7028;

pub(super) fn ask(motor: &CanMotor, request: Request) -> Option<CanFrame> {
    let frame =
        |kind: u32, extra: u16, data: &[u8; 8]| CanFrame::extended(kind << 24 | u32::from(extra) << 8 | u32::from(motor.id & 0xFF), data);
    let indexed = |index: u16, [a, b, c, d]: [u8; 4]| {
        let [low, high] = index.to_le_bytes();
        [low, high, 0, 0, a, b, c, d]
    };
    match request {
        // Anything that brings a whole status also moves it, enables it or switches it off.
        Request::Look => frame(READ, HOST, &indexed(POSITION, [0; 4])),
        Request::Command(command) => {
            let (torque, data) = mit(motor, &command);
            frame(COMMAND, torque, &data)
        }
        Request::Enable => frame(ENABLE, HOST, &[0; 8]),
        Request::Disable => frame(DISABLE, HOST, &[0; 8]),
        Request::SetZero => frame(SET_ZERO, HOST, &[1, 0, 0, 0, 0, 0, 0, 0]),
        Request::Read(index) => frame(READ, HOST, &indexed(index, [0; 4])),
        Request::Write(index, bytes) => frame(WRITE, HOST, &indexed(index, bytes)),
        Request::Store => frame(STORE, HOST, &[1, 2, 3, 4, 5, 6, 7, 8]),
    }
}

/// The torque, which goes into the identifier, and the data.
fn mit(motor: &CanMotor, command: &MitCommand) -> (u16, [u8; 8]) {
    let model = &motor.model;
    let numbers = [
        motor::nearest(command.position, -model.position, model.position, 16),
        motor::inwards(command.velocity, model.velocity, 16),
        motor::below(command.stiffness, 0.0, model.stiffness, 16),
        motor::below(command.damping, 0.0, model.damping, 16),
    ];
    let mut data = [0; 8];
    for (slot, number) in data.chunks_exact_mut(2).zip(numbers) {
        slot.copy_from_slice(&number.to_be_bytes());
    }
    (motor::inwards(command.torque, model.torque, 16), data)
}

/// The register that a question is for. What is written is answered by a status.
pub(super) fn register(asked: &CanFrame) -> Option<u16> {
    match asked.data() {
        // Where it is counts as what it says of itself.
        [low, high, ..] if asked.id() >> 24 == READ => Some(u16::from_le_bytes([*low, *high])).filter(|index| *index != POSITION),
        _ => None,
    }
}

pub(super) fn answer(motor: &CanMotor, frame: &CanFrame) -> Option<CanAnswer> {
    let [kind, extra_high, sender, host] = frame.id().to_be_bytes();
    if !frame.is_extended() || u16::from(sender) != motor.id || u16::from(host) != HOST {
        return None;
    }
    let data: &[u8; 8] = frame.data().try_into().ok()?;
    let [index_low, index_high, _, _, value @ ..] = *data;
    match kind.into() {
        // One that it doesn't have it refuses.
        READ if extra_high == 0 => {
            let index = u16::from_le_bytes([index_low, index_high]);
            if index != POSITION {
                return Some(CanAnswer::Register(index, value));
            }
            let position = f64::from(f32::from_le_bytes(value));
            let none = Feedback { position, velocity: None, torque: None, temperature_c: None, state: None, alert: 0 };
            position.is_finite().then_some(CanAnswer::Feedback(none))
        }
        STATUS => {
            let number = |i: usize| u16::from_be_bytes([data[i], data[i + 1]]);
            let model = &motor.model;
            let alert = u16::from(extra_high & 0x3F);
            let state = match extra_high >> 6 {
                2 => MotorState::Enabled,
                _ if alert != 0 => MotorState::Fault,
                _ => MotorState::Disabled,
            };
            Some(CanAnswer::Feedback(Feedback {
                position: motor::value(number(0), -model.position, model.position, 16),
                velocity: Some(motor::value(number(2), -model.velocity, model.velocity, 16)),
                torque: Some(motor::value(number(4), -model.torque, model.torque, 16)),
                temperature_c: Some(f64::from(number(6)) * 0.1),
                state: Some(state),
                alert,
            }))
        }
        _ => None,
    }
}
