//! The boxes that tools must stay in.

use nalgebra::Isometry3;

use super::channel::ChannelGate;
use super::motion::Motion;
use crate::{ChannelSource, Part, RobotDescription, Workspace};

/// What rounding may add to a distance.
const ROUNDING_M: f64 = 1e-9;

/// A tool's workspace with the parts that lead to it, ready for forward kinematics without allocation.
#[derive(Clone, Debug)]
pub(super) struct WorkspaceGate {
    /// From the base to the tool: each part, and the channel of action that moves it.
    chain: Vec<(Part, Option<usize>)>,
    part_from_tool: Isometry3<f64>,
    workspace: Workspace,
}

impl WorkspaceGate {
    pub(super) fn all_of(robot: &RobotDescription) -> Vec<Self> {
        let channels = robot.action_channels();
        let gate = |tool: &crate::Tool| {
            let chain = robot.chain_to(robot.part_index(&tool.part)?);
            let channel = |part: usize| channels.iter().position(|channel| channel.source == ChannelSource::Part(part));
            let chain = chain.into_iter().map(|part| (robot.parts[part].clone(), channel(part))).collect();
            Some(Self { chain, part_from_tool: tool.part_from_tool.to_isometry(), workspace: tool.workspace? })
        };
        robot.tools.iter().filter_map(gate).collect()
    }

    /// How far outside the box the tool is, metres, with channel `i` at `value(i)`; 0 inside.
    fn outside_m(&self, value: impl Fn(usize) -> f64) -> f64 {
        let link = self.chain.iter().fold(Isometry3::identity(), |pose, (part, channel)| {
            pose * part.parent_from_part.to_isometry() * part.motion(channel.map_or(0.0, &value))
        });
        let tool = (link * self.part_from_tool).translation.vector;
        let Workspace { min_m, max_m } = &self.workspace;
        (0..3).map(|i| (min_m[i] - tool[i]).max(tool[i] - max_m[i])).fold(0.0, f64::max)
    }

    /// Makes those of `proposed` brake that would take the tool out of its box, or further out, now or when
    /// they stop from there; says whether any had to. Others go on, so that a tool slides along its wall.
    pub(super) fn keep_inside(&self, channels: &[ChannelGate], proposed: &mut [Motion], braking: &mut [Motion], dt_s: f64) -> bool {
        let most_m = self.outside_m(|i| channels[i].last_position()) + ROUNDING_M;
        let keeps = |motions: &[Motion]| {
            self.outside_m(|i| motions[i].position) <= most_m && self.outside_m(|i| channels[i].stop_from(&motions[i], dt_s)) <= most_m
        };
        let moving = |channel: &Option<usize>| channel.filter(|i| channels[*i].is_position());
        if keeps(proposed) {
            return false;
        }
        braking.copy_from_slice(proposed);
        for i in self.chain.iter().filter_map(|(_, channel)| moving(channel)) {
            braking[i] = channels[i].braking(dt_s);
        }
        // One after the other gets its wish back, where that keeps the tool inside: the nearest to the tool
        // first, as it moves it least.
        for i in self.chain.iter().rev().filter_map(|(_, channel)| moving(channel)) {
            let brake = std::mem::replace(&mut braking[i], proposed[i]);
            if !keeps(braking) {
                braking[i] = brake;
            }
        }
        if self.outside_m(|i| braking[i].position) > most_m {
            for i in self.chain.iter().filter_map(|(_, channel)| moving(channel)) {
                braking[i] = Motion::resting_at(channels[i].last_position());
            }
        }
        proposed.copy_from_slice(braking);
        true
    }
}
