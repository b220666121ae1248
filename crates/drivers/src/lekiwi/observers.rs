//! Observations out: to every client that listens, each on a thread of its own.

use std::io::Write;
use std::net::TcpStream;
use std::sync::atomic::Ordering::Relaxed;
use std::sync::{Arc, Condvar, Mutex, PoisonError};
use std::time::Duration;

use serde_json::json;
use sinew_core::{EpisodeEnd, EpisodeStart, Frame, FrameSink, Image, OnFailure, RobotDescription, SinkError, Timestamp, Validity};

use super::host::Shared;
use super::message::{CAMERAS, Names, OURS, Said};
use crate::net::zmtp;

/// Encodes an image as a JPEG; `None` where that can't be done. LeRobot's host takes a quality of 90.
pub type EncodeJpeg = Box<dyn FnMut(&Image) -> Option<Vec<u8>> + Send>;

/// A client that takes nothing for so long is let go.
const STALLED: Duration = Duration::from_secs(2);

/// What waits for one client: the newest observation. One that it was too slow for is replaced.
#[derive(Default)]
pub(super) struct Outbox {
    next: Mutex<(Option<Arc<Vec<u8>>>, bool)>,
    has_come: Condvar,
}

impl Outbox {
    /// Says whether one that had not gone yet was replaced.
    fn put(&self, message: &Arc<Vec<u8>>) -> bool {
        let mut next = self.next.lock().unwrap_or_else(PoisonError::into_inner);
        let replaced = next.0.replace(message.clone()).is_some();
        self.has_come.notify_one();
        replaced
    }

    pub fn end(&self) {
        self.next.lock().unwrap_or_else(PoisonError::into_inner).1 = true;
        self.has_come.notify_one();
    }

    /// Gives `stream` what comes, until that fails or ends.
    pub fn serve(&self, mut stream: TcpStream) -> std::io::Result<()> {
        stream.set_write_timeout(Some(STALLED))?;
        loop {
            let next = self.next.lock().unwrap_or_else(PoisonError::into_inner);
            let mut next = self.has_come.wait_while(next, |next| next.0.is_none() && !next.1).unwrap_or_else(PoisonError::into_inner);
            let (message, is_over) = (next.0.take(), next.1);
            drop(next);
            match message {
                Some(message) if !is_over => stream.write_all(&message)?,
                _ => return Ok(()),
            }
        }
    }
}

/// A camera's picture as it was encoded last.
#[derive(Default)]
struct Encoded {
    number: u64,
    captured_at: Timestamp,
    jpeg: Vec<u8>,
}

/// Sends what the session observes to all clients, as LeRobot's host does, and with it how old it is: `_sinew`, which LeRobot's
/// client does not look at. A session that is going on has it among its sinks.
///
/// A value that is missing goes out as it was last, and `_sinew` names it. Before all were measured once nothing goes out,
/// as LeRobot's client would take what is not there for 0.
pub struct ObservationPublisher {
    shared: Arc<Shared>,
    names: Names,
    cameras: Vec<String>,
    encode: Option<EncodeJpeg>,
    encoded: Vec<Encoded>,
    seq: u64,
    text: Vec<u8>,
}

impl ObservationPublisher {
    pub(super) fn new(shared: Arc<Shared>, robot: &RobotDescription, encode: Option<EncodeJpeg>) -> Self {
        let cameras: Vec<String> = robot.cameras.iter().filter(|_| encode.is_some()).map(|camera| camera.name.clone()).collect();
        let encoded = cameras.iter().map(|_| Encoded::default()).collect();
        Self { shared, names: Names::of(&robot.state_channels()), cameras, encode, encoded, seq: 0, text: Vec::new() }
    }

    /// Encodes the images that are new.
    fn encode(&mut self, images: &[Image]) {
        let Some(encode) = &mut self.encode else { return };
        for (encoded, image) in self.encoded.iter_mut().zip(images) {
            // An empty one is what LeRobot's host sends where it could not encode.
            if encoded.number != image.sequence + 1 {
                *encoded = Encoded { number: image.sequence + 1, captured_at: image.captured_at, jpeg: encode(image).unwrap_or_default() };
            }
        }
    }

    fn publish(&mut self, frame: &Frame) {
        let observers = self.shared.observers();
        let readings = frame.observation.state.readings();
        if observers.is_empty() || readings.iter().any(|reading| reading.time.is_none()) {
            return;
        }
        self.encode(&frame.observation.images);
        let now = self.shared.clock.now();
        let age = |time: Timestamp| Duration::from_nanos(u64::try_from(now.nanos_since(time)).unwrap_or(0));
        let is_known = |i: usize| readings[i].validity != Validity::Missing;
        let missing = self.names.iter().enumerate().filter(|(i, _)| !is_known(*i)).map(|(_, name)| name.to_owned()).collect();
        let oldest = (0..readings.len()).filter(|i| is_known(*i)).filter_map(|i| readings[i].time).min();
        self.seq += 1;
        let said = Said {
            seq: self.seq,
            age: oldest.map_or(Duration::ZERO, age),
            missing,
            cameras: self.encoded.iter().map(|encoded| (age(encoded.captured_at), encoded.number)).collect(),
        };
        let more = format!(",\"{CAMERAS}\":{},\"{OURS}\":{}", json!(self.cameras), said.to_json());
        self.names.write(frame.observation.state.values(), more.as_bytes(), &mut self.text);
        let parts: Vec<&[u8]> = std::iter::once(&self.text[..]).chain(self.encoded.iter().map(|encoded| &encoded.jpeg[..])).collect();
        let message = Arc::new(zmtp::message(&parts));
        for observer in observers {
            let replaced = observer.put(&message);
            self.shared.counters.replaced.fetch_add(u64::from(replaced), Relaxed);
        }
    }
}

impl FrameSink for ObservationPublisher {
    fn name(&self) -> &'static str {
        "lekiwi-clients"
    }

    fn on_failure(&self) -> OnFailure {
        OnFailure::Detach
    }

    fn begin(&mut self, _: &EpisodeStart) -> Result<(), SinkError> {
        Ok(())
    }

    fn frame(&mut self, frame: &Frame) -> Result<(), SinkError> {
        self.publish(frame);
        Ok(())
    }

    fn end(&mut self, _: &EpisodeEnd) -> Result<(), SinkError> {
        Ok(())
    }
}
