//! Humans and scripts that act instead of a policy.

use thiserror::Error;

use crate::{Brief, Observation, Tick, Wanted};

/// A teleoperator that has nothing to say.
#[derive(Clone, Debug, Error, PartialEq, Eq)]
pub enum TeleoperatorError {
    /// This time it failed; the next may work.
    #[error("{doing}: {what}")]
    Transient { doing: &'static str, what: Brief },
    #[error("{doing}: the teleoperator is lost: {what}")]
    Lost { doing: &'static str, what: Brief },
}

/// What a teleoperator's actions mean.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum ActionSpace {
    /// The channels of the robot's action, in its order.
    #[default]
    Channels,
    /// Speed of a tool in the base frame: x, y, z (m/s) and about them (rad/s), then how fast the gripper opens, −1..1.
    ToolTwist,
    /// Where a tool is to be against where it was when somebody engaged: x, y, z (m) in the base frame, a rotation vector (rad)
    /// in the tool's, how fast the gripper opens, −1..1, then whether he is engaged, 0 or 1.
    ToolOffset,
    /// The same with the rotation vector in the base frame, too.
    ToolOffsetInBase,
    /// Pose of a tool in the base frame: x, y, z (m), a rotation vector (rad), then how far the gripper is open, 0..1.
    ToolPose,
    /// Forward, left (m/s) and turning (rad/s) of a base.
    BaseTwist,
}

impl ActionSpace {
    /// How many numbers an action has; `None` where the robot says so.
    pub fn width(&self) -> Option<usize> {
        match self {
            Self::Channels => None,
            Self::ToolTwist | Self::ToolPose => Some(7),
            Self::ToolOffset | Self::ToolOffsetInBase => Some(8),
            Self::BaseTwist => Some(3),
        }
    }
}

/// Whether the source of actions still wants to act.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum TeleopStatus {
    #[default]
    Active,
    /// It has done what it set out to do; the action is still valid.
    Done,
    /// Nobody has said anything new: the action is the last one. What is recorded meanwhile is marked.
    Stale,
    /// The robot is to stay: whatever the action is, it comes to rest where it was sent.
    Holding,
    /// The same, as nobody leads. What is recorded meanwhile is marked.
    Absent,
}

/// A human or scripted source of actions, on a thread of its own: the loop takes its newest action with
/// its time and never waits. It knows nothing of the robot that follows; a [`Retarget`] joins the two.
pub trait Teleoperator: Send {
    fn action_space(&self) -> ActionSpace {
        ActionSpace::default()
    }

    /// Called before its first action, and each time that it takes over, with what the robot saw last.
    ///
    /// # Errors
    /// When the source is gone.
    fn reset(&mut self, observation: &Observation) -> Result<(), TeleoperatorError>;

    /// Writes the wanted action. `observation` is what the robot saw last.
    ///
    /// # Errors
    /// When there is none.
    fn action(&mut self, tick: &Tick, observation: &Observation, action: &mut [f64]) -> Result<TeleopStatus, TeleoperatorError>;

    /// Lets whoever acts feel what the robot was sent, where that can be.
    fn feel(&mut self, sent: &[f64]) {
        let _ = sent;
    }

    /// Somebody else acts: called at each turn in the place of [`action`](Self::action), with what the robot was `sent`.
    /// Whoever can be moved follows the robot, so that taking over is no jump.
    fn follow(&mut self, tick: &Tick, observation: &Observation, sent: &[f64]) {
        let _ = (tick, observation, sent);
    }
}

/// Makes wanted commands of a teleoperator's actions. Called on the teleoperator's thread.
pub trait Retarget: Send {
    /// How many numbers an action of such a teleoperator has.
    fn action_width(&self) -> usize;

    /// The teleoperator takes over: what the robot did before is forgotten.
    fn reset(&mut self) {}

    /// # Errors
    /// When there is no such command, for example as the pose can't be reached.
    fn retarget(&mut self, action: &[f64], observation: &Observation, wanted: &mut Wanted) -> Result<(), TeleoperatorError>;
}

impl<R: Retarget + ?Sized> Retarget for Box<R> {
    fn action_width(&self) -> usize {
        (**self).action_width()
    }

    fn reset(&mut self) {
        (**self).reset();
    }

    fn retarget(&mut self, action: &[f64], observation: &Observation, wanted: &mut Wanted) -> Result<(), TeleoperatorError> {
        (**self).retarget(action, observation, wanted)
    }
}

/// For teleoperators that speak of the robot's own channels.
#[derive(Clone, Copy, Debug)]
pub struct Identity {
    pub width: usize,
}

impl Retarget for Identity {
    fn action_width(&self) -> usize {
        self.width
    }

    fn retarget(&mut self, action: &[f64], _: &Observation, wanted: &mut Wanted) -> Result<(), TeleoperatorError> {
        wanted.goals.copy_from_slice(action);
        Ok(())
    }
}
