//! Recordings of input devices, for tests.

use std::collections::VecDeque;
use std::io;

use super::evdev::{DeviceState, InputBytes, InputDevice};

/// What a recorded device does next.
pub(super) enum Part {
    /// Bytes to be read.
    Bytes(Vec<u8>),
    /// Nothing has come.
    Nothing,
    /// What it is like, when it is asked.
    State(Box<DeviceState>),
}

/// A device that does what was recorded, and is gone then.
pub(super) struct Recorded(VecDeque<Part>);

impl Recorded {
    pub fn new(parts: impl IntoIterator<Item = Part>) -> Self {
        Self(parts.into_iter().collect())
    }

    pub fn device(name: &str, reconnects: bool, parts: impl IntoIterator<Item = Part>) -> InputDevice {
        let mut first = Some(Self::new(parts));
        let open = move || first.take().map(|first| Box::new(first) as Box<dyn InputBytes>).ok_or(io::ErrorKind::NotFound.into());
        InputDevice::new(name, reconnects, Box::new(open)).unwrap()
    }
}

impl InputBytes for Recorded {
    fn read(&mut self, bytes: &mut [u8]) -> io::Result<usize> {
        match self.0.pop_front() {
            Some(Part::Bytes(read)) => {
                bytes[..read.len()].copy_from_slice(&read);
                Ok(read.len())
            }
            Some(Part::Nothing) => Err(io::ErrorKind::WouldBlock.into()),
            Some(Part::State(_)) => panic!("it is asked what it is like"),
            None => Err(io::Error::from_raw_os_error(19)),
        }
    }

    fn state(&mut self) -> io::Result<DeviceState> {
        match self.0.front() {
            Some(Part::State(_)) => {}
            _ => return Ok(DeviceState::default()),
        }
        let Some(Part::State(state)) = self.0.pop_front() else { return Err(io::ErrorKind::NotFound.into()) };
        Ok(*state)
    }
}

/// The bytes of a `struct input_event`.
pub(super) fn event(kind: u16, code: u16, value: i32) -> Vec<u8> {
    let mut bytes = vec![7; 16];
    bytes.extend([kind.to_ne_bytes(), code.to_ne_bytes()].concat());
    bytes.extend(value.to_ne_bytes());
    bytes
}
