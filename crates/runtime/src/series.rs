//! Episodes one after the other, as a recording or a rollout is made of them.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

use sinew_core::{Cameras, Environment, EnvironmentError, EpisodeSetup, FrameSink, Outcome, Robot, SinkError};

use crate::{
    EpisodeOutcome, EpisodeReport, EpisodeRequest, PolicyThread, ReturnToRest, Rig, Selection, Session, SessionConfig, Source, StopLevel,
    TeleopThread,
};

/// Who watches a series and has a say between its episodes.
pub trait Attendant {
    /// Whether the next episode may begin, after `done` that count. May wait for somebody to say so.
    fn may_begin(&mut self, done: u64) -> bool {
        let _ = done;
        true
    }

    /// Whether the next episode is to begin when somebody says so, who will know before what became of the last.
    fn awaits_a_word(&self) -> bool {
        false
    }

    /// An episode's robot is safe again.
    fn has_ended(&mut self) {}

    /// Whether there is to be another. May wait until an emergency is over.
    fn may_go_on(&mut self) -> bool {
        true
    }

    /// Whether the viewer is shown what a teleoperator does between two episodes, too.
    fn shows_between(&self) -> bool {
        false
    }

    /// Waits for the time between two episodes, which somebody may cut short; says whether the one before is wanted again.
    /// Where a teleoperator moves the robot meanwhile, `moves` does so, and says the same.
    fn between(&mut self, moves: Option<&mut dyn FnMut() -> bool>) -> bool {
        moves.is_some_and(|moves| moves())
    }

    /// An episode has been committed, and is on the disk, or has been dropped. The next may have begun.
    fn hear(&mut self, report: &EpisodeReport) {
        let _ = report;
    }
}

/// What counts towards the episodes that are wanted.
#[derive(Clone, Debug)]
pub enum Counts {
    /// Each that is not wanted again.
    Run,
    /// Each that the recorder kept.
    Kept,
    /// What somebody else counts, such as the episodes that a [`Selection`] has committed.
    Others(Arc<AtomicU64>),
}

/// Which episodes to run.
#[derive(Clone, Debug)]
pub struct Series {
    pub episodes: u64,
    pub counts: Counts,
    /// More episodes that fail, and are not kept, than this, and something is wrong with the setting, not with the luck.
    pub most_failures: u64,
    pub first_seed: u64,
    /// The instruction sentence, where another than the scene's own is wanted.
    pub task: Option<String>,
    /// Ticks between two episodes, in which somebody sets up the next.
    pub ticks_between: u64,
    /// One episode of so many ticks, whatever happens in the scene.
    pub endless: Option<u64>,
    /// An episode ends, and is none that failed, after so many ticks, unless the scene has ended it before.
    pub at_most: Option<u64>,
}

impl Series {
    /// `episodes` episodes from seed `first_seed` on.
    pub fn of(episodes: u64, first_seed: u64) -> Self {
        Self {
            episodes,
            counts: Counts::Run,
            most_failures: u64::MAX,
            first_seed,
            task: None,
            ticks_between: 0,
            endless: None,
            at_most: None,
        }
    }
}

/// Who takes part in a series.
pub struct Stage<'a, 'b> {
    pub robot: &'a mut dyn Robot,
    pub cameras: &'a mut dyn Cameras,
    pub environment: &'a mut dyn Environment,
    pub policy: Option<&'a mut PolicyThread>,
    pub human: Option<&'a mut TeleopThread>,
    pub recorder: Option<&'a mut Selection<'b>>,
    pub viewer: Option<&'a mut dyn FrameSink>,
}

/// What a series came to.
#[derive(Debug, Default)]
pub struct SeriesReport {
    /// All in order. An instruction that is given meanwhile begins another in the same scene, with the same `attempt`.
    pub reports: Vec<EpisodeReport>,
    /// What counted.
    pub done: u64,
    /// Episodes that failed and were not kept.
    pub failed: u64,
}

impl SeriesReport {
    /// Settles the last episode, where it waits for that, and tells of it where it is `untold`: there were so many commits before.
    fn settle_last(
        &mut self,
        recorder: Option<&mut Selection<'_>>,
        untold: &mut Option<u64>,
        attendant: &mut dyn Attendant,
    ) -> Result<(), SeriesError> {
        let (Some(last), Some(recorder)) = (self.reports.last_mut(), recorder) else { return Ok(()) };
        let settled = recorder.settle();
        settled.map_err(|source| SeriesError { attempt: last.attempt, seed: last.seed, source })?;
        if let Some(before) = untold.take() {
            if recorder.committed().load(Relaxed) == before {
                // The fault is the next one's, at whose beginning it was to be committed.
                last.kept = false;
                self.done = self.done.saturating_sub(1);
            }
            attendant.hear(last);
        }
        Ok(())
    }
}

/// An episode that could not be committed or dropped after the session had ended it.
#[derive(Debug, thiserror::Error)]
#[error("settling episode {attempt} (seed {seed})")]
pub struct SeriesError {
    pub attempt: u64,
    pub seed: u64,
    #[source]
    pub source: SinkError,
}

impl Session {
    /// Runs the episodes of `series` until enough count, somebody wants no more, or one breaks.
    ///
    /// # Errors
    /// When an episode that waited to be settled could not be.
    pub fn run_series(
        &mut self,
        series: &Series,
        stage: Stage<'_, '_>,
        attendant: &mut dyn Attendant,
    ) -> Result<SeriesReport, SeriesError> {
        let Stage { robot, cameras, environment, mut policy, mut human, mut recorder, mut viewer } = stage;
        let mut end = SeriesReport::default();
        let committed = recorder.as_deref().map(Selection::committed).unwrap_or_default();
        // Whether the last episode is settled while the next begins; and how many were committed before, while nobody has
        // heard of it.
        let (mut is_beside, mut untold) = (false, None);
        let wanted = if series.endless.is_some() { 1 } else { series.episodes };
        let (mut attempt, mut scene) = (0, 0);
        while end.done < wanted && end.failed <= series.most_failures && attendant.may_begin(end.done) {
            let task = self.operator().task().or_else(|| series.task.clone());
            let request = EpisodeRequest { attempt, seed: series.first_seed.saturating_add(scene), task };
            attempt += 1;
            let source = match (policy.as_deref_mut(), human.as_deref_mut()) {
                (Some(policy), Some(human)) => Source::Supervised(policy, human),
                (Some(policy), None) => Source::Policy(policy),
                (None, Some(human)) => Source::Teleoperator(human),
                (None, None) => break,
            };
            let (mut unending, mut shortened);
            let judged: &mut dyn Environment = match (series.endless, series.at_most) {
                (Some(ticks), _) => {
                    unending = Endless { scene: &mut *environment, ticks };
                    &mut unending
                }
                (None, Some(ticks)) => {
                    shortened = Shortened { scene: &mut *environment, ticks };
                    &mut shortened
                }
                (None, None) => &mut *environment,
            };
            let mut sinks: Vec<&mut dyn FrameSink> = Vec::new();
            sinks.extend(recorder.as_deref_mut().map(|sink| sink as &mut dyn FrameSink));
            if let Some(viewer) = &mut viewer {
                sinks.push(&mut **viewer);
            }
            let rig = Rig { robot: &mut *robot, cameras: &mut *cameras, environment: judged };
            let mut has_begun = !is_beside;
            let mut tell = || {
                has_begun = true;
                if let (Some(last), Some(_)) = (end.reports.last(), untold.take_if(|before| committed.load(Relaxed) > *before)) {
                    attendant.hear(last);
                }
            };
            let have_begun = is_beside.then_some(&mut tell as &mut dyn FnMut());
            let mut report = self.run_beside(&request, rig, source, &mut sinks, have_begun);
            attendant.has_ended();
            // This one may have ended before it began, or the last could not be committed.
            if !has_begun || untold.is_some() {
                end.settle_last(recorder.as_deref_mut(), &mut untold, attendant)?;
            }
            // What the human wants to have again, and what an emergency broke off, doesn't count.
            let mut again = report.outcome == EpisodeOutcome::Dropped || self.stop().level() == StopLevel::Emergency;
            let mut goes_on = report.faults.is_empty() && attendant.may_go_on();
            if series.ticks_between > 0 && goes_on && (again || end.done + 1 < wanted) {
                let mut faults = Vec::new();
                let mut sees = viewer.as_deref_mut().filter(|_| attendant.shows_between());
                let wants_again = match human.as_deref_mut() {
                    Some(human) => attendant.between(Some(&mut || {
                        let rig = Rig {
                            robot: &mut *robot,
                            cameras: &mut *cameras,
                            environment: &mut AsItIs { task: String::new(), ticks: series.ticks_between },
                        };
                        let between = self.follow(rig, human, sees.as_deref_mut());
                        faults.extend(between.faults);
                        between.outcome == EpisodeOutcome::Dropped
                    })),
                    None => attendant.between(None),
                };
                goes_on = faults.is_empty() && attendant.may_go_on();
                report.faults.extend(faults);
                if wants_again && !again {
                    (again, report.outcome, report.kept) = (true, EpisodeOutcome::Dropped, false);
                }
            }
            end.failed += u64::from(report.outcome == EpisodeOutcome::Failure && !report.kept);
            scene += u64::from(!again);
            end.done = match &series.counts {
                Counts::Run => end.done + u64::from(!again),
                Counts::Kept => end.done + u64::from(report.kept),
                Counts::Others(count) => count.load(Relaxed),
            };
            for earlier in std::mem::take(&mut report.earlier) {
                attendant.hear(&earlier);
                end.reports.push(earlier);
            }
            let waits = recorder.as_deref_mut().is_some_and(|recorder| recorder.decide(!again));
            report.kept &= !(waits && again);
            if waits && report.kept {
                untold = Some(committed.load(Relaxed));
            } else {
                attendant.hear(&report);
            }
            end.reports.push(report);
            goes_on &= series.endless.is_none() || again;
            // The robot is not to wait for a disk. Who has to say that the next begins is to know of the last.
            is_beside = waits && goes_on && !attendant.awaits_a_word() && !self.stop().is_requested();
            if !is_beside {
                end.settle_last(recorder.as_deref_mut(), &mut untold, attendant)?;
            }
            if !goes_on {
                break;
            }
        }
        end.settle_last(recorder, &mut untold, attendant)?;
        Ok(end)
    }

    /// Lets the robot follow `human`; it stays where he leaves it. Nothing is recorded.
    fn follow<'v>(&mut self, rig: Rig<'_>, human: &mut TeleopThread, viewer: Option<&mut (dyn FrameSink + 'v)>) -> EpisodeReport {
        let before = self.config_mut().clone();
        *self.config_mut() = SessionConfig { return_to_rest: ReturnToRest::WhenStopped, needs_images: false, ..before.clone() };
        let mut sinks: Vec<&mut dyn FrameSink> = Vec::new();
        if let Some(viewer) = viewer {
            sinks.push(viewer);
        }
        let report = self.run_episode(&EpisodeRequest::default(), rig, Source::Teleoperator(human), &mut sinks);
        *self.config_mut() = before;
        report
    }
}

/// A scene whose success or failure ends nothing: a run goes on until its time is over.
struct Endless<'a> {
    scene: &'a mut dyn Environment,
    ticks: u64,
}

impl Environment for Endless<'_> {
    fn reset(&mut self, seed: u64) -> Result<EpisodeSetup, EnvironmentError> {
        Ok(EpisodeSetup { max_ticks: self.ticks, is_judged: false, ..self.scene.reset(seed)? })
    }

    fn outcome(&mut self) -> Outcome {
        Outcome::Running
    }

    fn state_hash(&self) -> u64 {
        self.scene.state_hash()
    }
}

/// A scene whose episode somebody wants to be so long, whatever the scene says of that.
struct Shortened<'a> {
    scene: &'a mut dyn Environment,
    ticks: u64,
}

impl Environment for Shortened<'_> {
    fn reset(&mut self, seed: u64) -> Result<EpisodeSetup, EnvironmentError> {
        Ok(EpisodeSetup { max_ticks: self.ticks, is_judged: false, ..self.scene.reset(seed)? })
    }

    fn outcome(&mut self) -> Outcome {
        self.scene.outcome()
    }

    fn state_hash(&self) -> u64 {
        self.scene.state_hash()
    }
}

/// The scene as it is, for so many ticks: nothing is set up, nothing is judged. The real world, where nobody says
/// otherwise.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct AsItIs {
    /// The instruction sentence.
    pub task: String,
    pub ticks: u64,
}

impl Environment for AsItIs {
    fn reset(&mut self, _: u64) -> Result<EpisodeSetup, EnvironmentError> {
        Ok(EpisodeSetup { task: self.task.clone(), max_ticks: self.ticks, is_judged: false, is_set_up: false })
    }

    fn outcome(&mut self) -> Outcome {
        Outcome::Running
    }

    fn state_hash(&self) -> u64 {
        0
    }
}
