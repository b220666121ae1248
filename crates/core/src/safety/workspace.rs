//! The boxes that tools must stay in.

use nalgebra::Isometry3;

use super::channel::ChannelGate;
use super::motion::Motion;
use crate::{Channel, ChannelSource, Observation, Part, RobotDescription, Tool, Workspace};

/// What rounding may add to a distance.
const ROUNDING_M: f64 = 1e-9;

/// Where on its way to a stop a tool is looked at.
const WAY: [f64; 3] = [0.0, 0.5, 1.0];

/// What a channel may have of its wish, the most first.
const SHARES: [f64; 4] = [1.0, 0.5, 0.25, 0.125];

/// What rounding may add to a position.
const ROUNDING: f64 = 1e-12;

/// The motion that goes `share` of the way from `brake` to `wish`. Both are motions from the same one, so what holds
/// for both holds for it.
fn between(brake: &Motion, wish: &Motion, share: f64) -> Motion {
    if share == 1.0 {
        return *wish;
    }
    let part = |from: f64, to: f64| from + share * (to - from);
    Motion {
        position: part(brake.position, wish.position),
        velocity: part(brake.velocity, wish.velocity),
        acceleration: part(brake.acceleration, wish.acceleration),
        ..*wish
    }
}

/// A tool's workspace with the parts that lead to it, ready for forward kinematics without allocation.
#[derive(Clone, Debug)]
pub(super) struct WorkspaceGate {
    /// From the base to the tool.
    chain: Vec<Carrier>,
    part_from_tool: Isometry3<f64>,
    workspace: Workspace,
}

/// A part that carries a tool.
#[derive(Clone, Debug)]
struct Carrier {
    part: Part,
    /// The channel of action that moves it.
    channel: Option<usize>,
    /// Where it is, of a part that nobody moves, and the channel of state that says so.
    state: Option<usize>,
    measured: f64,
}

impl WorkspaceGate {
    pub(super) fn all_of(robot: &RobotDescription) -> Vec<Self> {
        let (actions, states) = (robot.action_channels(), robot.state_channels());
        let carrier = |i: usize| {
            let of = |channels: &[Channel]| channels.iter().position(|channel| channel.source == ChannelSource::Part(i));
            let part = robot.parts[i].clone();
            Carrier { channel: of(&actions), state: of(&states), measured: part.rest.unwrap_or(0.0), part }
        };
        let gate = |tool: &Tool| {
            let chain = robot.chain_to(robot.part_index(&tool.part)?).into_iter().map(carrier).collect();
            Some(Self { chain, part_from_tool: tool.part_from_tool.to_isometry(), workspace: tool.workspace? })
        };
        robot.tools.iter().filter_map(gate).collect()
    }

    /// Takes in where the parts are that nobody moves.
    pub(super) fn feel(&mut self, observed: &Observation) {
        for Carrier { state, measured, .. } in self.chain.iter_mut().filter(|carrier| carrier.channel.is_none()) {
            *measured = state.and_then(|state| observed.state.get(state)).unwrap_or(*measured);
        }
    }

    /// How far outside the box the tool is, metres, with channel `i` at `value(i)`; 0 inside.
    fn outside_m(&self, value: impl Fn(usize) -> f64) -> f64 {
        let link = self.chain.iter().fold(Isometry3::identity(), |pose, Carrier { part, channel, measured, .. }| {
            pose * part.parent_from_part.to_isometry() * part.motion(channel.map_or(*measured, &value))
        });
        let tool = (link * self.part_from_tool).translation.vector;
        let Workspace { min_m, max_m } = &self.workspace;
        (0..3).map(|i| (min_m[i] - tool[i]).max(tool[i] - max_m[i])).fold(0.0, f64::max)
    }

    /// Makes those of `proposed` brake that would take the tool out of its box, or further out, now or on
    /// their way to a stop from there; says whether any had to. Others go on, so that a tool slides along its wall.
    pub(super) fn keep_inside(&self, channels: &[ChannelGate], proposed: &mut [Motion], braking: &mut [Motion], dt_s: f64) -> bool {
        let most_m = self.outside_m(|i| channels[i].last_position()) + ROUNDING_M;
        let keeps = |motions: &[Motion]| {
            let on_the_way = |share: f64| {
                self.outside_m(|i| {
                    let position = motions[i].position;
                    position + share * (channels[i].stop_from(&motions[i]) - position)
                })
            };
            WAY.into_iter().all(|share| on_the_way(share) <= most_m)
        };
        if keeps(proposed) {
            return false;
        }
        braking.copy_from_slice(proposed);
        let moving = || self.chain.iter().filter_map(|carrier| carrier.channel);
        for i in moving() {
            braking[i] = channels[i].braking(dt_s);
        }
        // One after the other gets its wish back, or a share of it, where that keeps the tool inside: the nearest
        // to the tool first, as it moves it least. What one gives way, another may take.
        let mut is_changed = true;
        while is_changed {
            is_changed = false;
            for i in self.chain.iter().rev().filter_map(|carrier| carrier.channel) {
                let (brake, wish, had) = (channels[i].braking(dt_s), proposed[i], braking[i]);
                let nearer = |motion: &Motion| (motion.position - wish.position).abs() < (had.position - wish.position).abs() - ROUNDING;
                for share in SHARES {
                    let motion = between(&brake, &wish, share);
                    if !nearer(&motion) {
                        break;
                    }
                    braking[i] = motion;
                    if keeps(braking) {
                        is_changed = true;
                        break;
                    }
                    braking[i] = had;
                }
            }
        }
        // Joints that brake don't do so in step. Where even that leads out, the box outranks a smooth stop.
        if self.outside_m(|i| braking[i].position) > most_m {
            for i in self.chain.iter().filter_map(|carrier| carrier.channel) {
                braking[i] = Motion::resting_at(channels[i].last_position());
            }
        }
        proposed.copy_from_slice(braking);
        true
    }
}
