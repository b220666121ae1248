//! What of a session becomes episodes of a dataset.

use std::collections::VecDeque;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

use sinew_core::{Actor, EpisodeEnd, EpisodeStart, Frame, FrameSink, OnFailure, Outcome, SinkError};

use crate::{Operator, StopFlag};

/// How the frames of a session are divided into episodes. Whatever it is, an episode has one
/// instruction: with the first tick at which the policy was given another, a new one begins. All boundaries are
/// at the tick at which the session heard of the operator's wish, however far behind the sinks are.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Strategy {
    /// Each episode of the session is one.
    Whole,
    /// All is recorded, and a new episode begun every so many frames, but never while a human acts.
    Rotating { frames: u64 },
    /// When the operator marks something, the frames before it (at most so many, in at most so many
    /// bytes) and all until he does so again.
    Highlights { frames: usize, bytes: usize },
    /// What a human did, an episode each time that he took over.
    Corrections,
}

/// Frames that were kept back are handed on so many a frame, so that the sink stays in step.
const CATCH_UP: usize = 4;

/// A sink of a session in front of a recorder's, which sees the episodes that a [`Strategy`] makes.
pub struct Selection<'a> {
    strategy: Strategy,
    recorder: &'a mut dyn FrameSink,
    operator: Operator,
    start: EpisodeStart,
    /// How many instructions the operator had set by the last frame.
    instructions: u64,
    /// Whether the recorder has an episode open, and how many frames it got.
    is_open: bool,
    frames: u64,
    /// Highlights: what is kept back, oldest first, and its size.
    back: VecDeque<Frame>,
    back_bytes: usize,
    marks: u64,
    committed: Arc<AtomicU64>,
    /// The session's episode is to end when so many are committed.
    enough: Option<u64>,
    /// Ends wait to be settled, and the one that does.
    defers: bool,
    pending: Option<EpisodeEnd>,
    /// An episode that this ends is left to the recorder as it is.
    leaves_when: Option<StopFlag>,
    left: Arc<AtomicU64>,
}

impl<'a> Selection<'a> {
    pub fn new(strategy: Strategy, recorder: &'a mut dyn FrameSink, operator: Operator) -> Self {
        let marks = operator.marks();
        Self {
            strategy,
            recorder,
            operator,
            start: EpisodeStart { attempt: 0, seed: 0, task: String::new() },
            instructions: 0,
            is_open: false,
            frames: 0,
            back: VecDeque::new(),
            back_bytes: 0,
            marks,
            committed: Arc::default(),
            enough: None,
            defers: false,
            pending: None,
            leaves_when: None,
            left: Arc::default(),
        }
    }

    /// Ends the session's episode once `count` episodes are committed.
    #[must_use]
    pub fn until(mut self, count: u64) -> Self {
        self.enough = Some(count);
        self
    }

    /// An episode that the session has ended waits for [`settle`](Self::settle), so that it can still be dropped.
    #[must_use]
    pub fn deferring(mut self) -> Self {
        self.defers = true;
        self
    }

    /// An episode that `stop` ends is neither committed nor dropped: the recorder is not told of its end, as if the process had been
    /// killed, so that it can be recovered later.
    #[must_use]
    pub fn leaving_interrupted(mut self, stop: StopFlag) -> Self {
        self.leaves_when = Some(stop);
        self
    }

    /// How many frames an episode had that was [left](Self::leaving_interrupted).
    pub fn left(&self) -> Arc<AtomicU64> {
        self.left.clone()
    }

    /// Says what is to become of the episode that waits, and whether one does.
    pub(crate) fn decide(&mut self, keep: bool) -> bool {
        self.pending.as_mut().map(|end| end.keep = keep).is_some()
    }

    /// Commits the episode that waits, or drops it where that was decided, as the beginning of another does. Nothing
    /// happens where none waits.
    ///
    /// # Errors
    /// When the recorder could not commit or drop it.
    pub fn settle(&mut self) -> Result<(), SinkError> {
        self.pending.take().map_or(Ok(()), |end| self.finish(&end))
    }

    /// Counts the episodes that the recorder has committed.
    pub fn committed(&self) -> Arc<AtomicU64> {
        self.committed.clone()
    }

    fn open(&mut self) -> Result<(), SinkError> {
        (self.is_open, self.frames) = (true, 0);
        self.recorder.begin(&self.start)
    }

    fn record(&mut self, frame: &Frame) -> Result<(), SinkError> {
        self.frames += 1;
        self.recorder.frame(frame)
    }

    /// Ends the recorder's episode while the session's goes on.
    fn close(&mut self) -> Result<(), SinkError> {
        self.finish(&EpisodeEnd { outcome: Outcome::Running, keep: true, lost_frames: 0 })
    }

    fn finish(&mut self, end: &EpisodeEnd) -> Result<(), SinkError> {
        if end.keep {
            self.hand_on(usize::MAX)?;
        }
        self.is_open = false;
        let keep = end.keep && self.frames > 0;
        self.recorder.end(&EpisodeEnd { keep, ..end.clone() })?;
        let committed = self.committed.fetch_add(u64::from(keep), Relaxed) + u64::from(keep);
        if self.enough.is_some_and(|enough| committed >= enough) {
            self.operator.end_episode(true);
        }
        Ok(())
    }

    /// The session's episode is about to end, and what comes until then is of no use.
    fn has_enough(&self) -> bool {
        self.enough.is_some_and(|enough| self.committed.load(Relaxed) >= enough)
    }

    /// Gives the recorder what was kept back, at most `count` frames.
    fn hand_on(&mut self, count: usize) -> Result<(), SinkError> {
        for _ in 0..count {
            let Some(frame) = self.take_back() else { break };
            self.record(&frame)?;
        }
        Ok(())
    }

    fn take_back(&mut self) -> Option<Frame> {
        let frame = self.back.pop_front()?;
        self.back_bytes -= bytes_of(&frame);
        Some(frame)
    }

    /// A highlight's frame, which is recorded after those before it.
    fn keep_back(&mut self, frame: &Frame, most: (usize, usize)) -> Result<(), SinkError> {
        self.back_bytes += bytes_of(frame);
        self.back.push_back(frame.clone());
        if !(frame.marks - std::mem::replace(&mut self.marks, frame.marks)).is_multiple_of(2) {
            if self.is_open { self.close()? } else { self.open()? }
        }
        if self.is_open {
            return self.hand_on(CATCH_UP);
        }
        while self.back.len() > most.0 || self.back_bytes > most.1 {
            self.take_back();
        }
        Ok(())
    }
}

fn bytes_of(frame: &Frame) -> usize {
    size_of::<Frame>() + frame.observation.images.iter().map(|image| image.rgb.len() + image.depth_mm.len()).sum::<usize>()
}

impl FrameSink for Selection<'_> {
    fn name(&self) -> &str {
        self.recorder.name()
    }

    fn on_failure(&self) -> OnFailure {
        self.recorder.on_failure()
    }

    fn begin(&mut self, episode: &EpisodeStart) -> Result<(), SinkError> {
        self.settle()?;
        self.start.clone_from(episode);
        (self.instructions, self.is_open) = (0, false);
        // What was kept back is of another scene.
        (self.back, self.back_bytes, self.marks) = (VecDeque::new(), 0, self.operator.marks());
        match self.strategy {
            Strategy::Whole | Strategy::Rotating { .. } => self.open(),
            Strategy::Highlights { .. } | Strategy::Corrections => Ok(()),
        }
    }

    fn frame(&mut self, frame: &Frame) -> Result<(), SinkError> {
        if frame.instructions != std::mem::replace(&mut self.instructions, frame.instructions)
            && let Some(task) = self.operator.task_of(frame.instructions).filter(|task| *task != self.start.task)
        {
            let is_open = self.is_open;
            if is_open {
                self.close()?;
            }
            self.start.task = task;
            if is_open && !self.has_enough() {
                self.open()?;
            }
        }
        if !self.is_open && self.has_enough() {
            return Ok(());
        }
        match self.strategy {
            Strategy::Whole => self.record(frame),
            Strategy::Rotating { frames } => {
                if self.frames >= frames.max(1) && frame.actor != Actor::Human {
                    self.close()?;
                    if self.has_enough() {
                        return Ok(());
                    }
                    self.open()?;
                }
                self.record(frame)
            }
            Strategy::Highlights { frames, bytes } => self.keep_back(frame, (frames, bytes)),
            Strategy::Corrections => match (frame.actor == Actor::Human, self.is_open) {
                (true, false) => {
                    self.open()?;
                    self.record(frame)
                }
                (true, true) => self.record(frame),
                (false, true) => self.close(),
                (false, false) => Ok(()),
            },
        }
    }

    fn end(&mut self, end: &EpisodeEnd) -> Result<(), SinkError> {
        match self.is_open {
            true if !end.keep && self.frames > 0 && self.leaves_when.as_ref().is_some_and(StopFlag::is_requested) => {
                self.is_open = false;
                self.left.store(self.frames, Relaxed);
                Ok(())
            }
            true if self.defers && end.keep => {
                self.pending = Some(end.clone());
                Ok(())
            }
            true => self.finish(end),
            false => Ok(()),
        }
    }
}
