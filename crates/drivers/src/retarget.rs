//! From a leader's positions to a follower's goals.

use nalgebra::{Isometry3, Vector3};
use sinew_core::{
    Channel, ChannelSource, DatasetUnit, Observation, Part, PartKind, Pose, Retarget, RobotDescription, TeleoperatorError, Wanted,
};
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
    #[error("mirroring {follower}: expected a mirror image of {feature}, found {found}")]
    Mirror { follower: String, feature: String, found: String },
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

/// The way back of a [`ByFeature`]: where a leader would be for what the follower is sent.
#[derive(Clone, Debug, PartialEq)]
pub struct Back {
    ways: Vec<Way>,
}

impl Back {
    /// How many channels the leader has.
    pub fn width(&self) -> usize {
        self.ways.len()
    }

    /// Puts where the leader would be into `leader`, a value a channel of its state, for `sent`, a value a channel of the
    /// follower's action; both in SI.
    pub fn leader(&self, sent: &[f64], leader: &mut [f64]) {
        for (goal, Way { from, scale, offset }) in sent.iter().zip(&self.ways) {
            if let Some(place) = leader.get_mut(*from) {
                *place = (goal - offset) / scale;
            }
        }
    }
}

impl ByFeature {
    pub fn back(&self) -> Back {
        Back { ways: self.ways.clone() }
    }

    /// As [`new`](Self::new), with the robot's left and right exchanged: each arm follows as if it saw the leader in a mirror
    /// between them. Of a robot with two arms the left one follows the leader's right one (names that begin with `left_`
    /// and `right_`), and the other way round; a single arm follows a single leader mirrored.
    ///
    /// Which joints turn the other way the follower's own geometry says: its x–z plane is the mirror, and at their zeros the
    /// joints' axes must stand in or across it. A part that a tool is named after (its gripper) opens as the leader's.
    ///
    /// # Errors
    /// As [`new`](Self::new); and when the follower's description doesn't say where its axes are, or one is no mirror image,
    /// or is written in a unit that has no negative values.
    pub fn mirrored(leader: &RobotDescription, follower: &RobotDescription) -> Result<Self, RetargetError> {
        let mut plain = Self::new(leader, follower)?;
        if follower.parts.iter().all(|part| part.parent_from_part == Pose::default()) {
            let found = "nothing of where its parts are".into();
            return Err(RetargetError::Mirror { follower: follower.name.clone(), feature: "its parts".into(), found });
        }
        let leads = leader.state_channels();
        let poses = follower.base_from_parts(&[]);
        let refuse =
            |feature: &str, found: String| RetargetError::Mirror { follower: follower.name.clone(), feature: feature.to_owned(), found };
        let mut ways = Vec::new();
        for to in follower.action_channels() {
            let other = match (to.name.strip_prefix("left_"), to.name.strip_prefix("right_")) {
                (Some(name), _) => format!("right_{name}"),
                (_, Some(name)) => format!("left_{name}"),
                _ => to.name.clone(),
            };
            let image = follower.action_channels().into_iter().find(|channel| channel.name == other);
            let lead = leads.iter().enumerate().find(|(_, lead)| lead.name == other);
            let (Some(image), Some((from, lead))) = (image, lead) else { return Err(refuse(&to.name, format!("no {other}"))) };
            let (ChannelSource::Part(part), ChannelSource::Part(image)) = (to.source, image.source) else {
                return Err(refuse(&to.name, "no joint".into()));
            };
            let (part, image) = ((&follower.parts[part], &poses[part]), (&follower.parts[image], &poses[image]));
            let is_gripper = follower.tools.iter().any(|tool| tool.name == part.0.name);
            let sign = if is_gripper {
                1.0
            } else {
                mirror_sign(part, image).ok_or_else(|| refuse(&to.name, "an axis that is not mirrored".into()))?
            };
            if sign < 0.0 && part.0.unit == DatasetUnit::Range0To100 {
                return Err(refuse(&to.name, "a unit of 0..100".into()));
            }
            let ((scale, offset), (to_scale, to_offset)) = (lead.scale_offset, to.scale_offset);
            ways.push(Way { from, scale: sign * scale / to_scale, offset: (sign * offset - to_offset) / to_scale });
        }
        plain.ways = ways;
        Ok(plain)
    }

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

/// How near to in or across the mirror's plane an axis must stand: the cosine of 10 degrees.
const IN_LINE: f64 = 0.985;

/// Whether a part turns as its mirror image does (1) or against it (−1), by the axes of both at zero in the base frame; `None`
/// where they are no mirror images. Something that turns is mirrored as its axis, but the other way round.
fn mirror_sign((part, pose): (&Part, &Isometry3<f64>), (image, image_pose): (&Part, &Isometry3<f64>)) -> Option<f64> {
    if part.kind != image.kind {
        return None;
    }
    let axis = pose.rotation * Vector3::from(part.axis);
    let seen = image_pose.rotation * Vector3::from(image.axis);
    let slides = part.kind == PartKind::Prismatic;
    let mirrored = if slides { Vector3::new(seen.x, -seen.y, seen.z) } else { Vector3::new(-seen.x, seen.y, -seen.z) };
    let cosine = axis.dot(&mirrored);
    (cosine.abs() >= IN_LINE).then(|| cosine.signum())
}

/// How a channel is written in datasets.
fn unit(robot: &RobotDescription, channel: &Channel) -> &'static str {
    use sinew_core::BaseUnit;
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

    /// A robot of robots/ by its name.
    fn known(name: &str) -> RobotDescription {
        let folder = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("../../robots");
        let read = |name: &str| std::fs::read_to_string(folder.join(name).join("robot.toml")).ok();
        RobotDescription::from_toml_with(name, &read(name).unwrap(), &read).unwrap()
    }

    #[test]
    fn a_mirror_exchanges_left_and_right_and_the_tools_are_mirror_images() {
        for (leader, follower) in [("bi_so_leader", "bi_so"), ("so101_leader", "so101"), ("bi_openarm_mini", "bi_openarm")] {
            let (leader, follower) = (known(leader), known(follower));
            let mut way = ByFeature::mirrored(&leader, &follower).unwrap();
            let mut plain = ByFeature::new(&leader, &follower).unwrap();
            let width = leader.state_channels().len();
            let moved: Vec<f64> = (0..width).map(|i| 0.05 * (i % 5) as f64 - 0.1).collect();
            let seen = Observation::for_robot(&follower);
            let (mut mirrored, mut straight) = (Wanted::for_robot(&follower), Wanted::for_robot(&follower));
            way.retarget(&moved, &seen, &mut mirrored).unwrap();
            plain.retarget(&moved, &seen, &mut straight).unwrap();
            // A joint at its zero stays, and what the mirror does twice is nothing.
            let back = way.back();
            let mut again = vec![f64::NAN; width];
            back.leader(&mirrored.goals, &mut again);
            assert!(again.iter().zip(&moved).all(|(a, b)| (a - b).abs() < 1e-9), "{again:?}");
            let values = |wanted: &Wanted| {
                let mut values = vec![0.0; follower.parts.len()];
                for (channel, goal) in follower.action_channels().iter().zip(&wanted.goals) {
                    if let ChannelSource::Part(part) = channel.source {
                        values[part] = *goal;
                    }
                }
                values
            };
            // Turns of the tools from zero are mirror images: what one does about x and z the other does the other way.
            let turn = |tool: usize, values: &[f64]| {
                let zero = follower.base_from_tool(tool, &vec![0.0; values.len()]);
                (follower.base_from_tool(tool, values).rotation * zero.rotation.inverse()).scaled_axis()
            };
            let tools = follower.tools.len();
            for tool in 0..tools {
                let theirs = turn(tools - 1 - tool, &values(&straight));
                let ours = turn(tool, &values(&mirrored));
                let image = Vector3::new(-theirs.x, theirs.y, -theirs.z);
                assert!((ours - image).norm() < 0.02, "{}: {ours} for {image}", follower.name);
            }
        }
        let (elbow, grip) = (("elbow", "degrees", "[-1.0, 1.0]"), ("grip", "degrees", "[-1.0, 1.0]"));
        let refused = ByFeature::mirrored(&robot("leader", &[elbow, grip]), &robot("follower", &[elbow, grip])).unwrap_err();
        assert_eq!(refused.to_string(), "mirroring follower: expected a mirror image of its parts, found nothing of where its parts are");
    }
}
