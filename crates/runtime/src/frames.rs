//! Frames on their way from the control thread to the sinks and back to be filled again.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::atomic::{AtomicBool, Ordering};

use sinew_core::{EpisodeEnd, EpisodeStart, Frame, FrameSink, Observation, RobotDescription, SinkError};

use crate::Fault;
use crate::handoff::{Receiver, Sender};

/// A frame with buffers of the right size for `robot`.
pub(crate) fn frame_for(robot: &RobotDescription) -> Box<Frame> {
    let n = robot.joints.len();
    Box::new(Frame { observation: Observation::for_robot(robot), wanted_rad: vec![0.0; n], applied_rad: vec![0.0; n], ..Frame::default() })
}

/// The control thread's end: the frame in hand, and where to give it.
pub(crate) struct FramePort<'a> {
    pub(crate) current: Box<Frame>,
    /// `None` when nobody looks.
    pub(crate) link: Option<FrameLink>,
    /// Wait for the sinks rather than lose a frame.
    pub(crate) lossless: bool,
    pub(crate) sinks_failed: &'a AtomicBool,
    pub(crate) lost: u64,
}

pub(crate) struct FrameLink {
    pub(crate) filled: Sender<Box<Frame>>,
    pub(crate) free: Receiver<Box<Frame>>,
}

impl FramePort<'_> {
    /// The frames that nobody holds: at the end of an episode the sinks may still have some.
    pub(crate) fn into_free(self) -> Vec<Box<Frame>> {
        let Some(FrameLink { filled, mut free }) = self.link else { return Vec::new() };
        drop(filled);
        std::iter::from_fn(|| free.recv()).collect()
    }

    /// Hands over the frame in hand and takes a free one; when there is none the frame is lost, and
    /// its buffers stay in hand. The content of the frame then in hand is some older frame's.
    pub(crate) fn publish(&mut self) {
        let Some(FrameLink { filled, free }) = &mut self.link else { return };
        let next = if self.lossless { free.recv_while(|| !self.sinks_failed.load(Ordering::Acquire)) } else { free.try_recv() };
        let Some(next) = next else {
            self.lost += 1;
            return;
        };
        let frame = std::mem::replace(&mut self.current, next);
        // The ring has room for every frame there is.
        if let Err(frame) = filled.try_send(frame) {
            self.current = frame;
            self.lost += 1;
        }
    }
}

/// The sinks of one episode; the first fault of any of them ends their being fed.
pub(crate) struct Sinks<'a, 'b> {
    sinks: &'a mut [&'b mut dyn FrameSink],
    /// How many were begun, and so are owed an end.
    begun: usize,
    /// Frames that all of them took.
    pub(crate) taken: u64,
    pub(crate) fault: Option<Fault>,
    /// Whether all took what they were given.
    pub(crate) is_whole: bool,
}

impl<'a, 'b> Sinks<'a, 'b> {
    pub(crate) fn begin(sinks: &'a mut [&'b mut dyn FrameSink], start: &EpisodeStart) -> Self {
        let mut this = Self { sinks, begun: 0, taken: 0, fault: None, is_whole: true };
        for sink in this.sinks.iter_mut() {
            this.begun += 1;
            if let Err(fault) = guarded(|| sink.begin(start)) {
                (this.fault, this.is_whole) = (Some(fault), false);
                break;
            }
        }
        this
    }

    /// Feeds frames until the control thread is done; raises `failed` when one could not be taken.
    pub(crate) fn drain(&mut self, filled: &mut Receiver<Box<Frame>>, free: &mut Sender<Box<Frame>>, failed: &AtomicBool) {
        while let Some(frame) = filled.recv() {
            if self.fault.is_none() {
                let taken = self.sinks.iter_mut().try_for_each(|sink| guarded(|| sink.frame(&frame)));
                match taken {
                    Ok(()) => self.taken += 1,
                    Err(fault) => {
                        (self.fault, self.is_whole) = (Some(fault), false);
                        failed.store(true, Ordering::Release);
                    }
                }
            }
            // The ring has room for every frame there is; were it gone, the frame would be freed.
            let _ = free.try_send(frame);
        }
    }

    /// Ends every sink that was begun and returns what went wrong, in order; `end.keep` must be
    /// `false` when something has.
    pub(crate) fn end(self, end: &EpisodeEnd, faults: &mut Vec<Fault>) {
        for sink in &mut self.sinks[..self.begun] {
            if let Err(fault) = guarded(|| sink.end(end)) {
                faults.push(fault);
            }
        }
    }
}

fn guarded(call: impl FnOnce() -> Result<(), SinkError>) -> Result<(), Fault> {
    // A sink that panicked is not fed again, only ended.
    catch_unwind(AssertUnwindSafe(call)).map_err(|payload| Fault::panic("sink", &*payload))?.map_err(Fault::Sink)
}
