//! Foot pedals, which show themselves to Linux as keyboards with a few keys.

use std::fs::File;
use std::io::Read;
use std::path::{Path, PathBuf};

use thiserror::Error;

/// A `struct input_event` of 64-bit Linux (`linux/input.h`): two times of 8 bytes, a type, a code, a value.
const EVENT_BYTES: usize = 24;
const EV_KEY: u16 = 1;
const PRESSED: i32 = 1;

/// A pedal that can't be read.
#[derive(Debug, Error)]
#[error("{doing} the pedal {}", path.display())]
pub struct PedalError {
    pub doing: &'static str,
    pub path: PathBuf,
    #[source]
    pub source: std::io::Error,
}

/// An input device below `/dev/input`. Its keys reach whoever else listens too: it isn't grabbed.
#[derive(Debug)]
pub struct Pedal {
    path: PathBuf,
    file: File,
}

impl Pedal {
    /// # Errors
    /// When there is no such device, or it may not be read (on most systems by the group `input`).
    pub fn open(path: &Path) -> Result<Self, PedalError> {
        let failed = |source| PedalError { doing: "opening", path: path.to_owned(), source };
        let file = File::open(path).map_err(failed)?;
        // What is no device says so at once, and not when it is needed: what is read from it would be taken for keys.
        let is_special =
            ["/dev/null", "/dev/zero", "/dev/full", "/dev/random", "/dev/urandom"].iter().any(|other| path == Path::new(other));
        if is_special || file.metadata().map_err(failed)?.is_file() || file.metadata().map_err(failed)?.is_dir() {
            return Err(failed(std::io::Error::other("expected an input device below /dev/input")));
        }
        Ok(Self { path: path.to_owned(), file })
    }

    /// Waits for the next press of a key and says which: its code in `linux/input-event-codes.h`, such
    /// as 30 for `KEY_A`. Releases and repetitions are passed over.
    ///
    /// # Errors
    /// When the device is gone.
    pub fn next_press(&mut self) -> Result<u16, PedalError> {
        let mut event = [0; EVENT_BYTES];
        loop {
            self.file.read_exact(&mut event).map_err(|source| PedalError { doing: "reading", path: self.path.clone(), source })?;
            let [.., t0, t1, c0, c1, v0, v1, v2, v3] = event;
            let (kind, code) = (u16::from_ne_bytes([t0, t1]), u16::from_ne_bytes([c0, c1]));
            if kind == EV_KEY && i32::from_ne_bytes([v0, v1, v2, v3]) == PRESSED {
                return Ok(code);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn presses_are_told_and_nothing_else() {
        let event = |kind: u16, code: u16, value: i32| {
            let mut bytes = vec![7; 16];
            bytes.extend([kind.to_ne_bytes(), code.to_ne_bytes()].concat());
            bytes.extend(value.to_ne_bytes());
            bytes
        };
        // A press, its synchronisation, a repetition, the release, another key, half an event.
        let stream = [event(1, 30, 1), event(0, 0, 0), event(1, 30, 2), event(1, 30, 0), event(1, 48, 1), vec![0; 5]].concat();
        let path = std::env::temp_dir().join(format!("sinew-pedal-{}", std::process::id()));
        std::fs::write(&path, stream).unwrap();
        assert!(Pedal::open(&path).unwrap_err().source.to_string().contains("expected an input device"), "a file is no pedal");
        let mut pedal = Pedal { file: File::open(&path).unwrap(), path: path.clone() };
        assert_eq!((pedal.next_press().unwrap(), pedal.next_press().unwrap()), (30, 48));
        let error = pedal.next_press().unwrap_err();
        assert!(error.to_string().starts_with("reading the pedal"), "{error}");
        std::fs::remove_file(&path).unwrap();
        assert!(Pedal::open(&path).unwrap_err().to_string().starts_with("opening the pedal"));
    }
}
