//! Put a cube into a bin.

use fastrand::Rng;
use sinew_core::{RobotDescription, Teleoperator};

use super::scenery::{CUBE_PAINTS, Region, between, bin, cube, in_bin, place, scene, within_reach};
use super::{GOAL, TARGET, Task, left_alone, lost_cube};
use crate::error::SimError;
use crate::scene::Scene;
use crate::seen::Seen;
use crate::shared::SharedWorld;
use crate::teleop::{self, Carrier};

pub(super) struct PickPlace;

const CUBES: Region = Region { x_m: [0.16, 0.28], y_m: [-0.14, 0.04] };
pub(super) const BINS: Region = Region { x_m: [0.19, 0.22], y_m: [0.16, 0.18] };

const INSTRUCTION: &str = "Put the cube into the green bin.";

impl Task for PickPlace {
    fn name(&self) -> &'static str {
        "pick-place"
    }

    fn summary(&self) -> &'static str {
        "put a cube into a bin"
    }

    fn max_ticks(&self) -> u64 {
        600
    }

    fn scene(&self, robot: &RobotDescription, seed: u64, rng: &mut Rng) -> Result<(Scene, String), SimError> {
        let (from, to) = place(self.name(), seed, || {
            let (from, to) = (CUBES.point(rng), BINS.point(rng));
            (within_reach(robot, &from) && within_reach(robot, &to)).then_some((from, to))
        })?;
        let paint = &CUBE_PAINTS[rng.usize(..CUBE_PAINTS.len())];
        let yaw_rad = between(rng, -0.3, 0.3);
        let mut props = vec![cube(rng, "the cube", from, paint)];
        props.extend(bin(rng, to, yaw_rad));
        Ok((scene(robot, rng, props), INSTRUCTION.into()))
    }

    fn instructions(&self) -> Vec<String> {
        vec![INSTRUCTION.to_owned()]
    }

    fn is_done(&self, world: &Seen) -> bool {
        in_bin(&world.world_from_props[GOAL], &world.world_from_props[TARGET].translation.vector) && left_alone(world, TARGET)
    }

    fn failure(&self, world: &Seen) -> Option<String> {
        lost_cube(world, TARGET)
    }

    fn teleoperator(&self, world: SharedWorld, seed: u64) -> Box<dyn Teleoperator> {
        teleop::scripted(world, seed, Carrier::through_the_air())
    }
}
