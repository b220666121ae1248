//! What a robot sees and feels at one tick.

use crate::{CameraDescription, Image, RobotDescription, Timestamp};

/// How a channel's value came about.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Validity {
    /// Nothing is known: it was never measured, or did not answer this time. The value is the last one.
    #[default]
    Missing,
    /// Measured for this tick.
    Fresh,
    /// Not measured this time: the last value stands.
    Repeated,
    /// Measured for this tick, and the device raises an alarm with it.
    Alert,
}

/// What is known of one value of [`Samples`] beside the value itself.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Reading {
    /// When the value was measured; `None` before the first time.
    pub time: Option<Timestamp>,
    pub validity: Validity,
    /// The device's own alarm bits, with [`Validity::Alert`].
    pub alert: u32,
}

/// Measured values, each with its time and validity. A value is always finite: what is not known is
/// said, never written as NaN.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Samples {
    values: Vec<f64>,
    readings: Vec<Reading>,
}

impl Samples {
    /// `width` values of which nothing is known.
    pub fn new(width: usize) -> Self {
        Self { values: vec![0.0; width], readings: vec![Reading::default(); width] }
    }

    /// Values that were all measured at `time`; for those who have them at once.
    pub fn measured(values: &[f64], time: Timestamp) -> Self {
        let mut samples = Self::new(values.len());
        samples.set_all(values, time);
        samples
    }

    pub fn width(&self) -> usize {
        self.values.len()
    }

    /// The last values, whatever is known of them now.
    pub fn values(&self) -> &[f64] {
        &self.values
    }

    pub fn readings(&self) -> &[Reading] {
        &self.readings
    }

    /// Value `i` was measured at `time`. What is not finite is no value: it counts as [`miss`](Self::miss).
    pub fn set(&mut self, i: usize, value: f64, time: Timestamp) {
        self.put(i, value, Reading { time: Some(time), validity: Validity::Fresh, alert: 0 });
    }

    /// As [`set`](Self::set), with the device's alarm `bits`.
    pub fn set_with_alert(&mut self, i: usize, value: f64, time: Timestamp, bits: u32) {
        self.put(i, value, Reading { time: Some(time), validity: Validity::Alert, alert: bits });
    }

    /// All of them were measured at `time`.
    pub fn set_all(&mut self, values: &[f64], time: Timestamp) {
        values.iter().enumerate().for_each(|(i, value)| self.set(i, *value, time));
    }

    /// Value `i` was asked for and did not come.
    pub fn miss(&mut self, i: usize) {
        if let Some(reading) = self.readings.get_mut(i) {
            (reading.validity, reading.alert) = (Validity::Missing, 0);
        }
    }

    /// A new tick begins: what is not set until it is read stands from before.
    pub fn age(&mut self) {
        for reading in &mut self.readings {
            reading.alert = 0;
            if reading.validity != Validity::Missing {
                reading.validity = Validity::Repeated;
            }
        }
    }

    /// Value `i`, measured for this tick or repeated; `None` when nothing is known now.
    pub fn get(&self, i: usize) -> Option<f64> {
        let known = self.readings.get(i)?.validity != Validity::Missing;
        self.values.get(i).copied().filter(|_| known)
    }

    fn put(&mut self, i: usize, value: f64, reading: Reading) {
        if !value.is_finite() {
            return self.miss(i);
        }
        if let (Some(slot), Some(known)) = (self.values.get_mut(i), self.readings.get_mut(i)) {
            (*slot, *known) = (value, reading);
        }
    }

    /// Makes `self` what `other` is, without allocating when the widths agree.
    pub fn copy_from(&mut self, other: &Self) {
        self.values.clone_from(&other.values);
        self.readings.clone_from(&other.readings);
    }
}

/// What [`Robot::finish_read`](crate::Robot::finish_read) and [`Cameras::newest`](crate::Cameras::newest)
/// fill; allocated once and reused. Clones share the images.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Observation {
    /// The tick that asked for it.
    pub tick: u64,
    /// When the state was read.
    pub time: Timestamp,
    /// A value a channel of [`RobotDescription::state_channels`], in SI.
    pub state: Samples,
    /// A value a part, as are those below: a second.
    pub velocity: Samples,
    /// Motor effort as a share of stall torque, −1..1.
    pub effort: Samples,
    /// Of the motors, °C.
    pub temperature_c: Samples,
    /// How often a bus had to be asked again for it; 0 where there is no bus.
    pub bus_retries: u32,
    /// In the order of the description's cameras.
    pub images: Vec<Image>,
}

impl Observation {
    /// Buffers of the right size for `robot`, of which nothing is known.
    pub fn for_robot(robot: &RobotDescription) -> Self {
        let parts = || Samples::new(robot.parts.len());
        Self {
            tick: 0,
            time: Timestamp::ZERO,
            state: Samples::new(robot.state_channels().len()),
            velocity: parts(),
            effort: parts(),
            temperature_c: parts(),
            bus_retries: 0,
            images: robot.cameras.iter().map(CameraDescription::blank).collect(),
        }
    }

    /// A new tick begins: what is not read anew stands from before, and is marked so.
    pub fn age(&mut self) {
        [&mut self.state, &mut self.velocity, &mut self.effort, &mut self.temperature_c].into_iter().for_each(Samples::age);
    }

    /// Makes `self` what `other` is, sharing the images, without allocating when the shapes agree.
    pub fn copy_from(&mut self, other: &Self) {
        self.tick = other.tick;
        self.time = other.time;
        self.state.copy_from(&other.state);
        self.velocity.copy_from(&other.velocity);
        self.effort.copy_from(&other.effort);
        self.temperature_c.copy_from(&other.temperature_c);
        self.bus_retries = other.bus_retries;
        self.images.clone_from(&other.images);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_not_known_is_said_and_is_never_nan() {
        let mut samples = Samples::new(2);
        assert_eq!((samples.get(0), samples.readings()[0].time), (None, None));
        let time = Timestamp::from_nanos(5);
        samples.set(0, 1.5, time);
        samples.set(1, f64::NAN, time);
        assert_eq!((samples.get(0), samples.get(1), samples.values()), (Some(1.5), None, &[1.5, 0.0][..]));
        samples.age();
        assert_eq!((samples.get(0), samples.readings()[0].validity), (Some(1.5), Validity::Repeated));
        samples.miss(0);
        assert_eq!((samples.get(0), samples.values()[0], samples.readings()[0].time), (None, 1.5, Some(time)));
        samples.set_with_alert(0, 2.0, time, 0b100);
        assert_eq!((samples.get(0), samples.readings()[0].alert), (Some(2.0), 0b100));
        samples.set(7, 1.0, time);
        assert_eq!((samples.width(), samples.get(7)), (2, None), "there is no eighth");
    }
}
