//! From a leader's positions to a follower's goals.

use sinew_core::{Channel, Observation, Retarget, RobotDescription, TeleoperatorError, Wanted};
use thiserror::Error;

/// A leader and a follower that do not fit each other.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum RetargetError {
    #[error(
        "joining {leader} and {follower}: expected the same features of both, found {leads} of the leader and {follows} of the follower"
    )]
    Names { leader: String, follower: String, leads: String, follows: String },
    #[error(
        "joining {leader} and {follower}: expected the same unit of {feature} in both, found {leads} of the leader and {follows} of the follower"
    )]
    Unit { leader: String, follower: String, feature: String, leads: &'static str, follows: &'static str },
}

/// One channel of the follower.
#[derive(Clone, Copy, Debug, PartialEq)]
struct Way {
    from: usize,
    /// follower SI = scale · leader SI + offset.
    scale: f64,
    offset: f64,
}

/// What a leader's features are for a follower: each goal has the value, in the dataset's unit, of the leader's feature of
/// the same name, in whatever order. So both arms have their whole ranges, however they are built, and a recorded action is
/// what LeRobot records.
#[derive(Clone, Debug, PartialEq)]
pub struct ByFeature {
    width: usize,
    ways: Vec<Way>,
}

impl ByFeature {
    /// From the state of `leader` to the action of `follower`.
    ///
    /// # Errors
    /// When a feature of one is not one of the other, or has another unit there.
    pub fn new(leader: &RobotDescription, follower: &RobotDescription) -> Result<Self, RetargetError> {
        let (leads, follows) = (leader.state_channels(), follower.action_channels());
        let names = || (leader.name.clone(), follower.name.clone());
        let is_in = |channel: &Channel, others: &[Channel]| others.iter().filter(|other| other.name == channel.name).count() == 1;
        if leads.len() != follows.len() || follows.iter().any(|channel| !is_in(channel, &leads) || !is_in(channel, &follows)) {
            let list = |channels: &[Channel]| channels.iter().map(|channel| channel.name.as_str()).collect::<Vec<_>>().join(", ");
            let (leader, follower) = names();
            return Err(RetargetError::Names { leader, follower, leads: list(&leads), follows: list(&follows) });
        }
        let mut ways = Vec::new();
        for to in &follows {
            let Some((from, lead)) = leads.iter().enumerate().find(|(_, lead)| lead.name == to.name) else { continue };
            let (leads, follows) = (unit(leader, lead), unit(follower, to));
            if leads != follows {
                let (leader, follower) = names();
                return Err(RetargetError::Unit { leader, follower, feature: to.name.clone(), leads, follows });
            }
            let ((scale, offset), (to_scale, to_offset)) = (lead.scale_offset, to.scale_offset);
            ways.push(Way { from, scale: scale / to_scale, offset: (offset - to_offset) / to_scale });
        }
        Ok(Self { width: leads.len(), ways })
    }
}

/// How a channel is written in datasets.
fn unit(robot: &RobotDescription, channel: &Channel) -> &'static str {
    use sinew_core::{BaseUnit, ChannelSource, DatasetUnit};
    match channel.source {
        ChannelSource::Part(i) => match robot.parts.get(i).map(|part| part.unit) {
            Some(DatasetUnit::Degrees) => "degrees",
            Some(DatasetUnit::Range0To100) => "0..100",
            Some(DatasetUnit::RangeM100To100) => "-100..100",
            Some(DatasetUnit::Si) | None => "SI",
        },
        ChannelSource::Base(_) => match robot.base.as_ref().map(|base| base.unit) {
            Some(BaseUnit::Degrees) => "m/s and degrees a second",
            Some(BaseUnit::Share) => "shares of the velocity limits",
            Some(BaseUnit::Si) | None => "SI",
        },
        ChannelSource::Sensor(..) => "a sensor's own",
    }
}

impl Retarget for ByFeature {
    fn action_width(&self) -> usize {
        self.width
    }

    fn retarget(&mut self, action: &[f64], _: &Observation, wanted: &mut Wanted) -> Result<(), TeleoperatorError> {
        for (goal, Way { from, scale, offset }) in wanted.goals.iter_mut().zip(&self.ways) {
            *goal = action[*from] * scale + offset;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn robot(role: &str, parts: &[(&str, &str, &str)]) -> RobotDescription {
        let mut text = format!(
            "schema = 2\nname = \"{role}\"\ntitle = \"{role}\"\ncontrol_rate_hz = 30\n{}lerobot = {{ class = \"one\" }}\nstop = {{ behaviour = \
             \"hold\" }}\n",
            if role == "leader" { "role = \"teleoperator\"\n" } else { "" }
        );
        for (name, unit, range) in parts {
            text += &format!("[[part]]\nname = \"{name}\"\nunit = \"{unit}\"\nrange = {range}\n");
            if role == "follower" {
                text += "command = \"position\"\nlimits = { position = [-4.0, 4.0], velocity = 3.0, step = 0.35 }\n";
            }
        }
        RobotDescription::from_toml(role, &text).unwrap()
    }

    #[test]
    fn goals_are_what_the_leader_is_in_the_units_of_datasets() {
        let leader = robot("leader", &[("gripper", "range_0_100", "[0.0, 0.5]"), ("elbow", "degrees", "[-1.0, 1.0]")]);
        let follower = robot("follower", &[("elbow", "degrees", "[-2.0, 2.0]"), ("gripper", "range_0_100", "[-0.2, 1.8]")]);
        let mut way = ByFeature::new(&leader, &follower).unwrap();
        assert_eq!(way.action_width(), 2);
        let mut wanted = Wanted::for_robot(&follower);
        way.retarget(&[0.125, 0.7], &Observation::for_robot(&follower), &mut wanted).unwrap();
        // A quarter of the way, and the same degrees.
        assert!((wanted.goals[0] - 0.7).abs() < 1e-12 && (wanted.goals[1] - 0.3).abs() < 1e-12, "{:?}", wanted.goals);
    }

    #[test]
    fn what_does_not_fit_is_refused_with_both_sides() {
        type Parts<'a> = &'a [(&'a str, &'a str, &'a str)];
        let says = |leads: Parts<'_>, follows: Parts<'_>| {
            ByFeature::new(&robot("leader", leads), &robot("follower", follows)).unwrap_err().to_string()
        };
        let error = says(&[("elbow", "degrees", "[-1.0, 1.0]")], &[("elbow", "range_m100_100", "[-1.0, 1.0]")]);
        assert!(error.ends_with("unit of elbow.pos in both, found degrees of the leader and -100..100 of the follower"), "{error}");
        let (elbow, wrist) = (("elbow", "degrees", "[-1.0, 1.0]"), ("wrist", "degrees", "[-1.0, 1.0]"));
        let error = says(&[elbow, wrist], &[elbow]);
        assert!(error.ends_with("found elbow.pos, wrist.pos of the leader and elbow.pos of the follower"), "{error}");
        let error = says(&[wrist], &[elbow]);
        assert!(error.ends_with("found wrist.pos of the leader and elbow.pos of the follower"), "{error}");
    }
}
