//! What goes wrong.

use std::time::Duration;

/// Something that happens to an answer on its way to the host.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Fault {
    /// It is lost.
    Drop,
    /// So many bytes of it arrive.
    Truncate(usize),
    /// A bit of it, counted from the lowest of the first byte and around, arrives turned over.
    FlipBit(usize),
    /// It comes so much later.
    Delay(Duration),
    /// These bytes come before it.
    Foreign(Vec<u8>),
    /// It comes twice.
    Duplicate,
    /// Its error byte has these bits, too.
    ErrorBits(u8),
    /// It is a whole packet that says nothing: there are no data in it.
    Bare,
}

/// How probable faults are, for each answer by itself (0 to 1).
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Rates {
    pub drop: f64,
    pub truncate: f64,
    pub flip_bit: f64,
    pub delay: f64,
    /// By how much, at most, when it happens.
    pub longest_delay: Duration,
    pub foreign: f64,
    pub duplicate: f64,
    /// That an instruction does not reach the motors.
    pub lost_instruction: f64,
}

impl Rates {
    /// What chance has for an answer of `len` bytes.
    pub(crate) fn draw(&self, len: usize, rng: &mut fastrand::Rng) -> Vec<Fault> {
        let mut faults = Vec::new();
        let happens = |rate: f64, rng: &mut fastrand::Rng| rate > 0.0 && rng.f64() < rate;
        if happens(self.drop, rng) {
            return vec![Fault::Drop];
        }
        if happens(self.truncate, rng) {
            faults.push(Fault::Truncate(rng.usize(..len.max(1))));
        }
        if happens(self.flip_bit, rng) {
            faults.push(Fault::FlipBit(rng.usize(..8 * len.max(1))));
        }
        if happens(self.delay, rng) {
            faults.push(Fault::Delay(self.longest_delay.mul_f64(rng.f64())));
        }
        if happens(self.foreign, rng) {
            // Headers among them are what makes it hard.
            let byte = |rng: &mut fastrand::Rng| if rng.bool() { 0xff } else { rng.u8(..) };
            let len = rng.usize(1..6);
            faults.push(Fault::Foreign((0..len).map(|_| byte(rng)).collect()));
        }
        if happens(self.duplicate, rng) {
            faults.push(Fault::Duplicate);
        }
        faults
    }
}

/// Something that happens to the robot. Motors are named as the robot names them.
#[derive(Clone, Debug, PartialEq)]
pub enum Event {
    /// A motor says and holds nothing from now on.
    Die(String),
    /// A motor loses its power and gets it again: torque off, what is not kept as new.
    Restart(String),
    /// A motor has this temperature, in degrees Celsius.
    Heat(String, f64),
    /// A motor's supply has this voltage.
    Supply(String, f64),
    /// What pulls at a joint, as a part of its motor's full torque.
    Load(String, f64),
    /// The next answer of a motor suffers this.
    Answer(String, Fault),
    /// The adapter is pulled out: the terminal vanishes. Motors stay on.
    Unplug,
    /// It is back, as a new terminal at the same path.
    Replug,
    /// From now on answers suffer with these probabilities.
    Rates(Rates),
}
