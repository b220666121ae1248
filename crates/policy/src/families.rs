//! The policy families that can be run.

use crate::family::Family;
use crate::processor::{COMMON_STEPS, NewStep};
use crate::{act, diffusion, multi_task_dit, pi, smolvla, vqbet, xvla};

/// Every family, a line each.
const ALL: [&Family; 9] = [
    &act::FAMILY,
    &diffusion::FAMILY,
    &smolvla::FAMILY,
    &pi::PI0,
    &pi::PI05,
    &pi::PI0_FAST,
    &vqbet::FAMILY,
    &multi_task_dit::FAMILY,
    &xvla::FAMILY,
];

/// The policy families that can be run, by LeRobot's names.
pub const FAMILIES: [&str; ALL.len()] = {
    let mut names = [""; ALL.len()];
    let mut i = 0;
    while i < ALL.len() {
        names[i] = ALL[i].name;
        i += 1;
    }
    names
};

/// The family of that name.
pub(crate) fn find(name: &str) -> Option<&'static Family> {
    ALL.into_iter().find(|family| family.name == name)
}

/// The processor steps that are known: the common ones and those of all families. A checkpoint may use those of another.
pub(crate) fn steps() -> Vec<NewStep> {
    COMMON_STEPS.iter().chain(ALL.iter().flat_map(|family| family.steps)).copied().collect()
}
