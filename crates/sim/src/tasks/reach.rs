//! Touch a marker in the air with the finger tips.

use fastrand::Rng;
use sinew_core::{RobotDescription, Teleoperator};

use super::scenery::{Region, between, marker, place, scene, within_reach};
use super::{TARGET, Task};
use crate::error::SimError;
use crate::scene::{Scene, rest_pose};
use crate::seen::Seen;
use crate::shared::SharedWorld;
use crate::teleop::{self, Reacher};

pub(super) struct Reach;

const MARKERS: Region = Region { x_m: [0.16, 0.28], y_m: [-0.12, 0.12] };
/// How near the tool must come.
const TOUCH_M: f64 = 0.015;

const INSTRUCTION: &str = "Touch the green marker with the gripper.";

impl Task for Reach {
    fn name(&self) -> &'static str {
        "reach"
    }

    fn summary(&self) -> &'static str {
        "touch a marker in the air with the finger tips"
    }

    fn max_ticks(&self) -> u64 {
        180
    }

    fn scene(&self, robot: &RobotDescription, seed: u64, rng: &mut Rng) -> Result<(Scene, String), SimError> {
        let rest = robot.base_from_tool(0, &rest_pose(robot)).translation.vector;
        let at = place(self.name(), seed, || {
            let at = MARKERS.point(rng);
            let at = within_reach(robot, &at).then(|| at.push(between(rng, 0.03, 0.09)))?;
            ((at - rest).norm() > 0.06).then_some(at)
        })?;
        let props = vec![marker(rng, at)];
        Ok((scene(robot, rng, props), INSTRUCTION.into()))
    }

    fn instructions(&self) -> Vec<String> {
        vec![INSTRUCTION.to_owned()]
    }

    fn is_done(&self, world: &Seen) -> bool {
        let marker = world.world_from_props[TARGET].translation.vector;
        (world.world_from_tool().translation.vector - marker).norm() < TOUCH_M
    }

    fn failure(&self, _world: &Seen) -> Option<String> {
        None
    }

    fn teleoperator(&self, world: SharedWorld, seed: u64) -> Box<dyn Teleoperator> {
        teleop::scripted(world, seed, Reacher)
    }
}
