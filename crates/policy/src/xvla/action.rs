//! What the numbers of an action are to the model.

/// How actions become a model's, and come back.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct ActionSpace {
    /// Of an action in the model, at least `width`.
    pub model_width: usize,
    /// Of an action of the robot: the first of the model's.
    pub width: usize,
    /// The grippers' places, which the model is not shown, and answers as logits.
    grippers: &'static [usize],
    /// How many numbers of the state it must be given; at least as many where `None`.
    pub state_width: Option<usize>,
}

/// LeRobot's names of those of which no number is in the configuration.
pub(crate) const NAMES: &str = "ee6d, joint, agibot_ee6d, franka_joint7, so101_bimanual or auto";

impl ActionSpace {
    /// By LeRobot's name of it; of `auto` the `width` is the action's, and `most` the model's.
    pub(crate) fn named(name: &str, width: usize, most: usize) -> Option<Self> {
        let space = |model_width, width, grippers| Self { model_width, width, grippers, state_width: None };
        match name.to_lowercase().as_str() {
            "ee6d" => Some(space(20, 20, &[9, 19])),
            "joint" => Some(space(14, 14, &[6, 13])),
            "agibot_ee6d" => Some(space(20, 20, &[])),
            "franka_joint7" => Some(space(20, 7, &[])),
            "so101_bimanual" => Some(Self { state_width: Some(20), ..space(20, 12, &[5, 11]) }),
            "auto" => Some(space(most, width, &[])),
            _ => None,
        }
    }

    /// The fewest numbers of the state in which all grippers have a place.
    pub(crate) fn least_state_width(self) -> usize {
        self.grippers.iter().map(|at| at + 1).max().unwrap_or(0)
    }

    /// Puts 0 in the grippers' places of a state or an action of the model.
    pub(crate) fn hide_grippers(self, row: &mut [f32]) {
        for at in self.grippers {
            if let Some(value) = row.get_mut(*at) {
                *value = 0.0;
            }
        }
    }

    /// The robot's action of the model's.
    pub(crate) fn finished(self, row: &[f32]) -> impl Iterator<Item = f32> {
        let value = move |(at, x): (usize, &f32)| if self.grippers.contains(&at) { 1.0 / (1.0 + (-x).exp()) } else { *x };
        row.iter().enumerate().take(self.width).map(value)
    }
}
