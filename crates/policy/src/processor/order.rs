//! Which orders of steps make sense. LeRobot runs any, some of them to no or to the wrong effect.

use std::path::Path;

use super::Precision;
use super::image::ImageChange;
use super::step::Step;
use crate::CheckpointError;

type Steps = [(String, Step)];
type Kind = fn(&Step) -> bool;

/// Pairs of steps of which the first, where there are both, must come before the second. A step paired
/// with itself must not come twice.
const ORDER: [(Kind, Kind); 19] = [
    (renames, uses_features),
    (batches, writes_state),
    (makes_bytes, reads_bytes),
    (reads_bytes, scales_images),
    (scales_images, scales_images),
    (scales_images, normalizes),
    (renames, names_images),
    (changes_images, narrows),
    (|step| matches!(step, Step::Relative(_)), normalizes),
    (normalizes, writes_state),
    (writes_state, tokenizes),
    (|step| matches!(step, Step::Newline), tokenizes),
    (unnormalizes, makes_absolute),
    (normalizes, normalizes),
    (tokenizes, tokenizes),
    (batches, batches),
    (writes_state, writes_state),
    (unnormalizes, unnormalizes),
    (makes_absolute, makes_absolute),
];

fn renames(step: &Step) -> bool {
    matches!(step, Step::Rename(map) if !map.is_empty())
}

fn batches(step: &Step) -> bool {
    matches!(step, Step::ToBatch)
}

fn writes_state(step: &Step) -> bool {
    matches!(step, Step::WriteState(_))
}

fn changes_images(step: &Step) -> bool {
    matches!(step, Step::Images(_))
}

fn names_images(step: &Step) -> bool {
    matches!(step, Step::Images(images) if images.has_keys())
}

/// Images are made in 32 bits.
fn narrows(step: &Step) -> bool {
    matches!(step, Step::Device(precision) if *precision != Precision::F32)
}

fn makes_bytes(step: &Step) -> bool {
    matches!(step, Step::Images(images) if images.change() == ImageChange::ToBytes)
}

fn reads_bytes(step: &Step) -> bool {
    matches!(step, Step::Images(images) if matches!(images.change(), ImageChange::FromBytes { .. }))
}

fn scales_images(step: &Step) -> bool {
    matches!(step, Step::Images(images) if images.change() == ImageChange::ByImageNet)
}

fn unnormalizes(step: &Step) -> bool {
    matches!(step, Step::Unnormalize(_))
}

fn makes_absolute(step: &Step) -> bool {
    matches!(step, Step::Absolute(_))
}

fn normalizes(step: &Step) -> bool {
    matches!(step, Step::Normalize(_))
}

fn tokenizes(step: &Step) -> bool {
    matches!(step, Step::Tokenize(_))
}

fn uses_features(step: &Step) -> bool {
    matches!(step, Step::Normalize(_) | Step::Unnormalize(_) | Step::Relative(_) | Step::WriteState(_))
}

/// # Errors
/// When two steps stand the wrong way round or twice, or the preprocessor `before` makes actions
/// relative that no step makes absolute again.
pub(crate) fn check(path: &Path, steps: &Steps, before: Option<&Steps>) -> Result<(), CheckpointError> {
    for (second, (late_name, late)) in steps.iter().enumerate() {
        for (first, (early_name, early)) in steps.iter().enumerate().take(second) {
            if ORDER.iter().any(|(before, after)| after(early) && before(late)) {
                let words = |index: usize, name: &str| format!("step {index} ({name})");
                return Err(CheckpointError::StepOrder {
                    path: path.to_owned(),
                    first: words(first, early_name),
                    second: words(second, late_name),
                });
            }
        }
    }
    let is_relative = before.unwrap_or_default().iter().any(|(_, step)| matches!(step, Step::Relative(relative) if relative.enabled));
    if is_relative && !steps.iter().any(|(_, step)| matches!(step, Step::Absolute(_))) {
        let expected = "an absolute_actions_processor among them, as the preprocessor's actions are relative".into();
        let found = steps.iter().map(|(name, _)| name.as_str()).collect::<Vec<_>>().join(", ");
        return Err(CheckpointError::Config { path: path.to_owned(), key: "steps".into(), found, expected });
    }
    Ok(())
}
