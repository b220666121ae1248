//! Actions relative to the state: the model answers with differences to the state that the
//! preprocessor saw, the postprocessor adds it.

use serde::Deserialize;

use super::{Array, Batch, Precision};
use crate::InferError;
use crate::features::{ACTION, STATE};

/// A `relative_actions_processor`: at inference it only remembers the state. An
/// `absolute_actions_processor` adds it to the entries that this step's configuration names.
#[derive(Clone, Debug, Deserialize)]
#[serde(default, deny_unknown_fields)]
#[derive(Default)]
pub(crate) struct RelativeActions {
    pub enabled: bool,
    /// Parts of the names of the entries that stay absolute.
    exclude_joints: Vec<String>,
    action_names: Option<Vec<String>>,
}

impl RelativeActions {
    /// Which of `width` entries of an action are relative.
    fn mask(&self, width: usize) -> Vec<bool> {
        let excluded: Vec<String> = self.exclude_joints.iter().filter(|part| !part.is_empty()).map(|part| part.to_lowercase()).collect();
        let names = self.action_names.as_deref().unwrap_or_default();
        let is_relative = |index: usize| {
            let name = names.get(index).map(|name| name.to_lowercase());
            name.is_none_or(|name| !excluded.iter().any(|part| name.contains(part.as_str())))
        };
        (0..width).map(is_relative).collect()
    }

    /// `shift`s the actions of `batch`, where this step is enabled.
    ///
    /// # Errors
    /// When there is no state to do it by.
    pub(crate) fn shift_actions(
        &self,
        batch: &mut Batch,
        shift: impl FnOnce(&Self, &mut Array, &Array, Precision),
    ) -> Result<(), InferError> {
        if !self.enabled {
            return Ok(());
        }
        let missing = || InferError::MissingInput { key: STATE.to_owned(), expected: "the state, to which actions are relative".into() };
        let state = batch.state.as_ref().ok_or_else(missing)?;
        if let Some(actions) = batch.features.get_mut(ACTION) {
            shift(self, actions, state, batch.precision);
        }
        Ok(())
    }

    /// Adds `state [1, D]` to each row of `actions [1, rows, width]`, where `D` is `width` or more.
    pub(super) fn make_absolute(&self, actions: &mut Array, state: &Array, precision: Precision) {
        self.shift(actions, state, precision, |value, offset| value + offset);
    }

    /// The way back, to another state than the actions were relative to before.
    pub(super) fn make_relative(&self, actions: &mut Array, state: &Array, precision: Precision) {
        self.shift(actions, state, precision, |value, offset| value - offset);
    }

    fn shift(&self, actions: &mut Array, state: &Array, precision: Precision, by: impl Fn(f32, f32) -> f32) {
        let Some(&width) = actions.shape.last() else { return };
        let mut offset: Vec<f32> =
            self.mask(width).into_iter().zip(&state.values).map(|(on, value)| if on { *value } else { 0.0 }).collect();
        precision.round_all(&mut offset);
        for row in actions.values.chunks_exact_mut(width.max(1)) {
            row.iter_mut().zip(&offset).for_each(|(value, offset)| *value = by(*value, *offset));
        }
        precision.round_all(&mut actions.values);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn excluded_joints_are_found_by_a_part_of_their_name_in_any_case() {
        let step = |names: Option<&[&str]>, exclude: &[&str]| RelativeActions {
            enabled: true,
            exclude_joints: exclude.iter().map(|&part| part.to_owned()).collect(),
            action_names: names.map(|names| names.iter().map(|&name| name.to_owned()).collect()),
        };
        let names = ["Shoulder.pos", "left_GRIPPER.pos", "wrist.pos"];
        assert_eq!(step(Some(&names), &["gripper"]).mask(4), [true, false, true, true]);
        assert_eq!(step(Some(&names), &[""]).mask(2), [true, true]);
        assert_eq!(step(None, &["gripper"]).mask(2), [true, true]);
    }
}
