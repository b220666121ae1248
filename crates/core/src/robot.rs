//! The traits that the runtime joins. It sees only these: a driver, a simulator, a recording and a
//! remote robot are indistinguishable to it.

use std::error::Error;

use thiserror::Error;

use crate::{ActionChunk, Observation, RobotDescription, SafeCommand, ShapeError, Tick};

/// A robot that could not do what it was asked.
#[derive(Debug, Error)]
pub enum RobotError {
    /// This tick failed; the next may work.
    #[error("{doing}")]
    Transient {
        doing: String,
        #[source]
        source: Box<dyn Error + Send + Sync>,
    },
    /// The robot is gone (unplugged, powered off, crashed).
    #[error("{doing}: the robot is lost")]
    Lost {
        doing: String,
        #[source]
        source: Box<dyn Error + Send + Sync>,
    },
}

/// A live connection to a robot. Connecting moves nothing and switches no torque on.
pub trait Robot: Send {
    fn description(&self) -> &RobotDescription;

    /// Fills `observation` (made by [`Observation::for_robot`]) with the state at `tick`.
    ///
    /// # Errors
    /// When the joints or a wanted camera could not be read; `observation` may then be half filled.
    fn observe(&mut self, tick: &Tick, observation: &mut Observation) -> Result<(), RobotError>;

    /// Sets every goal to the present position, then switches torque on. Called by [`Armed`].
    ///
    /// # Errors
    /// When a goal or a torque register could not be written; torque is then off.
    fn enable(&mut self) -> Result<(), RobotError>;

    /// Writes the goals of `command`; `applied_rad` receives what was really sent, a value a joint.
    /// Called by [`Armed::apply`].
    ///
    /// # Errors
    /// When a goal could not be written.
    fn write_goals(&mut self, command: &SafeCommand, applied_rad: &mut [f64]) -> Result<(), RobotError>;

    /// Ends in the description's declared safe action ([`StopBehaviour`](crate::StopBehaviour)).
    /// Idempotent; called by [`Armed`] whichever way it ends.
    ///
    /// # Errors
    /// When the safe action could not be completed.
    fn stop(&mut self) -> Result<(), RobotError>;
}

/// The guard through which alone a command reaches a robot: it exists while torque is on, and
/// dropping it, on whatever path, ends in the robot's declared safe action.
pub struct Armed<'robot> {
    robot: &'robot mut dyn Robot,
    stopped: bool,
}

impl<'robot> Armed<'robot> {
    /// Goal := present, then torque on.
    ///
    /// # Errors
    /// As [`Robot::enable`].
    pub fn new(robot: &'robot mut dyn Robot) -> Result<Self, RobotError> {
        robot.enable()?;
        Ok(Self { robot, stopped: false })
    }

    pub fn description(&self) -> &RobotDescription {
        self.robot.description()
    }

    /// # Errors
    /// As [`Robot::observe`].
    pub fn observe(&mut self, tick: &Tick, observation: &mut Observation) -> Result<(), RobotError> {
        self.robot.observe(tick, observation)
    }

    /// # Errors
    /// As [`Robot::write_goals`].
    pub fn apply(&mut self, command: &SafeCommand, applied_rad: &mut [f64]) -> Result<(), RobotError> {
        self.robot.write_goals(command, applied_rad)
    }

    /// Ends in the safe action and says whether it worked.
    ///
    /// # Errors
    /// As [`Robot::stop`].
    pub fn disarm(mut self) -> Result<(), RobotError> {
        self.stopped = true;
        self.robot.stop()
    }
}

impl Drop for Armed<'_> {
    fn drop(&mut self) {
        if !self.stopped {
            // Nobody is left to tell; the robot's own watchdog is what remains.
            let _ = self.robot.stop();
        }
    }
}

/// Whether the source of actions still wants to act.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TeleopStatus {
    Active,
    /// It has done what it set out to do; the action is still valid.
    Done,
}

/// A human or scripted source of actions. It knows nothing of the robot that follows.
pub trait Teleoperator: Send {
    /// Called before the first tick of an episode, after the environment was reset.
    ///
    /// # Errors
    /// When the source is gone.
    fn reset(&mut self) -> Result<(), RobotError>;

    /// Writes the wanted joint goals in radians.
    ///
    /// # Errors
    /// When the source is gone.
    fn action(&mut self, tick: &Tick, goals_rad: &mut [f64]) -> Result<TeleopStatus, RobotError>;
}

/// A policy that could not answer.
#[derive(Debug, Error)]
pub enum PolicyError {
    #[error("{doing}")]
    Compute {
        doing: String,
        #[source]
        source: Box<dyn Error + Send + Sync>,
    },
    #[error(transparent)]
    Shape(#[from] ShapeError),
}

/// What a policy is, for those who schedule and show it.
#[derive(Clone, Debug, PartialEq)]
pub struct PolicyInfo {
    /// The family's LeRobot name, such as `act`.
    pub family: String,
    pub parameters: u64,
    /// Observations that it looks at together: that of now and those of the ticks before.
    pub n_obs_steps: usize,
    /// Rows in each answer.
    pub chunk_size: usize,
    /// Rows of an answer that are meant to be executed before the next.
    pub n_action_steps: usize,
}

/// What a new chunk is to continue: the chunk answered before, which is being executed meanwhile.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Continuation {
    /// Rows of the answer before that are still to be executed, the first being for the tick of the
    /// newest observation.
    pub rows_left: usize,
    /// How many of them will have been executed by the time the new answer is there, as far as is
    /// known: the new rows for those ticks are computed for nothing.
    pub delay_rows: usize,
    /// The newest answer came too late to be used ([`Policy::most_delay_rows`]): what is being executed,
    /// and to be continued, is the newest of those before it that was not.
    pub newest_is_unused: bool,
}

/// Maps an observation to a chunk of actions: pure compute, slow by nature, never on the control
/// thread. An implementation is bound to one robot: features, order and units were checked when it
/// was made, and it takes and answers SI units in the description's joint order.
pub trait Policy: Send {
    fn info(&self) -> &PolicyInfo;

    /// Forgets everything about the past; called before each episode.
    fn reset(&mut self);

    /// `observations` are the last [`PolicyInfo::n_obs_steps`], oldest first; at the start of an
    /// episode the first stands for those before it. The answer's first row is for the tick of the
    /// last.
    ///
    /// # Errors
    /// When the computation failed. A policy never answers with a wrong shape.
    fn infer(&mut self, observations: &[Observation], task: &str) -> Result<ActionChunk, PolicyError>;

    /// As [`infer`](Self::infer), for an answer that follows smoothly from the one before (real-time
    /// chunking). A policy that can't do so answers as ever.
    ///
    /// # Errors
    /// As [`infer`](Self::infer).
    fn infer_continuing(&mut self, observations: &[Observation], task: &str, continuing: Continuation) -> Result<ActionChunk, PolicyError> {
        let _ = continuing;
        self.infer(observations, task)
    }

    /// Whether [`infer_continuing`](Self::infer_continuing) does more than [`infer`](Self::infer).
    fn can_continue(&self) -> bool {
        false
    }

    /// The most [`delay_rows`](Continuation::delay_rows) that it can be asked to continue, where an answer
    /// follows the one before only if no more rows than it was told of have been executed. `None` where
    /// any number is as good.
    fn most_delay_rows(&self) -> Option<usize> {
        None
    }
}

/// How an episode stands.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Outcome {
    Running,
    Success,
    Failure(String),
}

/// What [`Environment::reset`] has set up.
#[derive(Clone, Debug, PartialEq)]
pub struct EpisodeSetup {
    /// The instruction sentence, LeRobot's `task`.
    pub task: String,
    /// After so many ticks an episode that is still running counts as failed.
    pub max_ticks: u64,
}

/// Who sets the scene for an episode and judges it: a simulated task, or a human.
pub trait Environment: Send {
    /// Called while the robot is disarmed.
    ///
    /// # Errors
    /// When the scene cannot be set up.
    fn reset(&mut self, seed: u64) -> Result<EpisodeSetup, RobotError>;

    /// Called after each tick. `Success` and `Failure` are final until the next reset.
    fn outcome(&mut self) -> Outcome;

    /// A digest of the scene's whole state, for proving that two runs were the same. 0 where the
    /// scene cannot be digested (the real world).
    fn state_hash(&self) -> u64;
}
