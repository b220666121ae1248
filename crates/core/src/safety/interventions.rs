//! What the gate changed, counted.

use serde::Serialize;

/// Which limit changed a channel's goal.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum LimitKind {
    NonFinite,
    Unknown,
    Stale,
    Position,
    Velocity,
    Acceleration,
    Jerk,
    Step,
    Effort,
    Temperature,
    Torque,
}

/// How many channels each limit held back in one tick (or, summed, in an episode). A channel counts once
/// a tick, for the first limit that acted.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Interventions {
    /// The wanted goal was no finite number.
    pub non_finite: u32,
    /// Where the part is was not known; the robot braked.
    pub unknown: u32,
    /// It was wanted too long ago.
    pub stale: u32,
    /// It was outside the position limits, or too fast towards one to stop before it.
    pub position: u32,
    pub velocity: u32,
    pub acceleration: u32,
    pub jerk: u32,
    /// It was too far from the present position.
    pub step: u32,
    /// The part pushed harder than its ceiling, and was led back.
    pub effort: u32,
    /// The motor was hotter than its ceiling.
    pub temperature: u32,
    /// More torque, stiffness or damping was wanted than is allowed.
    pub torque: u32,
    /// Ticks (not channels) in which the tool would have left the workspace.
    pub workspace: u32,
}

impl Interventions {
    /// Each kind by its name.
    pub fn by_kind(&self) -> [(&'static str, u32); 12] {
        [
            ("non_finite", self.non_finite),
            ("unknown", self.unknown),
            ("stale", self.stale),
            ("position", self.position),
            ("velocity", self.velocity),
            ("acceleration", self.acceleration),
            ("jerk", self.jerk),
            ("step", self.step),
            ("effort", self.effort),
            ("temperature", self.temperature),
            ("torque", self.torque),
            ("workspace", self.workspace),
        ]
    }

    pub fn total(&self) -> u32 {
        self.by_kind().iter().map(|(_, count)| count).sum()
    }

    pub(super) fn count(&mut self, kind: LimitKind) {
        *match kind {
            LimitKind::NonFinite => &mut self.non_finite,
            LimitKind::Unknown => &mut self.unknown,
            LimitKind::Stale => &mut self.stale,
            LimitKind::Position => &mut self.position,
            LimitKind::Velocity => &mut self.velocity,
            LimitKind::Acceleration => &mut self.acceleration,
            LimitKind::Jerk => &mut self.jerk,
            LimitKind::Step => &mut self.step,
            LimitKind::Effort => &mut self.effort,
            LimitKind::Temperature => &mut self.temperature,
            LimitKind::Torque => &mut self.torque,
        } += 1;
    }
}

impl std::ops::AddAssign for Interventions {
    fn add_assign(&mut self, rhs: Self) {
        self.non_finite += rhs.non_finite;
        self.unknown += rhs.unknown;
        self.stale += rhs.stale;
        self.position += rhs.position;
        self.velocity += rhs.velocity;
        self.acceleration += rhs.acceleration;
        self.jerk += rhs.jerk;
        self.step += rhs.step;
        self.effort += rhs.effort;
        self.temperature += rhs.temperature;
        self.torque += rhs.torque;
        self.workspace += rhs.workspace;
    }
}
