//! How each motor does, readable from any thread while the arm is driven.

use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicI64, AtomicU32, AtomicU64, Ordering};

use serde::Serialize;
use sinew_core::{Clock, Timestamp};

use super::TORQUE_LOST;
use crate::{MotorFault, MotorId, Reply};

/// Where implausible readings are counted, behind the faults.
const IMPLAUSIBLE: usize = MotorFault::KINDS;
/// What is not known.
const UNKNOWN: i64 = i64::MIN;

/// What is known of a motor, as data for reports.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct MotorHealth {
    /// The part that it moves.
    pub part: String,
    pub bus: String,
    pub motor: MotorId,
    /// The part before it on the wire; `None` for the first of its bus.
    pub after: Option<String>,
    /// How often it was read.
    pub reads: u64,
    /// How often it was asked again.
    pub retries: u32,
    /// How many ticks in a row it has not been read since.
    pub misses: u32,
    pub errors: FaultCounts,
    /// How long ago it was read, in seconds; since the connection where it never was.
    pub age_s: f64,
    /// The longest that this has been.
    pub longest_age_s: f64,
    /// As it was read last, in the dataset's unit; of a wheel its velocity, in rad/s.
    pub position: Option<f64>,
    /// Degrees Celsius.
    pub temperature_c: Option<f64>,
    /// Volts.
    pub voltage_v: Option<f64>,
    /// As a share of stall torque, −1..1; `None` for models that don't say.
    pub load: Option<f64>,
    /// Its alarm bits, as its protocol has them, when it answered last.
    pub alert: u32,
    /// How often its torque was found off that had been switched on: it lost its power, or protected itself.
    pub resets: u32,
    /// Whether its torque is off that was switched on. It is not switched on again by itself.
    pub has_lost_torque: bool,
}

impl MotorHealth {
    /// Who and where it is: "elbow_flex (motor 3 on bus arm, after shoulder_lift)".
    pub fn place(&self) -> Place<'_> {
        Place { part: &self.part, bus: &self.bus, motor: self.motor, after: self.after.as_deref() }
    }
}

/// Who a motor is and where it hangs, for messages: "elbow_flex (motor 3 on bus arm, after shoulder_lift)".
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Place<'a> {
    pub part: &'a str,
    pub bus: &'a str,
    pub motor: MotorId,
    /// The part before it on the wire, as the description orders them: where to look for a loose plug.
    pub after: Option<&'a str>,
}

impl fmt::Display for Place<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { part, bus, motor, after } = self;
        match after {
            Some(after) => write!(f, "{part} (motor {motor} on bus {bus}, after {after})"),
            None => write!(f, "{part} (motor {motor} on bus {bus}, the first)"),
        }
    }
}

/// How often an attempt to read a motor failed by which fault, whether or not another one did better.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub struct FaultCounts {
    pub no_answer: u32,
    /// There was no time to ask, or no port.
    pub not_asked: u32,
    pub checksum: u32,
    pub length: u32,
    pub refused: u32,
    /// A place that the motor could not have come to.
    pub implausible: u32,
    pub other: u32,
}

#[derive(Debug)]
pub(super) struct Slot {
    part: String,
    bus: String,
    motor: MotorId,
    after: Option<String>,
    /// dataset = scale · SI + offset.
    scale_offset: (f64, f64),
    /// When it was read last, or connected.
    last_read: AtomicI64,
    /// Nanoseconds between two readings.
    longest_age: AtomicI64,
    reads: AtomicU64,
    /// The bits of the last value in SI.
    value: AtomicU64,
    misses: AtomicU32,
    /// By [`MotorFault::kind`], and what was implausible last.
    faults: [AtomicU32; MotorFault::KINDS + 1],
    retries: AtomicU32,
    temperature_mc: AtomicI64,
    voltage_mv: AtomicI64,
    load_ppm: AtomicI64,
    alert: AtomicU32,
    resets: AtomicU32,
    has_lost_torque: AtomicBool,
}

/// Why a position is not known.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Miss {
    Fault(MotorFault),
    Implausible,
}

impl Slot {
    /// Of a motor that was connected at `begun`; its values in SI become those of datasets by `scale_offset`.
    pub fn new(place: Place<'_>, scale_offset: (f64, f64), begun: Timestamp) -> Self {
        let unknown = || AtomicI64::new(UNKNOWN);
        Self {
            part: place.part.to_owned(),
            bus: place.bus.to_owned(),
            motor: place.motor,
            after: place.after.map(str::to_owned),
            scale_offset,
            last_read: AtomicI64::new(begun.as_nanos()),
            longest_age: AtomicI64::new(0),
            reads: AtomicU64::new(0),
            value: AtomicU64::new(f64::NAN.to_bits()),
            misses: AtomicU32::new(0),
            faults: std::array::from_fn(|_| AtomicU32::new(0)),
            retries: AtomicU32::new(0),
            temperature_mc: unknown(),
            voltage_mv: unknown(),
            load_ppm: unknown(),
            alert: AtomicU32::new(0),
            resets: AtomicU32::new(0),
            has_lost_torque: AtomicBool::new(false),
        }
    }

    pub fn place(&self) -> Place<'_> {
        Place { part: &self.part, bus: &self.bus, motor: self.motor, after: self.after.as_deref() }
    }

    /// It is at `value`, in SI.
    pub fn read(&self, time: Timestamp, value: f64, alert: u32) {
        let before = self.last_read.swap(time.as_nanos(), Ordering::Relaxed);
        self.longest_age.fetch_max(time.as_nanos().saturating_sub(before), Ordering::Relaxed);
        self.reads.fetch_add(1, Ordering::Relaxed);
        self.value.store(value.to_bits(), Ordering::Relaxed);
        self.misses.store(0, Ordering::Relaxed);
        self.alert.store(alert, Ordering::Relaxed);
    }

    /// How long nothing plausible has been heard of it, in nanoseconds.
    pub fn age_ns(&self, now: Timestamp) -> i64 {
        now.as_nanos().saturating_sub(self.last_read.load(Ordering::Relaxed)).max(0)
    }

    /// How many readings in a row have missed it.
    pub fn misses(&self) -> u32 {
        self.misses.load(Ordering::Relaxed)
    }

    pub fn miss(&self, miss: Miss) {
        match miss {
            Miss::Fault(fault) => self.fault(fault),
            Miss::Implausible => {
                self.faults[IMPLAUSIBLE].fetch_add(1, Ordering::Relaxed);
            }
        }
        self.misses.fetch_add(1, Ordering::Relaxed);
    }

    /// One attempt failed.
    pub fn fault(&self, fault: MotorFault) {
        self.faults[fault.kind()].fetch_add(1, Ordering::Relaxed);
    }

    /// It was asked again, as attempts before the last had failed: how often.
    pub fn retry(&self, reply: &Reply) -> u32 {
        for (count, failed) in self.faults.iter().zip(reply.failed) {
            count.fetch_add(failed.into(), Ordering::Relaxed);
        }
        let again = reply.attempts.saturating_sub(1).into();
        self.retries.fetch_add(again, Ordering::Relaxed);
        again
    }

    /// Degrees Celsius, volts, share of stall torque.
    pub fn measure(&self, temperature_c: Option<f64>, voltage_v: Option<f64>, load: Option<f64>) {
        let store = |slot: &AtomicI64, value: Option<f64>, factor: f64| {
            #[expect(clippy::as_conversions, clippy::cast_possible_truncation, reason = "registers hold small numbers")]
            let value = value.map(|value| (value * factor).round() as i64);
            if let Some(value) = value {
                slot.store(value, Ordering::Relaxed);
            }
        };
        store(&self.temperature_mc, temperature_c, 1e3);
        store(&self.voltage_mv, voltage_v, 1e3);
        store(&self.load_ppm, load, 1e6);
    }

    pub fn lose_torque(&self) {
        self.resets.fetch_add(1, Ordering::Relaxed);
        self.has_lost_torque.store(true, Ordering::Relaxed);
    }

    pub fn has_torque(&self) {
        self.has_lost_torque.store(false, Ordering::Relaxed);
    }

    pub fn alert(&self) -> u32 {
        self.alert.load(Ordering::Relaxed)
    }

    /// The bit of an alert that says that its torque is off.
    pub fn lost_torque(&self) -> u32 {
        if self.has_lost_torque.load(Ordering::Relaxed) { TORQUE_LOST } else { 0 }
    }

    fn health(&self, now: Timestamp) -> MotorHealth {
        let known = |slot: &AtomicI64| Some(slot.load(Ordering::Relaxed)).filter(|value| *value != UNKNOWN);
        let scaled = |slot: &AtomicI64, factor: f64| known(slot).map(|value| value as f64 / factor);
        let [no_answer, not_asked, checksum, length, refused, other, implausible] =
            std::array::from_fn(|i| self.faults[i].load(Ordering::Relaxed));
        let (age_ns, value, (scale, offset)) = (self.age_ns(now), f64::from_bits(self.value.load(Ordering::Relaxed)), self.scale_offset);
        MotorHealth {
            part: self.part.clone(),
            bus: self.bus.clone(),
            motor: self.motor,
            after: self.after.clone(),
            reads: self.reads.load(Ordering::Relaxed),
            retries: self.retries.load(Ordering::Relaxed),
            misses: self.misses.load(Ordering::Relaxed),
            errors: FaultCounts { no_answer, not_asked, checksum, length, refused, implausible, other },
            age_s: age_ns as f64 * 1e-9,
            longest_age_s: self.longest_age.load(Ordering::Relaxed).max(age_ns) as f64 * 1e-9,
            position: Some(value).filter(|value| value.is_finite()).map(|value| value * scale + offset),
            temperature_c: scaled(&self.temperature_mc, 1e3),
            voltage_v: scaled(&self.voltage_mv, 1e3),
            load: scaled(&self.load_ppm, 1e6),
            alert: self.alert.load(Ordering::Relaxed),
            resets: self.resets.load(Ordering::Relaxed),
            has_lost_torque: self.has_lost_torque.load(Ordering::Relaxed),
        }
    }
}

/// What is known of a bus.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct BusHealth {
    pub bus: String,
    /// Whether its port is gone now. It is tried again from time to time.
    pub is_lost: bool,
    /// How often it was lost.
    pub losses: u32,
}

#[derive(Debug)]
pub(super) struct BusSlot {
    bus: String,
    is_lost: AtomicBool,
    losses: AtomicU32,
}

impl BusSlot {
    pub fn new(bus: &str) -> Self {
        Self { bus: bus.to_owned(), is_lost: AtomicBool::new(false), losses: AtomicU32::new(0) }
    }

    pub fn lose(&self) {
        self.is_lost.store(true, Ordering::Relaxed);
        self.losses.fetch_add(1, Ordering::Relaxed);
    }

    pub fn is_back(&self) {
        self.is_lost.store(false, Ordering::Relaxed);
    }
}

/// The health of an arm's motors and buses, as of now whenever it is asked. Asking does not disturb the arm.
#[derive(Clone)]
pub struct ArmHealth {
    pub(super) motors: Arc<[Slot]>,
    pub(super) buses: Arc<[Arc<BusSlot>]>,
    pub(super) clock: Arc<dyn Clock>,
}

impl fmt::Debug for ArmHealth {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ArmHealth").field("motors", &self.motors()).field("buses", &self.buses()).finish()
    }
}

impl ArmHealth {
    /// Of every motor, bus by bus.
    pub fn motors(&self) -> Vec<MotorHealth> {
        let now = self.clock.now();
        self.motors.iter().map(|slot| slot.health(now)).collect()
    }

    /// Of every bus.
    pub fn buses(&self) -> Vec<BusHealth> {
        let health = |slot: &Arc<BusSlot>| BusHealth {
            bus: slot.bus.clone(),
            is_lost: slot.is_lost.load(Ordering::Relaxed),
            losses: slot.losses.load(Ordering::Relaxed),
        };
        self.buses.iter().map(health).collect()
    }
}
