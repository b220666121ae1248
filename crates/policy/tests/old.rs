//! Checkpoints from before LeRobot's processor files: statistics among the weights.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "what fails here fails the test")]

mod common;

use std::path::Path;

use common::{edit_json, edit_tensors, golden};
use safetensors::tensor::Dtype;
use serde_json::json;
use sinew_policy::{Checkpoint, CheckpointError};

const CASE: &str = "act/before_processors";
const MODEL: &str = "model.safetensors";

fn open_after(edit: impl FnOnce(&Path)) -> Result<Checkpoint, CheckpointError> {
    common::open_after(CASE, edit)
}

#[test]
fn statistics_are_found_by_the_features_own_names() {
    let info = Checkpoint::open(golden(CASE)).unwrap().info().clone();
    assert_eq!(info.inputs.iter().map(|input| input.normalization.as_str()).collect::<Vec<_>>(), ["MEAN_STD", "MEAN_STD"]);
    assert_eq!(info.postprocessor, ["unnormalizer_processor", "device_processor"]);
    // An underscore in a feature's name is none of the dots that became underscores.
    let renamed = |image: &'static str, buffer: &'static str| {
        open_after(move |dir| {
            edit_json(&dir.join("config.json"), |config| {
                let text = config["input_features"].to_string().replace("observation.images.top", image);
                config["input_features"] = serde_json::from_str(&text).unwrap();
            });
            edit_tensors(&dir.join(MODEL), |tensors| {
                for stat in ["mean", "std"] {
                    let tensor = tensors.remove(&format!("normalize_inputs.buffer_observation_images_top.{stat}")).unwrap();
                    tensors.insert(format!("normalize_inputs.buffer_{buffer}.{stat}"), tensor);
                }
            });
        })
    };
    assert_eq!(
        renamed("observation.images.top_left", "observation_images_top_left").unwrap().info().inputs[1].name,
        "observation.images.top_left"
    );
    assert!(matches!(renamed("observation.images.top_left", "observation_images_top"), Err(CheckpointError::MissingStats { .. })));
}

#[test]
fn missing_and_misshapen_statistics_are_refused() {
    for (prefix, feature) in [("normalize_inputs", "observation_state"), ("unnormalize_outputs", "action")] {
        let name = format!("{prefix}.buffer_{feature}.std");
        let error = open_after(|dir| edit_tensors(&dir.join(MODEL), |tensors| drop(tensors.remove(&name)))).unwrap_err();
        assert!(matches!(error, CheckpointError::MissingStats { .. }), "{error}");
        let error = open_after(|dir| {
            edit_tensors(&dir.join(MODEL), |tensors| {
                let (_, shape, bytes) = tensors.get_mut(&name).unwrap();
                shape[0] -= 1;
                bytes.truncate(shape[0] * 4);
            });
        });
        assert!(matches!(error, Err(CheckpointError::WrongStats { .. })));
    }
    let error = open_after(|dir| {
        edit_json(&dir.join("config.json"), |config| drop(config.as_object_mut().unwrap().remove("normalization_mapping")))
    });
    assert!(matches!(error, Err(CheckpointError::Config { key, .. }) if key == "normalization_mapping"));
    let error = open_after(|dir| edit_json(&dir.join("config.json"), |config| config["normalization_mapping"]["STATE"] = json!("SIGMOID")));
    assert!(matches!(error, Err(CheckpointError::Step { .. })));
}

/// What became of π0's text before there were processor files is not known here.
#[test]
fn a_checkpoint_that_needs_a_conversion_names_it() {
    let dir = common::copy("pi0/two_cameras");
    std::fs::remove_file(dir.path().join("policy_preprocessor.json")).unwrap();
    edit_tensors(&dir.path().join(MODEL), |tensors| {
        tensors.insert("normalize_inputs.buffer_observation_state.mean".into(), (Dtype::F32, vec![1], vec![0; 4]));
    });
    let error = Checkpoint::open(dir.path()).unwrap_err();
    assert!(matches!(error, CheckpointError::OldNormalization { .. }), "{error}");
    assert!(error.to_string().contains("migrate_policy_normalization"), "{error}");
}
