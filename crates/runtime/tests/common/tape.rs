//! A sink that keeps all it is told.

use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::SeqCst};
use std::time::{Duration, Instant};

use sinew_core::{EpisodeEnd, EpisodeStart, Frame, FrameSink, OnFailure, SinkError};

/// Keeps everything it is told.
#[derive(Default)]
pub struct Tape {
    pub starts: Vec<EpisodeStart>,
    /// How many frames there had been when each of them came.
    pub begun_after: Vec<usize>,
    pub frames: Vec<Frame>,
    pub ends: Vec<EpisodeEnd>,
    pub delay: Duration,
    pub fail_at: Option<u64>,
    pub fail_begin: bool,
    pub fail_end: bool,
    /// Fails at its n-th end, if that commits.
    pub fail_end_at: Option<usize>,
    /// How long it takes to commit.
    pub end_takes: Duration,
    /// How often it has.
    pub commits: Arc<AtomicU64>,
    pub panic_at: Option<u64>,
    /// Stays in this frame for so long.
    pub hang_at: Option<(u64, Duration)>,
    /// Its failure is its own affair.
    pub detaches: bool,
    /// When its last end came.
    pub ended_at: Option<Instant>,
}

fn full_disk(doing: &str) -> SinkError {
    SinkError { doing: doing.into(), source: Box::new(io::Error::other("disk full")) }
}

impl FrameSink for Tape {
    fn name(&self) -> &str {
        if self.detaches { "view" } else { "tape" }
    }

    fn on_failure(&self) -> OnFailure {
        if self.detaches { OnFailure::Detach } else { OnFailure::Fatal }
    }

    fn begin(&mut self, episode: &EpisodeStart) -> Result<(), SinkError> {
        self.starts.push(episode.clone());
        self.begun_after.push(self.frames.len());
        if self.fail_begin { Err(full_disk("beginning")) } else { Ok(()) }
    }

    fn frame(&mut self, frame: &Frame) -> Result<(), SinkError> {
        std::thread::sleep(self.delay);
        if let Some((_, time)) = self.hang_at.filter(|(tick, _)| *tick == frame.tick) {
            std::thread::sleep(time);
        }
        if self.panic_at == Some(frame.tick) {
            panic!("encoder");
        }
        if self.fail_at == Some(frame.tick) {
            return Err(full_disk("writing a row"));
        }
        self.frames.push(frame.clone());
        Ok(())
    }

    fn end(&mut self, end: &EpisodeEnd) -> Result<(), SinkError> {
        self.ends.push(end.clone());
        self.ended_at = Some(Instant::now());
        if !end.keep {
            return Ok(());
        }
        std::thread::sleep(self.end_takes);
        if self.fail_end || self.fail_end_at == Some(self.ends.len() - 1) {
            return Err(full_disk("committing"));
        }
        self.commits.fetch_add(1, SeqCst);
        Ok(())
    }
}

impl Tape {
    /// Every bit of every frame.
    pub fn bytes(&self) -> Vec<u8> {
        let mut bytes = Vec::new();
        for frame in &self.frames {
            let floats = [frame.wanted.as_slice(), &frame.sent, frame.observation.state.values(), frame.observation.velocity.values()];
            bytes.extend(floats.iter().flat_map(|values| values.iter()).flat_map(|value| value.to_bits().to_le_bytes()));
            for image in &frame.observation.images {
                bytes.extend(&*image.rgb);
                bytes.extend(image.sequence.to_le_bytes());
                bytes.extend(image.captured_at.as_nanos().to_le_bytes());
            }
            let rest = format!(
                "{} {} {} {:?} {} {} {:?} {:?} {:?} {:?} {} {} {}",
                frame.tick,
                frame.instructions,
                frame.marks,
                frame.due,
                frame.lateness_ns,
                frame.observation.tick,
                frame.observation.time,
                frame.observation.state.readings(),
                frame.actor,
                frame.interventions,
                frame.starved,
                frame.queued,
                frame.inference_ns
            );
            bytes.extend(rest.bytes());
        }
        bytes
    }

    pub fn ticks(&self) -> Vec<u64> {
        self.frames.iter().map(|frame| frame.tick).collect()
    }
}
