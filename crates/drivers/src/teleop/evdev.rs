//! Input devices of Linux: their events, and what is pressed when some of them were lost.

use std::io;

use sinew_core::{Brief, TeleoperatorError, Timestamp};

/// A `struct input_event` of 64-bit Linux (`linux/input.h`): two times of 8 bytes, a type, a code, a value.
const EVENT_BYTES: usize = 24;
const EV_SYN: u16 = 0;
pub(super) const EV_KEY: u16 = 1;
pub(super) const EV_ABS: u16 = 3;
const SYN_REPORT: u16 = 0;
/// The kernel's buffer was full: what follows until the next report is of no use.
const SYN_DROPPED: u16 = 3;
/// `KEY_MAX` is 0x2ff.
pub(super) const KEY_BYTES: usize = 96;
/// `ABS_MAX` is 0x3f.
pub(super) const AXES: usize = 64;
/// How often a device that is gone is looked for.
const LOOK_NS: i64 = 500_000_000;

/// What happened on a device: a type, a code and a value of `linux/input-event-codes.h`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct InputEvent {
    pub kind: u16,
    pub code: u16,
    pub value: i32,
}

/// Where an axis is, and its ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct AxisState {
    pub value: i32,
    pub low: i32,
    pub high: i32,
}

impl AxisState {
    /// −1..1.
    pub fn share(&self) -> f64 {
        let (low, high) = (f64::from(self.low), f64::from(self.high));
        if high <= low { 0.0 } else { ((f64::from(self.value) - low) / (high - low) * 2.0 - 1.0).clamp(-1.0, 1.0) }
    }
}

/// What a device is like now.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DeviceState {
    /// A bit a key or button.
    pub keys: [u8; KEY_BYTES],
    /// By code; `None` of those that the device has not.
    pub axes: [Option<AxisState>; AXES],
}

impl Default for DeviceState {
    fn default() -> Self {
        Self { keys: [0; KEY_BYTES], axes: [None; AXES] }
    }
}

impl DeviceState {
    pub fn is_down(&self, code: u16) -> bool {
        self.keys.get(usize::from(code / 8)).is_some_and(|byte| byte & (1 << (code % 8)) != 0)
    }

    pub fn axis(&self, code: u16) -> Option<AxisState> {
        self.axes.get(usize::from(code)).copied().flatten()
    }

    fn press(&mut self, code: u16, is_down: bool) {
        if let Some(byte) = self.keys.get_mut(usize::from(code / 8)) {
            let bit = 1 << (code % 8);
            *byte = if is_down { *byte | bit } else { *byte & !bit };
        }
    }
}

/// Where bytes of events come from: a device below `/dev/input`, or a recording.
pub trait InputBytes: Send {
    /// What came since the last time, without waiting: 0 when nothing did.
    ///
    /// # Errors
    /// When the device is gone.
    fn read(&mut self, bytes: &mut [u8]) -> io::Result<usize>;

    /// What it is like now.
    ///
    /// # Errors
    /// When the device is gone.
    fn state(&mut self) -> io::Result<DeviceState>;
}

/// Opens a device, also one that was gone.
pub type Open = Box<dyn FnMut() -> io::Result<Box<dyn InputBytes>> + Send>;

/// An input device whose state is always known. Lost events are made good by looking at it anew; a device that is gone is
/// opened again, where that was asked for.
pub struct InputDevice {
    name: String,
    open: Open,
    reconnects: bool,
    bytes: Option<Box<dyn InputBytes>>,
    state: DeviceState,
    /// Between a loss of events and the next report.
    is_dropping: bool,
    /// Half an event.
    rest: Vec<u8>,
    look_at: Option<Timestamp>,
}

impl InputDevice {
    /// `open` opens the device called `name`, now and, with `reconnects`, when it was gone.
    ///
    /// # Errors
    /// When it is not there, or may not be read (on most systems by the group `input`).
    pub fn new(name: &str, reconnects: bool, mut open: Open) -> io::Result<Self> {
        let mut bytes = open()?;
        let state = bytes.state()?;
        Ok(Self { name: name.to_owned(), open, reconnects, bytes: Some(bytes), state, is_dropping: false, rest: Vec::new(), look_at: None })
    }

    pub fn name(&self) -> &str {
        &self.name
    }

    /// What it is like, by the last [`read`](Self::read).
    pub fn state(&self) -> &DeviceState {
        &self.state
    }

    /// Takes in what happened, and tells `heard` of each change. Whether it is another device than before, which was gone
    /// meanwhile: what was pressed before is of no meaning then.
    ///
    /// # Errors
    /// When it is gone: for good, or, where it is opened again, for this time.
    pub fn read(&mut self, now: Timestamp, mut heard: impl FnMut(InputEvent)) -> Result<bool, TeleoperatorError> {
        let mut is_new = false;
        if self.bytes.is_none() {
            if self.look_at.is_some_and(|at| now < at) {
                return Err(self.gone(&"it is looked for"));
            }
            match (self.open)().and_then(|mut bytes| Ok((bytes.state()?, bytes))) {
                Ok((state, bytes)) => {
                    (self.state, self.bytes, self.is_dropping, self.look_at) = (state, Some(bytes), false, None);
                    self.rest.clear();
                    is_new = true;
                }
                Err(error) => {
                    self.look_at = Some(Timestamp::from_nanos(now.as_nanos() + LOOK_NS));
                    return Err(self.gone(&error));
                }
            }
        }
        let mut buffer = [0; 64 * EVENT_BYTES];
        loop {
            let count = match self.bytes.as_mut().map_or(Ok(0), |bytes| bytes.read(&mut buffer)) {
                Ok(0) => return Ok(is_new),
                Ok(count) => count,
                Err(error) if matches!(error.kind(), io::ErrorKind::WouldBlock | io::ErrorKind::Interrupted) => return Ok(is_new),
                Err(error) => {
                    self.bytes = None;
                    return Err(self.gone(&error));
                }
            };
            self.rest.extend_from_slice(&buffer[..count]);
            let rest = std::mem::take(&mut self.rest);
            let mut events = rest.chunks_exact(EVENT_BYTES);
            for event in &mut events {
                let [.., t0, t1, c0, c1, v0, v1, v2, v3] = *event else { continue };
                let (kind, code) = (u16::from_ne_bytes([t0, t1]), u16::from_ne_bytes([c0, c1]));
                if let Err(error) = self.take(InputEvent { kind, code, value: i32::from_ne_bytes([v0, v1, v2, v3]) }, &mut heard) {
                    self.bytes = None;
                    return Err(self.gone(&error));
                }
            }
            self.rest = events.remainder().to_vec();
        }
    }

    fn take(&mut self, event: InputEvent, heard: &mut impl FnMut(InputEvent)) -> io::Result<()> {
        match (event.kind, event.code) {
            (EV_SYN, SYN_DROPPED) => self.is_dropping = true,
            (EV_SYN, SYN_REPORT) if self.is_dropping => {
                self.is_dropping = false;
                let Some(bytes) = &mut self.bytes else { return Ok(()) };
                let state = bytes.state()?;
                self.become_state(state, heard);
            }
            _ if self.is_dropping => {}
            (EV_KEY, code) => {
                self.state.press(code, event.value != 0);
                heard(event);
            }
            (EV_ABS, code) => {
                if let Some(Some(axis)) = self.state.axes.get_mut(usize::from(code)) {
                    axis.value = event.value;
                    heard(event);
                }
            }
            _ => {}
        }
        Ok(())
    }

    /// Tells of all that is another than it was known to be.
    fn become_state(&mut self, state: DeviceState, heard: &mut impl FnMut(InputEvent)) {
        let before = std::mem::replace(&mut self.state, state);
        for code in 0..(KEY_BYTES as u16) * 8 {
            let is_down = self.state.is_down(code);
            if before.is_down(code) != is_down {
                heard(InputEvent { kind: EV_KEY, code, value: is_down.into() });
            }
        }
        for code in 0..AXES as u16 {
            if let Some(axis) = self.state.axis(code).filter(|axis| Some(*axis) != before.axis(code)) {
                heard(InputEvent { kind: EV_ABS, code, value: axis.value });
            }
        }
    }

    fn gone(&self, why: &dyn std::fmt::Display) -> TeleoperatorError {
        let doing = "reading the input device";
        if self.reconnects {
            return TeleoperatorError::Transient { doing, what: Brief::of(format_args!("{}: {why}; it is looked for", self.name)) };
        }
        TeleoperatorError::Lost { doing, what: Brief::of(format_args!("{}: {why}", self.name)) }
    }
}

#[cfg(test)]
mod tests {
    use std::collections::VecDeque;
    use std::sync::{Arc, Mutex};

    use super::super::recorded::{Part, Recorded, event};
    use super::*;

    fn at(ms: i64) -> Timestamp {
        Timestamp::from_nanos(ms * 1_000_000)
    }

    #[test]
    fn lost_events_are_made_good_from_what_the_device_is_like() {
        let mut now = DeviceState::default();
        now.press(30, true);
        now.axes[1] = Some(AxisState { value: -5, low: -10, high: 10 });
        let mut first = DeviceState::default();
        first.axes[1] = Some(AxisState { value: 0, low: -10, high: 10 });
        let parts = [
            Part::State(first.into()),
            // A key, then half an event; the other half comes later.
            Part::Bytes([event(1, 48, 1), event(0, 0, 0), event(3, 1, 7)[..9].to_vec()].concat()),
            Part::Nothing,
            Part::Bytes(event(3, 1, 7)[9..].to_vec()),
            Part::Nothing,
            Part::Bytes([event(0, 3, 0), event(1, 48, 0), event(3, 1, 99)].concat()),
            Part::Nothing,
            Part::Bytes([event(1, 17, 1), event(0, 0, 0), event(1, 30, 2)].concat()),
            Part::State(now.into()),
            Part::Nothing,
        ];
        let mut device = Recorded::device("a", false, parts);
        let mut read = |expected: &[(u16, u16, i32)]| {
            let mut heard = Vec::new();
            assert!(!device.read(at(0), |event| heard.push((event.kind, event.code, event.value))).unwrap());
            assert_eq!(heard, expected);
        };
        read(&[(1, 48, 1)]);
        read(&[(3, 1, 7)]);
        read(&[]);
        read(&[(1, 30, 1), (1, 48, 0), (3, 1, -5), (1, 30, 2)]);
        assert!(device.state().is_down(30) && !device.state().is_down(48) && !device.state().is_down(17));
        assert_eq!(device.state().axis(1).map(|axis| axis.share()), Some(-0.5));
        let error = device.read(at(0), |_| {}).unwrap_err();
        assert!(matches!(error, TeleoperatorError::Lost { .. }), "{error}");
    }

    #[test]
    fn a_device_that_comes_back_is_opened_again_and_said_to_be_new() {
        let devices: Arc<Mutex<VecDeque<Vec<Part>>>> = Arc::default();
        let there = devices.clone();
        let open: Open = Box::new(move || {
            let parts = there.lock().unwrap().pop_front().ok_or(io::ErrorKind::NotFound)?;
            Ok(Box::new(Recorded::new(parts)))
        });
        devices.lock().unwrap().push_back(vec![Part::Bytes(event(1, 48, 1))]);
        let mut device = InputDevice::new("pad", true, open).unwrap();
        // What came is taken, and then it is gone.
        let error = device.read(at(0), |_| {}).unwrap_err();
        assert!(matches!(error, TeleoperatorError::Transient { .. }) && error.to_string().ends_with("; it is looked for"), "{error}");
        assert!(device.state().is_down(48));
        assert!(device.read(at(1), |_| {}).is_err(), "it is not there");
        devices.lock().unwrap().push_back(vec![Part::Nothing, Part::Nothing]);
        assert!(device.read(at(100), |_| {}).is_err(), "it is not yet looked for");
        assert!(device.read(at(600), |_| {}).unwrap());
        assert!(!device.state().is_down(48));
        assert!(!device.read(at(601), |_| {}).unwrap());
    }
}
