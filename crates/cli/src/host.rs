//! Where a verb runs its session: in a terminal of its own, or for a daemon, whose robot it borrows.

use std::sync::Arc;

use sinew_core::{Clock, FrameSink};
use sinew_runtime::{Attendant, EpisodeReport, Progress, Series, SeriesError, SeriesReport, Session, Stage, StopFlag};

use crate::desk::Desk;
use crate::terminal::{Keys, TerminalKeys};

/// Who hears how a session goes, from another thread's place.
pub trait Listener {
    /// A session begins, with a series in which so many ticks are between two episodes.
    fn begins(&self, desk: &Desk, progress: Arc<Progress>, series: &Series);

    /// An episode begins after `done` that count.
    fn episode(&self, done: u64);

    /// The time between two episodes begins.
    fn between(&self);

    /// What became of an episode.
    fn hear(&self, report: &EpisodeReport);
}

/// Where a session runs.
pub struct Host<'a> {
    pub clock: Arc<dyn Clock>,
    pub stop: StopFlag,
    /// Of the daemon, who sees each frame and hears how it goes.
    pub guest: Option<(&'a mut dyn FrameSink, &'a dyn Listener)>,
}

impl<'a> Host<'a> {
    /// A terminal of its own: its keys are heard, a line shows how it goes, and signals stop it.
    pub fn terminal(clock: Arc<dyn Clock>, stop: StopFlag) -> Self {
        Self { clock, stop, guest: None }
    }

    /// Whether somebody sits there who presses keys and looks at lines.
    pub fn is_terminal(&self) -> bool {
        self.guest.is_none()
    }

    /// The keys of its terminal, where it has one.
    pub fn keys(&self, desk: &Desk, teleop: Option<TerminalKeys>) -> anyhow::Result<Option<Keys>> {
        if self.is_terminal() { desk.hear_keys(teleop) } else { Ok(None) }
    }

    /// Runs `series`. Whoever is the daemon's guest sees and hears of it; his frames take the place of another viewer's.
    ///
    /// # Errors
    /// As [`Session::run_series`].
    pub fn run(
        &mut self,
        session: &mut Session,
        series: &Series,
        stage: Stage<'_, '_>,
        desk: &Desk,
        attendant: &mut dyn Attendant,
    ) -> Result<SeriesReport, SeriesError> {
        match &mut self.guest {
            None => session.run_series(series, stage, attendant),
            Some((viewer, listener)) => {
                listener.begins(desk, session.progress(), series);
                let Stage { robot, cameras, environment, policy, human, recorder, viewer: _ } = stage;
                let stage = Stage { robot, cameras, environment, policy, human, recorder, viewer: Some(&mut **viewer) };
                session.run_series(series, stage, &mut Overheard { inner: attendant, listener: *listener })
            }
        }
    }
}

/// Somebody's say, and somebody else who hears of it.
struct Overheard<'a> {
    inner: &'a mut dyn Attendant,
    listener: &'a dyn Listener,
}

impl Attendant for Overheard<'_> {
    fn may_begin(&mut self, done: u64) -> bool {
        let may = self.inner.may_begin(done);
        if may {
            self.listener.episode(done);
        }
        may
    }

    fn awaits_a_word(&self) -> bool {
        self.inner.awaits_a_word()
    }

    fn has_ended(&mut self) {
        self.inner.has_ended();
    }

    fn may_go_on(&mut self) -> bool {
        self.inner.may_go_on()
    }

    fn shows_between(&self) -> bool {
        true
    }

    fn between(&mut self, moves: Option<&mut dyn FnMut() -> bool>) -> bool {
        self.listener.between();
        self.inner.between(moves)
    }

    fn hear(&mut self, report: &EpisodeReport) {
        self.listener.hear(report);
        self.inner.hear(report);
    }
}
