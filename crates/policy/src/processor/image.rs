//! The steps that change images before anything else does.

use serde::Deserialize;

use super::{Array, Batch, Source};
use crate::features::IMAGES;
use crate::{CheckpointError, InferError};

/// ImageNet's mean and standard deviation of red, green and blue.
const MEAN: [f32; 3] = [0.485, 0.456, 0.406];
const STD: [f32; 3] = [0.229, 0.224, 0.225];

/// A step that changes images.
#[derive(Clone, Debug)]
pub(crate) struct ImageStep {
    change: ImageChange,
    /// Of which features; of all images without.
    keys: Option<Vec<String>>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum ImageChange {
    /// From 0..1 to 0..255.
    ToBytes,
    /// From 0..255 to 0..1, where an image has a value above 1; whether others than 0..255 are refused.
    FromBytes { checks: bool },
    /// By the mean and deviation of ImageNet, from 0..1.
    ByImageNet,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct KeysJson {
    image_keys: Option<Vec<String>>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct FromBytesJson {
    image_keys: Option<Vec<String>>,
    validate_range: Option<bool>,
}

impl ImageStep {
    /// From LeRobot's configuration of a step that does `change`.
    ///
    /// # Errors
    /// When it is another's.
    pub(super) fn open(source: &Source, change: ImageChange) -> Result<Self, CheckpointError> {
        if let ImageChange::FromBytes { .. } = change {
            let FromBytesJson { image_keys: keys, validate_range } = source.parse()?;
            return Ok(Self { change: ImageChange::FromBytes { checks: validate_range.unwrap_or(true) }, keys });
        }
        Ok(Self { change, keys: source.parse::<KeysJson>()?.image_keys })
    }

    pub(super) fn change(&self) -> ImageChange {
        self.change
    }

    /// Whether it changes features of some names only.
    pub(super) fn has_keys(&self) -> bool {
        self.keys.is_some()
    }

    /// # Errors
    /// When an image has values that it can't have here.
    pub(super) fn run(&self, batch: &mut Batch) -> Result<(), InferError> {
        let is_meant = |name: &str| match &self.keys {
            Some(keys) => keys.iter().any(|key| key == name),
            None => name.starts_with(IMAGES.trim_end_matches('.')),
        };
        for (name, Array { values, .. }) in batch.features.iter_mut().filter(|(name, _)| is_meant(name)) {
            let (least, most) = values.iter().fold((f32::INFINITY, f32::NEG_INFINITY), |(least, most), x| (least.min(*x), most.max(*x)));
            let check = |range: f32| {
                let (found, expected) = (format!("an image of {least} to {most}"), format!("one of 0 to {range} at this step"));
                let is_inside = least >= 0.0 && most <= range;
                if is_inside { Ok(()) } else { Err(InferError::WrongInput { key: name.clone(), found, expected }) }
            };
            match self.change {
                ImageChange::ToBytes => values.iter_mut().for_each(|x| *x *= 255.0),
                ImageChange::FromBytes { checks } if most > 1.0 => {
                    if checks {
                        check(255.0)?;
                    }
                    values.iter_mut().for_each(|x| *x /= 255.0);
                }
                ImageChange::FromBytes { .. } => {}
                ImageChange::ByImageNet => {
                    check(1.0)?;
                    for pixel in values.chunks_exact_mut(3) {
                        pixel.iter_mut().zip(MEAN.iter().zip(STD)).for_each(|(x, (mean, std))| *x = (*x - mean) / std);
                    }
                }
            }
        }
        Ok(())
    }
}
