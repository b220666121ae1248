//! How to touch a marker.

use super::{Intent, Place, Script};
use crate::seen::Seen;
use crate::tasks::TARGET;

pub(crate) struct Reacher;

impl Script for Reacher {
    fn reset(&mut self) {}

    fn intend(&mut self, world: &Seen) -> Intent {
        let marker = world.world_from_props[TARGET].translation.vector;
        let away = (world.world_from_tool().translation.vector - marker).norm();
        Intent {
            place: Place::Over { tool_m: marker, heading_rad: None },
            gripper_rad: 0.0,
            speed_m_per_s: 0.2,
            looseness: (away / 0.05).min(1.0),
            done: false,
        }
    }
}
