//! How each motor does, readable from any thread while the arm is driven.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicI64, AtomicU32, Ordering};

use sinew_core::Timestamp;

use crate::{MotorFault, MotorId};

/// What is not known.
const UNKNOWN: i64 = i64::MIN;

/// What is known of a motor.
#[derive(Clone, Debug, PartialEq)]
pub struct MotorHealth {
    /// The part that it moves.
    pub part: String,
    pub bus: String,
    pub motor: MotorId,
    /// When its position was read last.
    pub last_read: Option<Timestamp>,
    /// How many ticks in a row it has not been read since.
    pub misses: u32,
    pub faults: FaultCounts,
    /// How often it was asked again.
    pub retries: u32,
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
    /// How long ago its position was read, in seconds; `None` when it never was.
    pub fn age_s(&self, now: Timestamp) -> Option<f64> {
        self.last_read.map(|time| now.nanos_since(time) as f64 * 1e-9)
    }
}

/// How often which fault kept a motor's position from being known.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
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
    last_read: AtomicI64,
    misses: AtomicU32,
    faults: [AtomicU32; 7],
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
    pub fn new(part: &str, bus: &str, motor: MotorId) -> Self {
        let unknown = || AtomicI64::new(UNKNOWN);
        Self {
            part: part.to_owned(),
            bus: bus.to_owned(),
            motor,
            last_read: unknown(),
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

    pub fn read(&self, time: Timestamp, alert: u32) {
        self.last_read.store(time.as_nanos(), Ordering::Relaxed);
        self.misses.store(0, Ordering::Relaxed);
        self.alert.store(alert, Ordering::Relaxed);
    }

    pub fn miss(&self, miss: Miss) {
        let place = match miss {
            Miss::Fault(MotorFault::NoAnswer) => 0,
            Miss::Fault(MotorFault::NotAsked) => 1,
            Miss::Fault(MotorFault::Checksum { .. }) => 2,
            Miss::Fault(MotorFault::Length { .. }) => 3,
            Miss::Fault(MotorFault::Refused { .. }) => 4,
            Miss::Implausible => 5,
            Miss::Fault(MotorFault::Sender { .. } | MotorFault::Packet(_)) => 6,
        };
        self.faults[place].fetch_add(1, Ordering::Relaxed);
        self.misses.fetch_add(1, Ordering::Relaxed);
    }

    pub fn retry(&self, times: u32) {
        self.retries.fetch_add(times, Ordering::Relaxed);
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

    pub fn is_without_torque(&self) -> bool {
        self.has_lost_torque.load(Ordering::Relaxed)
    }

    fn health(&self) -> MotorHealth {
        let known = |slot: &AtomicI64| Some(slot.load(Ordering::Relaxed)).filter(|value| *value != UNKNOWN);
        let scaled = |slot: &AtomicI64, factor: f64| known(slot).map(|value| value as f64 / factor);
        let [no_answer, not_asked, checksum, length, refused, implausible, other] =
            std::array::from_fn(|i| self.faults[i].load(Ordering::Relaxed));
        MotorHealth {
            part: self.part.clone(),
            bus: self.bus.clone(),
            motor: self.motor,
            last_read: known(&self.last_read).map(Timestamp::from_nanos),
            misses: self.misses.load(Ordering::Relaxed),
            faults: FaultCounts { no_answer, not_asked, checksum, length, refused, implausible, other },
            retries: self.retries.load(Ordering::Relaxed),
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
#[derive(Clone, Debug, PartialEq, Eq)]
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
#[derive(Clone, Debug)]
pub struct ArmHealth {
    pub(super) motors: Arc<[Slot]>,
    pub(super) buses: Arc<[Arc<BusSlot>]>,
}

impl ArmHealth {
    /// Of every motor, bus by bus.
    pub fn motors(&self) -> Vec<MotorHealth> {
        self.motors.iter().map(Slot::health).collect()
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
