//! What a robot must do, and its cameras.

use thiserror::Error;

use crate::{Brief, Door, Image, Lifeline, Observation, RobotDescription, SafeCommand, Tick, Timestamp};

/// A robot that could not do what it was asked. Making one allocates nothing.
#[derive(Clone, Debug, Error, PartialEq, Eq)]
pub enum RobotError {
    /// This time it failed; the next may work.
    #[error("{doing}: {what}")]
    Transient { doing: &'static str, what: Brief },
    /// The robot is gone (unplugged, powered off, crashed).
    #[error("{doing}: the robot is lost: {what}")]
    Lost { doing: &'static str, what: Brief },
}

impl RobotError {
    pub fn transient(doing: &'static str, what: impl std::fmt::Display) -> Self {
        Self::Transient { doing, what: Brief::of(what) }
    }

    pub fn lost(doing: &'static str, what: impl std::fmt::Display) -> Self {
        Self::Lost { doing, what: Brief::of(what) }
    }

    pub fn is_transient(&self) -> bool {
        matches!(self, Self::Transient { .. })
    }
}

/// A live connection to a robot. Connecting moves nothing and switches no torque on.
///
/// All of its time stamps are of the session's clock, which it was made with. Every call returns soon
/// after its deadline, whatever the devices do. What switches torque or reaches a motor takes a
/// [`Door`], which only [`Armed`](crate::Armed) has. Calls made once a tick allocate nothing.
pub trait Robot: Send {
    fn description(&self) -> &RobotDescription;

    /// Asks all buses for the state at `tick`, without waiting for what they answer.
    ///
    /// # Errors
    /// When nothing could be asked.
    fn begin_read(&mut self, tick: &Tick) -> Result<(), RobotError> {
        let _ = tick;
        Ok(())
    }

    /// Waits for the answers until `deadline` and fills `observation`, made by
    /// [`Observation::for_robot`], but for its images. A part that does not answer is
    /// [`miss`](crate::Samples::miss)ed, which is no error.
    ///
    /// # Errors
    /// When nothing was to be had.
    fn finish_read(&mut self, tick: &Tick, deadline: Timestamp, observation: &mut Observation) -> Result<(), RobotError>;

    /// What another process needs to bring this robot into its safe action. Called before torque goes on.
    /// Empty where nothing of the robot outlives this process.
    ///
    /// # Errors
    /// When it can't be given away.
    fn lifeline(&mut self) -> Result<Lifeline, RobotError> {
        Ok(Lifeline::default())
    }

    /// Sets every goal to where the part is now (every velocity and effort to 0), then switches torque on.
    ///
    /// # Errors
    /// When a goal or a torque register could not be written; torque may then be on in places, and
    /// [`stop`](Self::stop) follows.
    fn enable(&mut self, door: &Door, deadline: Timestamp) -> Result<(), RobotError>;

    /// Sends `command`, and says in `sent` what was really sent to whom.
    ///
    /// # Errors
    /// When nothing was sent.
    fn write(&mut self, door: &Door, command: &SafeCommand, deadline: Timestamp, sent: &mut Sent) -> Result<(), RobotError>;

    /// Whether something of it is away that is expected back, such as an adapter that was unplugged: that commands don't
    /// reach it is then no fault, yet. It says itself when it has waited long enough.
    fn is_away(&self) -> bool {
        false
    }

    /// Ends in the description's declared safe action, part by part
    /// ([`StopBehaviour`](crate::StopBehaviour)); one that fails does not keep the others from it. Idempotent.
    ///
    /// # Errors
    /// When it could not be completed for every part.
    fn stop(&mut self, door: &Door, deadline: Timestamp) -> Result<(), RobotError>;
}

/// What of a command reached the robot: a value a channel of action. Rounding to a motor's own steps
/// is not told.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Sent {
    values: Vec<f64>,
    reached: Vec<bool>,
}

impl Sent {
    /// Room for `width` channels, none of which was reached.
    pub fn new(width: usize) -> Self {
        Self { values: vec![0.0; width], reached: vec![false; width] }
    }

    /// Channel `i` was sent `value`.
    pub fn reach(&mut self, i: usize, value: f64) {
        if let (Some(slot), Some(reached)) = (self.values.get_mut(i), self.reached.get_mut(i)) {
            (*slot, *reached) = (value, true);
        }
    }

    /// All of `command` was sent.
    pub fn reach_all(&mut self, command: &SafeCommand) {
        command.goals().iter().enumerate().for_each(|(i, goal)| self.reach(i, *goal));
    }

    /// Nothing was sent yet.
    pub(crate) fn clear(&mut self) {
        self.reached.fill(false);
    }

    /// What channel `i` was sent; `None` when nothing.
    pub fn get(&self, i: usize) -> Option<f64> {
        self.values.get(i).copied().filter(|_| self.reached[i])
    }
}

/// A camera that has nothing to show.
#[derive(Clone, Debug, Error, PartialEq, Eq)]
#[error("looking through camera {camera}: {what}")]
pub struct CameraError {
    pub camera: Brief,
    pub what: Brief,
}

/// The cameras of a robot, each with a thread of its own behind it.
pub trait Cameras: Send {
    /// Puts the newest image of each camera into `images`, in the description's order, with its capture
    /// time on the session's clock and its number. Where a camera has no newer one, the image stands. Never
    /// waits on a clock that runs by itself; on one that doesn't, the images are those of `tick`.
    ///
    /// # Errors
    /// When a camera is gone for good. One that is only slow shows itself by the age of its image.
    fn newest(&mut self, tick: &Tick, images: &mut [Image]) -> Result<(), CameraError>;
}

/// A robot without cameras.
pub struct Blind;

impl Cameras for Blind {
    fn newest(&mut self, _: &Tick, _: &mut [Image]) -> Result<(), CameraError> {
        Ok(())
    }
}
