//! Frames on their way from the control thread to each sink and back to be filled again.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::Acquire, Ordering::Relaxed, Ordering::Release};

use sinew_core::{Frame, Pixels};

use crate::ring::{Receiver, Sender};

/// Lets go of the images, which are of use to nobody any more.
pub(crate) fn let_go(frame: &mut Frame, nothing: &Pixels) {
    for image in &mut frame.observation.images {
        image.let_go(nothing);
    }
}

/// `count` frames like `template` without its images, as many as there are of those in `old`.
pub(crate) fn frames_like(template: &Frame, count: usize, mut old: Vec<Box<Frame>>, nothing: &Pixels) -> Vec<Box<Frame>> {
    old.retain(|frame| same_shape(frame, template));
    old.resize_with(count, || Box::new(template.clone()));
    old.iter_mut().for_each(|frame| let_go(frame, nothing));
    old
}

fn same_shape(a: &Frame, b: &Frame) -> bool {
    let sizes = |frame: &Frame| frame.observation.images.iter().map(|image| (image.width, image.height)).collect::<Vec<_>>();
    a.wanted.len() == b.wanted.len() && a.observation.state.width() == b.observation.state.width() && sizes(a) == sizes(b)
}

/// What the control thread, a sink's thread and the session's know of each other.
#[derive(Default)]
pub(crate) struct Standing {
    /// The sink has failed, and takes no more frames.
    is_gone: AtomicBool,
    /// Frames for which the sink had no room.
    lost: AtomicU64,
}

impl Standing {
    pub(crate) fn is_gone(&self) -> bool {
        self.is_gone.load(Acquire)
    }

    pub(crate) fn leave(&self) {
        self.is_gone.store(true, Release);
    }

    pub(crate) fn lost(&self) -> u64 {
        self.lost.load(Relaxed)
    }
}

/// The control thread's end: the frame in hand, and the sinks that are given copies of it.
pub(crate) struct FramePort {
    pub(crate) current: Box<Frame>,
    pub(crate) feeds: Vec<Feed>,
    /// Wait for the sinks rather than lose a frame.
    pub(crate) lossless: bool,
}

impl FramePort {
    /// Whether anybody is given frames.
    pub(crate) fn is_watched(&self) -> bool {
        !self.feeds.is_empty()
    }

    /// Whether a sink has failed whose failure ends the episode.
    pub(crate) fn has_failed(&self) -> bool {
        self.feeds.iter().any(|feed| feed.is_fatal && feed.standing.is_gone())
    }

    /// What was lost to the sinks that matter: the most of any.
    pub(crate) fn lost(&self) -> u64 {
        self.feeds.iter().filter(|feed| feed.is_fatal).map(|feed| feed.standing.lost()).max().unwrap_or(0)
    }

    /// Gives each sink that still takes frames a copy of the frame in hand, which stays there.
    pub(crate) fn publish(&mut self) {
        for feed in &mut self.feeds {
            feed.give(&self.current, self.lossless);
        }
    }

    /// Closes the rings. What is given back is where the frames arrive that the sinks have done with.
    pub(crate) fn close(self) -> Vec<Receiver<Box<Frame>>> {
        self.feeds.into_iter().map(|feed| feed.free).collect()
    }
}

/// A sink's ring, and its frames that are free.
pub(crate) struct Feed {
    pub(crate) filled: Sender<Box<Frame>>,
    pub(crate) free: Receiver<Box<Frame>>,
    pub(crate) standing: Arc<Standing>,
    pub(crate) is_fatal: bool,
}

impl Feed {
    fn give(&mut self, current: &Frame, lossless: bool) {
        let Self { filled, free, standing, .. } = self;
        if standing.is_gone() {
            return;
        }
        let mut frame = free.try_recv();
        if frame.is_none() && lossless {
            filled.wake();
            frame = free.recv_while(|| !standing.is_gone());
        }
        let is_sent = frame.is_some_and(|mut frame| {
            frame.copy_from(current);
            // The ring has room for every frame there is.
            filled.try_send(frame).is_ok()
        });
        if !is_sent && !standing.is_gone() {
            // Nobody else writes it.
            standing.lost.store(standing.lost() + 1, Relaxed);
        }
    }
}
