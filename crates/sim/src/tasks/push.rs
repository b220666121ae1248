//! Push a cube onto a disc that is drawn on the table.

use fastrand::Rng;
use sinew_core::{RobotDescription, Teleoperator};

use super::scenery::{CUBE_PAINTS, Region, cube, disc, place, scene, within_reach};
use super::{GOAL, TARGET, Task, left_alone, lost_cube};
use crate::error::SimError;
use crate::scene::Scene;
use crate::seen::Seen;
use crate::shared::SharedWorld;
use crate::teleop::{self, Carrier};

pub(super) struct Push;

const CUBES: Region = Region { x_m: [0.16, 0.28], y_m: [-0.14, 0.02] };
const DISCS: Region = Region { x_m: [0.17, 0.26], y_m: [0.09, 0.15] };
const DISC_RADIUS_M: f64 = 0.04;

const INSTRUCTION: &str = "Push the cube onto the green disc.";

impl Task for Push {
    fn name(&self) -> &'static str {
        "push"
    }

    fn summary(&self) -> &'static str {
        "push a cube onto a disc on the table"
    }

    fn max_ticks(&self) -> u64 {
        450
    }

    fn scene(&self, robot: &RobotDescription, seed: u64, rng: &mut Rng) -> Result<(Scene, String), SimError> {
        let (from, to) = place(self.name(), seed, || {
            let (from, to) = (CUBES.point(rng), DISCS.point(rng));
            (within_reach(robot, &from) && within_reach(robot, &to)).then_some((from, to))
        })?;
        let paint = &CUBE_PAINTS[rng.usize(..CUBE_PAINTS.len())];
        let props = vec![cube(rng, "the cube", from, paint), disc(rng, to, DISC_RADIUS_M)];
        Ok((scene(robot, rng, props), INSTRUCTION.into()))
    }

    fn instructions(&self) -> Vec<String> {
        vec![INSTRUCTION.to_owned()]
    }

    fn is_done(&self, world: &Seen) -> bool {
        let cube = world.world_from_props[TARGET].translation.vector;
        let disc = world.world_from_props[GOAL].translation.vector;
        (cube - disc).xy().norm() < DISC_RADIUS_M && left_alone(world, TARGET)
    }

    fn failure(&self, world: &Seen) -> Option<String> {
        lost_cube(world, TARGET)
    }

    fn teleoperator(&self, world: SharedWorld, seed: u64) -> Box<dyn Teleoperator> {
        teleop::scripted(world, seed, Carrier::along_the_table())
    }
}
