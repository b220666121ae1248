//! Where a trajectory wants a robot to be at each moment.

use sinew_core::service::{ChannelInfo, State, Unit};

use super::JointTrajectory;

/// More points, and longer ones, are no trajectory.
const MOST_POINTS: usize = 10_000;
const LONGEST_S: f64 = 600.0;

/// A trajectory that fits a robot.
#[derive(Clone, Debug)]
pub(super) struct Course {
    /// The goals of the channels that it does not name, and where the others begin.
    from: Vec<f64>,
    /// The channel of each joint.
    joints: Vec<usize>,
    /// Seconds from the beginning on, and where the joints are then.
    points: Vec<(f64, Vec<f64>)>,
}

/// The joint of a channel: ROS names it without LeRobot's `.pos`.
pub(super) fn joint(channel: &ChannelInfo) -> Option<&str> {
    let name = channel.name.strip_suffix(".pos")?;
    matches!(channel.unit, Unit::Radian | Unit::Metre).then_some(name)
}

impl Course {
    /// # Errors
    /// Why the trajectory is none for this robot, in words.
    pub fn of(trajectory: &JointTrajectory, action: &[ChannelInfo], state: &[ChannelInfo], now: &State) -> Result<Self, String> {
        let place = |name: &String| {
            let at = action.iter().position(|channel| joint(channel) == Some(name));
            at.ok_or_else(|| {
                let known: Vec<&str> = action.iter().filter_map(joint).collect();
                format!("there is no joint {name:?}; expected some of {}", known.join(", "))
            })
        };
        let joints = trajectory.joint_names.iter().map(place).collect::<Result<Vec<_>, _>>()?;
        let mut named = joints.iter().zip(&trajectory.joint_names).enumerate();
        if let Some((_, (_, name))) = named.find(|(i, (at, _))| joints[..*i].contains(at)) {
            return Err(format!("the joint {name:?} is there twice"));
        }
        if trajectory.points.len() > MOST_POINTS {
            return Err(format!("found {} points, expected at most {MOST_POINTS}", trajectory.points.len()));
        }
        let (mut points, mut last) = (Vec::new(), 0.0);
        for (i, point) in trajectory.points.iter().enumerate() {
            let time = f64::from(point.time_from_start.sec) + f64::from(point.time_from_start.nanosec) * 1e-9;
            if !(last..=LONGEST_S).contains(&time) || point.time_from_start.nanosec >= 1_000_000_000 {
                return Err(format!("point {i} is at {time} s, expected {last} to {LONGEST_S} s"));
            }
            if point.positions.len() != joints.len() || point.positions.iter().any(|position| !position.is_finite()) {
                return Err(format!("point {i} has {} positions, expected {} finite ones", point.positions.len(), joints.len()));
            }
            last = time;
            points.push((time, point.positions.clone()));
        }
        // Where it was sent last, else where it is.
        let from = if now.goal.len() == action.len() {
            now.goal.clone()
        } else {
            let where_is = |channel: &ChannelInfo| {
                // What has a speed stands.
                let Some(name) = joint(channel) else { return Some(0.0) };
                let at = state.iter().position(|other| joint(other) == Some(name))?;
                now.position.get(at).copied().flatten()
            };
            action.iter().map(where_is).collect::<Option<Vec<_>>>().ok_or("it is not known where all joints are")?
        };
        let from = from.into_iter().zip(action).map(|(goal, channel)| if joint(channel).is_some() { goal } else { 0.0 }).collect();
        Ok(Self { from, joints, points })
    }

    /// Whether it says nothing: then what ran ends.
    pub fn is_empty(&self) -> bool {
        self.points.is_empty() || self.joints.is_empty()
    }

    /// How long it takes.
    pub fn seconds(&self) -> f64 {
        self.points.last().map_or(0.0, |(time, _)| *time)
    }

    /// Where the robot is to be so many seconds after the beginning; and whether that is the end.
    pub fn goals(&self, seconds: f64) -> (Vec<f64>, bool) {
        let mut goals = self.from.clone();
        let next = self.points.iter().position(|(time, _)| *time > seconds);
        let Some((last, is_over)) = next.map(|next| (next, false)).or(self.points.len().checked_sub(1).map(|last| (last, true))) else {
            return (goals, true);
        };
        let (end_s, end) = &self.points[last];
        for (i, channel) in self.joints.iter().enumerate() {
            let (begin_s, begin) = match last.checked_sub(1) {
                Some(before) => (self.points[before].0, self.points[before].1[i]),
                None => (0.0, self.from[*channel]),
            };
            let share = if is_over || *end_s <= begin_s { 1.0 } else { ((seconds - begin_s) / (end_s - begin_s)).clamp(0.0, 1.0) };
            goals[*channel] = begin * (1.0 - share) + end[i] * share;
        }
        (goals, is_over)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ros2::{JointTrajectoryPoint, Stamp};

    fn channel(name: &str, unit: Unit) -> ChannelInfo {
        ChannelInfo { name: name.into(), unit, lower: None, upper: None, scale: 57.3, offset: 0.0 }
    }

    fn trajectory(names: &[&str], points: &[(i32, u32, &[f64])]) -> JointTrajectory {
        let point = |(sec, nanosec, positions): &(i32, u32, &[f64])| JointTrajectoryPoint {
            positions: positions.to_vec(),
            time_from_start: Stamp { sec: *sec, nanosec: *nanosec },
            ..JointTrajectoryPoint::default()
        };
        JointTrajectory {
            joint_names: names.iter().map(|name| (*name).to_owned()).collect(),
            points: points.iter().map(point).collect(),
            ..JointTrajectory::default()
        }
    }

    #[test]
    fn joints_go_from_point_to_point_and_the_others_stay() {
        let action = [channel("a.pos", Unit::Radian), channel("b.pos", Unit::Radian), channel("x.vel", Unit::MetrePerSecond)];
        let state = [channel("b.pos", Unit::Radian), channel("a.pos", Unit::Radian)];
        let mut now = State { position: vec![Some(0.2), Some(0.1)], ..State::default() };
        let two = trajectory(&["b"], &[(1, 0, &[1.2]), (1, 500_000_000, &[0.2])]);
        let course = Course::of(&two, &action, &state, &now).unwrap();
        assert_eq!(course.goals(0.0), (vec![0.1, 0.2, 0.0], false));
        assert_eq!(course.goals(0.5), (vec![0.1, 0.7, 0.0], false));
        assert_eq!(course.goals(1.25), (vec![0.1, 0.7, 0.0], false));
        assert_eq!(course.goals(1.5), (vec![0.1, 0.2, 0.0], true));
        assert_eq!(course.goals(99.0), (vec![0.1, 0.2, 0.0], true));
        // It goes on from what was wanted; a base does not go on by itself.
        now.goal = vec![0.3, 0.4, 0.5];
        assert_eq!(Course::of(&two, &action, &state, &now).unwrap().goals(0.0).0, [0.3, 0.4, 0.0]);
        assert!(Course::of(&trajectory(&["b"], &[]), &action, &state, &now).unwrap().is_empty());
        now.goal.clear();
        now.position[0] = None;
        assert!(Course::of(&two, &action, &state, &now).unwrap_err().contains("not known where"));
        let refused =
            |names: &[&str], points: &[(i32, u32, &[f64])]| Course::of(&trajectory(names, points), &action, &state, &now).unwrap_err();
        assert!(refused(&["c"], &[]).contains("there is no joint \"c\"; expected some of a, b"));
        assert!(refused(&["x"], &[]).contains("there is no joint"));
        assert!(refused(&["a", "a"], &[]).contains("\"a\" is there twice"));
        assert!(refused(&["a"], &[(0, 0, &[f64::NAN])]).contains("finite"));
        assert!(refused(&["a"], &[(0, 0, &[])]).contains("0 positions, expected 1"));
        assert!(refused(&["a"], &[(2, 0, &[0.0]), (1, 0, &[0.0])]).contains("point 1 is at 1 s, expected 2"));
        assert!(refused(&["a"], &[(-1, 0, &[0.0])]).contains("point 0 is at -1 s"));
        assert!(refused(&["a"], &[(601, 0, &[0.0])]).contains("601"));
    }
}
