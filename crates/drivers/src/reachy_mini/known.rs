//! What the daemon says, as its newest values with the times at which they came.

use serde::Deserialize;
use sinew_core::Timestamp;

use super::pose::{self, Matrix};

/// Messages of `/ws/sdk` that matter here (`reachy_mini/io/protocol.py` of the package `reachy_mini` 1.13.0).
#[derive(Deserialize)]
#[serde(tag = "type", rename_all = "snake_case")]
enum Message {
    JointPositions {
        /// The body's yaw and the six legs, rad.
        head_joint_positions: [f64; 7],
        /// Right, left, rad.
        antennas_joint_positions: [f64; 2],
    },
    HeadPose {
        head_pose: Matrix,
    },
    ImuData {
        /// m/s².
        accelerometer: [f64; 3],
        /// rad/s.
        gyroscope: [f64; 3],
    },
    DaemonStatus {
        state: String,
        #[serde(default)]
        backend_status: Option<BackendStatus>,
    },
    #[serde(other)]
    Other,
}

#[derive(Deserialize)]
struct BackendStatus {
    #[serde(default)]
    motor_control_mode: Option<String>,
}

/// No joint turns further, antennas that were wound up included.
const FURTHEST_RAD: f64 = 100.0;
/// No accelerometer and no gyroscope measures more, in m/s² and rad/s.
const MOST_OF_IMU: f64 = 1e3;

/// Values and when they came.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct Heard<T> {
    pub value: T,
    pub time: Option<Timestamp>,
}

impl<T: Default> Default for Heard<T> {
    fn default() -> Self {
        Self { value: T::default(), time: None }
    }
}

impl<T> Heard<T> {
    fn hear(&mut self, value: T, now: Timestamp) {
        *self = Self { value, time: Some(now) };
    }

    /// The value, where it came after `since`.
    pub fn since(&self, since: Timestamp) -> Option<&T> {
        self.time.filter(|time| *time >= since).map(|_| &self.value)
    }
}

/// What is known of the robot.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Known {
    /// The body's yaw and the six legs.
    pub joints: Heard<[f64; 7]>,
    /// Right, left.
    pub antennas: Heard<[f64; 2]>,
    /// x, y, z, roll, pitch, yaw in the frame of the base.
    pub head: Heard<[f64; 6]>,
    /// Acceleration, turning.
    pub imu: Heard<[f64; 6]>,
    /// Whether the motors have torque and go where they are told to.
    pub is_enabled: Heard<bool>,
    /// When this connection came about.
    pub since: Option<Timestamp>,
    /// The greatest number in a ping that was answered.
    pub pong: u64,
    /// Messages that nothing could be made of.
    pub malformed: u64,
}

impl Known {
    /// Another connection: what was heard before is of another time, and so are its pings.
    pub fn begin(&mut self, now: Timestamp) {
        *self = Self { since: Some(now), malformed: self.malformed, ..Self::default() };
    }

    /// Whether all that moves was heard.
    pub fn is_complete(&self) -> bool {
        self.missing().is_none()
    }

    /// What of all that moves was not heard.
    pub fn missing(&self) -> Option<&'static str> {
        match (self.joints.time.and(self.antennas.time), self.head.time) {
            (Some(_), Some(_)) => None,
            (None, Some(_)) => Some("joints"),
            (Some(_), None) => Some("head pose"),
            (None, None) => Some("joints and head pose"),
        }
    }

    /// Takes a message. One that makes no sense is counted, and what is known grows old.
    pub fn hear(&mut self, text: &str, now: Timestamp) {
        let fine = match serde_json::from_str(text) {
            Ok(Message::JointPositions { head_joint_positions, antennas_joint_positions }) => {
                let fine = head_joint_positions.iter().chain(&antennas_joint_positions).all(|value| value.abs() <= FURTHEST_RAD);
                if fine {
                    self.joints.hear(head_joint_positions, now);
                    self.antennas.hear(antennas_joint_positions, now);
                }
                fine
            }
            Ok(Message::HeadPose { head_pose }) => {
                let pose = pose::coordinates(&head_pose);
                pose.into_iter().for_each(|pose| self.head.hear(pose, now));
                pose.is_some()
            }
            Ok(Message::ImuData { accelerometer: [ax, ay, az], gyroscope: [gx, gy, gz] }) => {
                let values = [ax, ay, az, gx, gy, gz];
                let fine = values.iter().all(|value| value.abs() <= MOST_OF_IMU);
                if fine {
                    self.imu.hear(values, now);
                }
                fine
            }
            Ok(Message::DaemonStatus { state, backend_status }) => {
                // A daemon that says nothing of its motors leaves open what they do.
                let mode = backend_status.and_then(|status| status.motor_control_mode);
                match mode {
                    Some(mode) => self.is_enabled.hear(state == "running" && mode == "enabled", now),
                    None if state != "running" => self.is_enabled.hear(false, now),
                    None => {}
                }
                true
            }
            Ok(Message::Other) => true,
            Err(_) => false,
        };
        self.malformed += u64::from(!fine);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(ms: i64) -> Timestamp {
        Timestamp::from_nanos(ms * 1_000_000)
    }

    #[test]
    fn the_daemons_own_messages_are_understood() {
        let mut known = Known::default();
        known.begin(at(0));
        // As the mock-up of reachy_mini 1.13.0 sends them.
        known.hear(
            r#"{"type":"joint_positions","head_joint_positions":[0.2,0.5,-0.6,0.7,-0.6,0.7,-0.5],"antennas_joint_positions":[-3.05,3.05]}"#,
            at(5),
        );
        known.hear(r#"{"type":"head_pose","head_pose":[[1,0,0,0.01],[0,1,0,0],[0,0,1,0],[0,0,0,1]]}"#, at(6));
        let status = |mode: &str| {
            format!(
                r#"{{"type":"daemon_status","robot_name":"r","state":"running","backend_status":{{"motor_control_mode":"{mode}","error":null}}}}"#
            )
        };
        known.hear(&status("disabled"), at(7));
        assert_eq!((known.joints.value[0], known.antennas.value, known.joints.time), (0.2, [-3.05, 3.05], Some(at(5))));
        assert_eq!(known.head, Heard { value: [0.01, 0.0, 0.0, 0.0, 0.0, 0.0], time: Some(at(6)) });
        assert_eq!(known.is_enabled, Heard { value: false, time: Some(at(7)) });
        known.hear(&status("enabled"), at(8));
        assert!(known.is_enabled.value && known.malformed == 0);
    }

    #[test]
    fn what_makes_no_sense_is_counted_and_changes_nothing() {
        let mut known = Known::default();
        let bad = [
            "",
            "{}",
            "[]",
            "null",
            "{\"type\":7}",
            r#"{"type":"joint_positions"}"#,
            r#"{"type":"joint_positions","head_joint_positions":[1,2,3],"antennas_joint_positions":[0,0]}"#,
            r#"{"type":"joint_positions","head_joint_positions":[0,0,0,0,0,0,null],"antennas_joint_positions":[0,0]}"#,
            r#"{"type":"joint_positions","head_joint_positions":[0,0,0,0,0,0,1e999],"antennas_joint_positions":[0,0]}"#,
            r#"{"type":"joint_positions","head_joint_positions":[0,0,0,0,0,0,1e308],"antennas_joint_positions":[0,0]}"#,
            r#"{"type":"joint_positions","head_joint_positions":[0,0,0,0,0,0,0],"antennas_joint_positions":[0,-101]}"#,
            r#"{"type":"imu_data","accelerometer":[0,0,1e308],"gyroscope":[0,0,0]}"#,
            r#"{"type":"head_pose","head_pose":[[1,0,0,0],[0,2,0,0],[0,0,1,0],[0,0,0,1]]}"#,
            r#"{"type":"head_pose","head_pose":[[1,0,0,1e308],[0,1,0,0],[0,0,1,0],[0,0,0,1]]}"#,
            r#"{"type":"head_pose","head_pose":[[1,0,0],[0,1,0],[0,0,1]]}"#,
        ];
        for text in bad {
            known.hear(text, at(1));
        }
        known.hear(&"[".repeat(100_000), at(1));
        known.hear(r#"{"type":"task_progress","finished":true}"#, at(1));
        assert_eq!(known.malformed, bad.len() as u64 + 1);
        assert_eq!((known.joints.time, known.head.time, known.imu.time), (None, None, None));
        assert_eq!(known.missing(), Some("joints and head pose"));
    }
}
