//! What a session is told before it begins.

/// When the policy is asked, and what the arm does meanwhile.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Inference {
    /// As LeRobot's `sync`: when `n_action_steps` rows have been executed the loop stands still
    /// until the policy has answered; ticks that pass meanwhile are missed and counted. Rows are
    /// executed one after the other, whatever was missed between.
    #[default]
    Sync,
    /// The policy thinks beside the loop, and every row is executed at the tick it is for.
    ///
    /// With an answer's observation made at tick `t`, the policy is asked again at the first tick
    /// from `t + max(1, n_action_steps - d)` on, where `d` is the longest of the last 16 latencies in
    /// whole ticks, plus one. The next answer then arrives before row `n_action_steps` is due; rows
    /// beyond it are a reserve for an answer that is later than that.
    Async,
}

/// How long an inference takes on the session's clock.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum Latency {
    /// As long as it takes; nothing on a clock that doesn't run by itself.
    #[default]
    Measured,
    /// The n-th answer (counted from 0, without warm-up and the first inference) is used so many
    /// ticks after it was asked for, the list being repeated. On a clock that doesn't run by itself
    /// the loop waits for it there: this makes asynchronous runs repeatable. An empty list counts as
    /// zero ticks.
    ScriptedTicks(Vec<u64>),
}

/// What happens at a tick for which no action is queued. Every such tick is counted.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Starvation {
    /// The last command stands; a joint on its way stops as fast as the gate lets it.
    #[default]
    Hold,
    /// The last command's motion runs out, with a time constant of 0.1 s.
    SlowStop,
    /// The episode ends with [`Fault::Starved`](crate::Fault::Starved).
    Stop,
}

/// Which episodes the sinks are told to keep. One that was interrupted or met a fault never is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Keep {
    /// Those that ended in success or failure: what an evaluation wants.
    #[default]
    Finished,
    /// Only those that succeeded: what a data set of demonstrations wants.
    Successes,
}

/// When the arm is moved to the description's rest position before the safe action. It never is
/// after a fault, nor when the stop was asked for with [`StopLevel::Now`](crate::StopLevel::Now).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum ReturnToRest {
    Never,
    /// After an episode that [`StopFlag`](crate::StopFlag) ended.
    #[default]
    WhenInterrupted,
    Always,
}

/// How a [`Session`](crate::Session) runs its episodes.
#[derive(Clone, Debug, PartialEq)]
pub struct SessionConfig {
    pub inference: Inference,
    pub latency: Latency,
    pub starvation: Starvation,
    pub keep: Keep,
    pub return_to_rest: ReturnToRest,
    /// How fast each joint moves to rest; the gate's limits hold too. Unless it is above 0 the arm
    /// stays where it is.
    pub rest_velocity_rad_per_s: f64,
    /// How long a scene may take to come out as success after its teleoperator was done; its last
    /// goals stand meanwhile.
    pub settle_s: f64,
    /// How many frames may wait for the sinks, at least 2. Each holds its images: at 2 cameras of
    /// 640×480 one takes 1.8 MB.
    pub frame_buffer: usize,
    /// So many ticks in a row may fail with [`RobotError::Transient`](sinew_core::RobotError); one
    /// more ends the episode.
    pub transient_ticks: u32,
}

impl Default for SessionConfig {
    fn default() -> Self {
        Self {
            inference: Inference::default(),
            latency: Latency::default(),
            starvation: Starvation::default(),
            keep: Keep::default(),
            return_to_rest: ReturnToRest::default(),
            rest_velocity_rad_per_s: 0.8,
            settle_s: 1.0,
            frame_buffer: 64,
            transient_ticks: 5,
        }
    }
}
