//! Of two cubes, put the one that the instruction names into the bin.

use fastrand::Rng;
use sinew_core::{RobotDescription, Teleoperator};

use super::pick_place::BINS;
use super::scenery::{CUBE_PAINTS, Paint, Region, between, bin, cube, in_bin, place, scene, within_reach};
use super::{GOAL, TARGET, Task, left_alone, lost_cube};
use crate::error::SimError;
use crate::scene::Scene;
use crate::seen::Seen;
use crate::shared::SharedWorld;
use crate::teleop::{self, Carrier};

pub(super) struct Sort;

const CUBES: Region = Region { x_m: [0.16, 0.28], y_m: [-0.15, 0.05] };
/// The other cube is the last prop.
const OTHER: usize = 6;
/// So far apart that the open gripper fits between the cubes.
const APART_M: f64 = 0.10;

/// Of how many paints a cube may be wanted; the other cube has the other one.
const WANTED: usize = 2;

fn instruction(paint: &Paint) -> String {
    format!("Put the {} cube into the green bin.", paint.name)
}

impl Task for Sort {
    fn name(&self) -> &'static str {
        "sort"
    }

    fn summary(&self) -> &'static str {
        "of two cubes, put the one that the instruction names into the bin"
    }

    fn max_ticks(&self) -> u64 {
        600
    }

    fn scene(&self, robot: &RobotDescription, seed: u64, rng: &mut Rng) -> Result<(Scene, String), SimError> {
        let (from, other, to) = place(self.name(), seed, || {
            let (from, other, to) = (CUBES.point(rng), CUBES.point(rng), BINS.point(rng));
            let reachable = [from, other, to].iter().all(|at| within_reach(robot, at));
            (reachable && (from - other).norm() > APART_M).then_some((from, other, to))
        })?;
        let wanted = rng.usize(..WANTED);
        let (paint, other_paint) = (&CUBE_PAINTS[wanted], &CUBE_PAINTS[1 - wanted]);
        let yaw_rad = between(rng, -0.3, 0.3);
        let mut props = vec![cube(rng, "the cube", from, paint)];
        props.extend(bin(rng, to, yaw_rad));
        props.push(cube(rng, "the other cube", other, other_paint));
        Ok((scene(robot, rng, props), instruction(paint)))
    }

    fn instructions(&self) -> Vec<String> {
        CUBE_PAINTS[..WANTED].iter().map(instruction).collect()
    }

    fn is_done(&self, world: &Seen) -> bool {
        let floor = &world.world_from_props[GOAL];
        let inside = |prop: usize| in_bin(floor, &world.world_from_props[prop].translation.vector);
        inside(TARGET) && !inside(OTHER) && left_alone(world, TARGET)
    }

    fn failure(&self, world: &Seen) -> Option<String> {
        lost_cube(world, TARGET).or_else(|| lost_cube(world, OTHER))
    }

    fn teleoperator(&self, world: SharedWorld, seed: u64) -> Box<dyn Teleoperator> {
        teleop::scripted(world, seed, Carrier::through_the_air())
    }
}
