//! What a session is told before it begins.

use crate::RealtimeRequest;

/// When the policy is asked, and what the arm does meanwhile.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Inference {
    /// As LeRobot's `sync`: when `n_action_steps` rows have been executed the robot stands still until the
    /// policy has answered. It is read and held at every turn meanwhile; such ticks are counted and are no part
    /// of what the sinks see. An answer that takes less than half a turn costs no tick. Rows are executed one
    /// after the other, whatever was missed between.
    #[default]
    Sync,
    /// The policy thinks beside the loop, and every row is executed at the tick it is for.
    ///
    /// With an answer's observation made at tick `t`, the policy is asked again at the first tick
    /// from `t + max(1, n_action_steps - d)` on, where `d` is the longest of the last 16 latencies in
    /// whole ticks, plus one. The next answer then arrives before row `n_action_steps` is due; rows
    /// beyond it are a reserve for an answer that is later than that.
    Async,
    /// Real-time chunking: as `Async`, and each answer is asked to follow smoothly from the one that is
    /// being executed ([`Continuation`](sinew_core::Continuation)), its expected delay being `d - 1`. For
    /// policies that can do so. Where an answer that took longer is of no use
    /// ([`Policy::most_delay_rows`](sinew_core::Policy::most_delay_rows)), it is not used, the policy is
    /// asked again at once, and `2 d` counts for `d` above; the fifth in a row ends the episode.
    Rtc,
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

/// How goals are found between the rows of a policy when the loop runs faster than the policy
/// ([`SessionConfig::control_multiplier`]).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Interpolation {
    /// On the straight line from a row to the next.
    #[default]
    Linear,
    /// On the cubic through both that has there the mean slope of the rows around (Catmull–Rom).
    Cubic,
}

/// What happens at a tick for which no action is queued. Every such tick is counted.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Starvation {
    /// The robot comes to rest as fast as the gate lets it.
    #[default]
    Hold,
    /// The last command's motion runs out evenly within 0.1 s.
    SlowStop,
    /// The episode ends with [`Fault::Starved`](crate::Fault::Starved).
    Stop,
}

/// Which episodes the sinks are told to keep, if there is a frame in them. One that the operator ended is kept or
/// dropped as he says.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Keep {
    /// Those that came to their own end: success, failure, or a fault, unless it was a sink's. What an
    /// evaluation wants.
    #[default]
    Finished,
    /// Only those that succeeded: what a data set of demonstrations wants.
    Successes,
    /// Those that were interrupted too: what a record of all that happened wants.
    Everything,
}

/// When the arm is moved to the description's rest position before the safe action. It never is
/// after a fault, nor when the stop was asked for with [`StopLevel::Now`](crate::StopLevel::Now).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum ReturnToRest {
    Never,
    /// After an episode that [`StopFlag`](crate::StopFlag) ended.
    WhenStopped,
    /// The same, and after one that the operator ended.
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
    /// An answer that takes longer ends the episode, seconds of the system's clock. Without it, what was
    /// measured says how long that is: ten times the longest of the last 16 answers, but at least 3 s; and at
    /// least 10 s, or twice what the warm-up took, while fewer than 4 answers are known. Meanwhile a tick
    /// without a row is treated as [`starvation`](Self::starvation) says. A policy that says that it has no answer
    /// now ([`Unavailable`](sinew_core::PolicyError::Unavailable)) is asked again, and as much time counts from the first
    /// question that was left open.
    pub answer_deadline_s: Option<f64>,
    /// The same for the first answer of all, for which nothing moves yet.
    pub warm_up_deadline_s: f64,
    /// Turns of the loop for each tick of the policy, at least 1: the robot is read and commanded so
    /// many times more often than rows are executed and frames recorded, which stay at the
    /// description's rate.
    pub control_multiplier: u32,
    pub interpolation: Interpolation,
    /// Before a policy's first tick the robot is brought to its first action at
    /// [`rest_velocity_per_s`](Self::rest_velocity_per_s) where a channel is further from it than this (radians or
    /// metres); the policy is then asked anew. Nearer first goals, and those of a teleoperator, who does not wait, begin
    /// where the robot is and come to themselves at that speed.
    pub start_within: f64,
    /// What the control thread asks of the system.
    pub realtime: RealtimeRequest,
    pub keep: Keep,
    pub return_to_rest: ReturnToRest,
    /// How fast each channel moves to rest, and to the start, radians or metres a second; the gate's limits hold too.
    /// Unless it is above 0 the robot stays where it is.
    pub rest_velocity_per_s: f64,
    /// How long a scene may take to come out as success after its teleoperator was done; its last
    /// goals stand meanwhile.
    pub settle_s: f64,
    /// How many frames may wait for each sink, at least 2. One that waits holds its images, which the sinks share:
    /// at 2 cameras of 640×480 it takes 1.8 MB. A sink that keeps up holds those of the last 20 ms, one that does
    /// not so many, and two of those that many each at worst.
    pub frame_buffer: usize,
    /// Whether an image that is older than its camera's limit ends an episode whose description says so. Between episodes nobody
    /// looks.
    pub needs_images: bool,
    /// For so long commands may fail to reach the robot; then the episode ends, seconds. For how long nothing may be
    /// heard of it is the description's to say ([`Feedback`](sinew_core::Feedback)).
    pub transient_s: f64,
}

impl Default for SessionConfig {
    fn default() -> Self {
        Self {
            inference: Inference::default(),
            latency: Latency::default(),
            starvation: Starvation::default(),
            answer_deadline_s: None,
            warm_up_deadline_s: 300.0,
            control_multiplier: 1,
            interpolation: Interpolation::default(),
            start_within: 0.35,
            realtime: RealtimeRequest::default(),
            keep: Keep::default(),
            return_to_rest: ReturnToRest::default(),
            rest_velocity_per_s: 0.8,
            settle_s: 1.0,
            frame_buffer: 64,
            needs_images: true,
            transient_s: 0.2,
        }
    }
}
