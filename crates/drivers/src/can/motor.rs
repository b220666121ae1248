//! Motors with stiffness and damping on a CAN bus: what each model's numbers span, and what is said to it.

use super::{CanFrame, damiao, robstride};

/// Who made a motor, and so how it is spoken to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Maker {
    Damiao,
    Robstride,
}

/// What a model's numbers span. Positions, velocities and torques go from −x to x, stiffness and damping from 0.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct CanModel {
    /// As descriptions and LeRobot call it.
    pub name: &'static str,
    pub maker: Maker,
    /// rad.
    pub position: f64,
    /// rad/s.
    pub velocity: f64,
    /// N m.
    pub torque: f64,
    /// N m/rad.
    pub stiffness: f64,
    /// N m s/rad.
    pub damping: f64,
    /// The most that it gives for a short time, N m, from its maker's data sheet: what efforts are shares of.
    pub stall_torque: f64,
}

const fn damiao(name: &'static str, velocity: f64, torque: f64, stall_torque: f64) -> CanModel {
    CanModel { name, maker: Maker::Damiao, position: 12.5, velocity, torque, stiffness: 500.0, damping: 5.0, stall_torque }
}

const fn robstride(name: &'static str, velocity: f64, torque: f64, stiffness: f64, damping: f64) -> CanModel {
    let position = 4.0 * std::f64::consts::PI;
    CanModel { name, maker: Maker::Robstride, position, velocity, torque, stiffness, damping, stall_torque: torque }
}

/// Every model that is known. Damiao's spans are LeRobot 0.6.1's (`lerobot/motors/damiao/tables.py`); a motor says its own,
/// and those count. Robstride's are those of its manuals, and its motors don't say them.
pub const CAN_MODELS: &[CanModel] = &[
    damiao("dm4310", 30.0, 10.0, 7.0),
    damiao("dm4340", 8.0, 28.0, 27.0),
    damiao("dm8009", 45.0, 54.0, 40.0),
    robstride("rs00", 33.0, 14.0, 500.0, 5.0),
    robstride("rs01", 44.0, 17.0, 500.0, 5.0),
    robstride("rs02", 44.0, 17.0, 500.0, 5.0),
    robstride("rs03", 20.0, 60.0, 5000.0, 100.0),
    robstride("rs04", 15.0, 120.0, 5000.0, 100.0),
];

impl CanModel {
    /// The model of that name.
    pub fn of(name: &str) -> Option<Self> {
        CAN_MODELS.iter().find(|model| model.name == name).copied()
    }
}

/// A motor, by what it is and where it answers.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct CanMotor {
    /// With the spans that this motor has.
    pub model: CanModel,
    /// Where it listens.
    pub id: u16,
    /// Where a Damiao's answers come from. A Robstride's come from its `id`.
    pub answer_id: u16,
}

/// What a motor is to do, in its own direction and units: it pushes with
/// `stiffness` × (`position` − present) + `damping` × (`velocity` − present) + `torque`.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct MitCommand {
    /// rad.
    pub position: f64,
    /// rad/s.
    pub velocity: f64,
    /// N m/rad.
    pub stiffness: f64,
    /// N m s/rad.
    pub damping: f64,
    /// N m.
    pub torque: f64,
}

/// What is said to a motor.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Request {
    /// Where are you? Changes nothing.
    Look,
    Command(MitCommand),
    Enable,
    Disable,
    /// The present position becomes 0. Nothing here does so by itself.
    SetZero,
    /// Reads a register: Damiao's by its number, Robstride's by its index.
    Read(u16),
    /// Writes a register, in four bytes as the motor has them, until it loses its power.
    Write(u16, [u8; 4]),
    /// Keeps all registers. Torque must be off.
    Store,
}

/// Whether a motor pushes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum MotorState {
    Disabled,
    Enabled,
    /// It has switched itself off.
    Fault,
}

/// What a motor says of itself, in its own direction and units. `None` where this answer says nothing of it.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Feedback {
    /// rad.
    pub position: f64,
    /// rad/s.
    pub velocity: Option<f64>,
    /// N m.
    pub torque: Option<f64>,
    /// Of the hottest place that it measures, °C.
    pub temperature_c: Option<f64>,
    pub state: Option<MotorState>,
    /// Why it is in a fault: for a Damiao bit n is its state n (8 too high a voltage, 9 too low, 10 too much current, 11 hot
    /// electronics, 12 hot coils, 13 nobody spoke to it, 14 overload); for a Robstride its fault bits (0 too low a voltage, 1
    /// too much current, 2 heat, 3 its encoder, 4 a stall, 5 not calibrated).
    pub alert: u16,
}

/// What a frame from a motor holds.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum CanAnswer {
    Feedback(Feedback),
    /// A register and its four bytes.
    Register(u16, [u8; 4]),
}

impl CanMotor {
    /// The frame that says it, of CAN 2.0. `None` where its maker's protocol has no such thing.
    pub fn ask(&self, request: Request) -> Option<CanFrame> {
        match self.model.maker {
            Maker::Damiao => damiao::ask(self, request),
            Maker::Robstride => robstride::ask(self, request),
        }
    }

    /// What a frame says that came from this motor; `None` for one of another motor, and for what is no answer.
    pub fn answer(&self, frame: &CanFrame) -> Option<CanAnswer> {
        match self.model.maker {
            Maker::Damiao => damiao::answer(self, frame),
            Maker::Robstride => robstride::answer(self, frame),
        }
    }

    /// Whether `frame` answers what `asked` this motor, as far as the two tell.
    pub(super) fn answers(&self, asked: &CanFrame, frame: &CanFrame) -> bool {
        let register = match self.model.maker {
            Maker::Damiao => damiao::register(asked),
            Maker::Robstride => robstride::register(asked),
        };
        match self.answer(frame) {
            None => false,
            Some(CanAnswer::Feedback(_)) => register.is_none(),
            Some(CanAnswer::Register(found, _)) => register == Some(found),
        }
    }
}

/// A number of `bits` that stands for `value` between `low` and `high`: the nearest.
pub(super) fn nearest(value: f64, low: f64, high: f64, bits: u32) -> u16 {
    whole(place(value, low, high, bits).round())
}

/// The one below, so that a gain is never more than was asked for.
pub(super) fn below(value: f64, low: f64, high: f64, bits: u32) -> u16 {
    // What a division has lost must not cost a step.
    whole((place(value, low, high, bits) + 1e-6).floor())
}

/// The one that is nearer to 0 of the span from `-most` to `most`, which has no number for 0 itself.
pub(super) fn inwards(value: f64, most: f64, bits: u32) -> u16 {
    let at = place(value, -most, most, bits);
    whole(if value < 0.0 { (at - 1e-6).ceil() } else { (at + 1e-6).floor() })
}

/// What a number of `bits` stands for.
pub(super) fn value(number: u16, low: f64, high: f64, bits: u32) -> f64 {
    f64::from(number) / f64::from((1u32 << bits) - 1) * (high - low) + low
}

fn place(value: f64, low: f64, high: f64, bits: u32) -> f64 {
    // What is no number commands nothing: 0 lies in all spans.
    let value = if value.is_finite() { value.clamp(low, high) } else { 0.0 };
    (value - low) / (high - low) * f64::from((1u32 << bits) - 1)
}

#[expect(clippy::as_conversions, clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "a number of at most 16 bits")]
fn whole(number: f64) -> u16 {
    number as u16
}
