//! From how somebody drives a base to the channels of a robot that has one.

use sinew_core::{ActionSpace, Brief, ChannelSource, CommandMode, Observation, Retarget, RobotDescription, TeleoperatorError, Wanted};
use thiserror::Error;

const DOING: &str = "driving the base";

/// A robot that can't be driven.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
#[error("driving {robot}: expected a base in its description, found none")]
pub struct BaseError {
    pub robot: String,
}

/// Makes goals of [`ActionSpace::BaseTwist`]: the base's velocities as they are wanted, and everything else stays where it was
/// when somebody took over. What is too fast is the safety gate's to slow down.
#[derive(Clone, Debug)]
pub struct TwistToBase {
    /// Channels of action for forward, left and turning; a base that can't go sideways has no second.
    axes: [Option<usize>; 3],
    /// Channels with a place, and where it is in the state.
    others: Vec<(usize, Option<usize>)>,
    held: Option<Vec<f64>>,
    width: usize,
}

impl TwistToBase {
    /// # Errors
    /// When the robot has no base.
    pub fn new(robot: &RobotDescription) -> Result<Self, BaseError> {
        let (actions, states) = (robot.action_channels(), robot.state_channels());
        let axis = |axis: usize| actions.iter().position(|channel| channel.source == ChannelSource::Base(axis));
        let axes = [axis(0), axis(1), axis(2)];
        if axes == [None; 3] {
            return Err(BaseError { robot: robot.name.clone() });
        }
        let is_place = |mode| matches!(mode, Some(CommandMode::Position | CommandMode::Impedance));
        let others = actions.iter().enumerate().filter(|(_, channel)| is_place(channel.mode));
        let others = others.map(|(i, channel)| (i, states.iter().position(|state| state.source == channel.source))).collect();
        Ok(Self { axes, others, held: None, width: actions.len() })
    }
}

impl Retarget for TwistToBase {
    fn action_width(&self) -> usize {
        ActionSpace::BaseTwist.width().unwrap_or(0)
    }

    fn reset(&mut self) {
        self.held = None;
    }

    fn retarget(&mut self, action: &[f64], observation: &Observation, wanted: &mut Wanted) -> Result<(), TeleoperatorError> {
        if self.held.is_none() {
            let mut held = vec![0.0; self.width];
            for (channel, state) in &self.others {
                let what = || Brief::of(format_args!("where channel {channel} of the action is is not known"));
                let place = state.and_then(|state| observation.state.get(state));
                held[*channel] = place.ok_or_else(|| TeleoperatorError::Transient { doing: DOING, what: what() })?;
            }
            self.held = Some(held);
        }
        for (axis, value) in self.axes.iter().zip(action) {
            if !value.is_finite() || axis.is_none() && *value != 0.0 {
                let what = Brief::of(format_args!("{action:?} is wanted (forward, left, turning), which it can't do"));
                return Err(TeleoperatorError::Transient { doing: DOING, what });
            }
        }
        if let Some(held) = &self.held {
            wanted.goals.copy_from_slice(held);
        }
        for (axis, value) in self.axes.iter().zip(action) {
            if let Some(goal) = axis.and_then(|axis| wanted.goals.get_mut(axis)) {
                *goal = *value;
            }
        }
        Ok(())
    }
}
