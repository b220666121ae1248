//! What a policy reads that cleans a trajectory from noise, and which rows of it are the answer.

use std::ops::Range;

use crate::config::{Camera, ConfigFile};
use crate::features::{Feature, FeatureKind, STATE};
use crate::nn::Built;

/// What `input_features` hold.
#[derive(Debug)]
pub(crate) struct Observed {
    pub state_width: usize,
    pub cameras: Vec<String>,
    /// Height and width, if there is a camera.
    pub camera_size: Option<[usize; 2]>,
    /// The environment's state, where the policy reads one, and its width.
    pub environment: Option<(String, usize)>,
    pub unused: Vec<String>,
}

impl Observed {
    /// # Errors
    ///
    /// Where there is another feature, or no state.
    pub fn of(file: &ConfigFile, reads_environment: bool) -> Built<Self> {
        let (mut cameras, mut camera_size, mut state_width, mut environment) = (Vec::new(), None, None, None);
        let mut unused = Vec::new();
        for (name, feature) in file.inputs.iter() {
            if let Some(camera) = Camera::new(name, feature).filter(|camera| camera_size.is_none_or(|size| size == camera.size())) {
                camera_size = Some(camera.size());
                cameras.push(camera.name);
                continue;
            }
            let Feature { kind, shape } = feature;
            match (kind, shape.as_slice()) {
                (FeatureKind::State, [n]) if name == STATE && *n > 0 => state_width = Some(*n),
                (FeatureKind::State, _) if name != STATE => unused.push(name.to_owned()),
                (FeatureKind::Env, [n]) if *n > 0 && !reads_environment => unused.push(name.to_owned()),
                (FeatureKind::Env, [n]) if *n > 0 && environment.is_none() => environment = Some((name.to_owned(), *n)),
                _ => {
                    let expected = if reads_environment {
                        "VISUAL [3, H, W] of at most 8192 a side, all of one size, observation.state as STATE [D], or one ENV [D]"
                    } else {
                        "VISUAL [3, H, W] of at most 8192 a side, all of one size, or observation.state as STATE [D]"
                    };
                    return Err(file.fault(&format!("input_features.{name}"), format!("{kind} {shape:?}"), expected));
                }
            }
        }
        match state_width {
            Some(state_width) => Ok(Self { state_width, cameras, camera_size, environment, unused }),
            None => Err(file.fault("input_features", "no observation.state".into(), "observation.state as STATE [D]")),
        }
    }
}

/// Which rows of a trajectory of `horizon` rows, whose first `n_obs_steps` are of the observations, are the answer: from now on, at
/// most `n_action_steps`.
pub(crate) fn answered_rows(n_obs_steps: usize, n_action_steps: usize, horizon: usize) -> Range<usize> {
    let now = n_obs_steps - 1;
    now..(now + n_action_steps).min(horizon)
}
