//! What is not heard of a robot at rest: a port that is gone, a motor that does not answer, a camera that shows nothing new.

use std::time::Duration;

use sinew_core::{Observation, RobotDescription, RobotError, Timestamp, Validity};
use sinew_drivers::camera::{CameraMonitor, CameraState};

use crate::rig::Rig;

/// For so long may nothing be heard before it is told.
const PATIENCE: Duration = Duration::from_secs(1);

/// So many pictures of a camera that gives few may be missed before.
const PERIODS: u64 = 3;

/// That something is not heard.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Complaint {
    /// Of whom: the same one is told once, however its words change.
    whom: String,
    pub what: String,
    pub is_of_camera: bool,
}

/// Since when something is not heard, and of whom it was told.
#[derive(Debug, Default)]
pub struct Silence {
    since: Option<Timestamp>,
    told: Option<String>,
}

impl Silence {
    /// Takes note of a look at `now`; what is to be told after it, where that is new: a complaint, or that there is none any more.
    pub fn hear(&mut self, now: Timestamp, complaint: Option<Complaint>) -> Option<Option<Complaint>> {
        let Some(complaint) = complaint else {
            self.since = None;
            return self.told.take().map(|_| None);
        };
        let since = *self.since.get_or_insert(now);
        // A camera's silence was measured already.
        if !complaint.is_of_camera && now.nanos_since(since) < PATIENCE.as_nanos() as i64 || self.told.as_ref() == Some(&complaint.whom) {
            return None;
        }
        self.told = Some(complaint.whom.clone());
        Some(Some(complaint))
    }
}

/// What is to be said of a look at a robot and its cameras.
pub fn of(answered: Result<(), RobotError>, observation: &Observation, rig: &Rig, robot: &RobotDescription) -> Option<Complaint> {
    let name = &robot.name;
    if let Err(error) = answered {
        return Some(Complaint { whom: String::new(), what: format!("{name} does not answer: {error}"), is_of_camera: false });
    }
    // What was never measured is not missed.
    let is_missed =
        |(name, reading): (String, &sinew_core::Reading)| (reading.validity == Validity::Missing && reading.time.is_some()).then_some(name);
    let missed: Vec<String> = robot.state_names().into_iter().zip(observation.state.readings()).filter_map(is_missed).collect();
    if !missed.is_empty() {
        let missed = missed.join(", ");
        return Some(Complaint { what: format!("{name}: nothing is heard of {missed}"), whom: missed, is_of_camera: false });
    }
    let health = rig.cameras.monitor.iter().flat_map(CameraMonitor::health);
    let patience = |name: &str| {
        let fps = robot.cameras.iter().find(|camera| camera.name == name).and_then(|camera| camera.fps);
        PATIENCE.max(Duration::from_secs(PERIODS) / fps.unwrap_or(robot.control_rate_hz).max(1))
    };
    let first = health.into_iter().find(|camera| camera.age.is_none_or(|age| age > patience(&camera.name)))?;
    let why = match first.state {
        CameraState::Lost { why } | CameraState::Over { why } => format!(": {why}"),
        CameraState::Opening | CameraState::Running => String::new(),
    };
    let what = format!("camera {} at {} shows nothing new{why}", first.name, first.source);
    Some(Complaint { whom: format!("camera {}", first.name), what, is_of_camera: true })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_silence_is_told_once_and_so_is_its_end() {
        let arm = |what: &str| Complaint { whom: "arm".into(), what: what.into(), is_of_camera: false };
        let at = |ms: i64| Timestamp::from_nanos(ms * 1_000_000);
        let mut silence = Silence::default();
        assert_eq!(silence.hear(at(0), None), None);
        assert_eq!(silence.hear(at(100), Some(arm("gone"))), None);
        assert_eq!(silence.hear(at(900), None), None, "one look without an answer is none");
        assert_eq!(silence.hear(at(1000), Some(arm("gone"))), None);
        assert_eq!(silence.hear(at(2000), Some(arm("gone for 1000 ms"))), Some(Some(arm("gone for 1000 ms"))));
        assert_eq!(silence.hear(at(2100), Some(arm("gone for 1100 ms"))), None);
        assert_eq!(silence.hear(at(2200), None), Some(None));
        assert_eq!(silence.hear(at(2300), None), None);
        let camera = Complaint { whom: "camera".into(), what: "blind".into(), is_of_camera: true };
        assert_eq!(silence.hear(at(2400), Some(camera.clone())), Some(Some(camera)));
    }
}
