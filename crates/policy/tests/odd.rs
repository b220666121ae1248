//! Checkpoints that LeRobot takes though they are unusual, and those of its newer versions.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "what fails here fails the test")]

mod common;

use std::path::Path;

use common::{copy, edit_json, edit_tensors, golden, open_after};
use safetensors::tensor::{Dtype, SafeTensors, TensorView};
use serde_json::{Value, json};
use sinew_policy::{Actions, Checkpoint, CheckpointError, Inputs};

const ACT: &str = "act/two_cameras_vae";
const CONFIG: &str = "config.json";
const MODEL: &str = "model.safetensors";
const PRE: &str = "policy_preprocessor.json";

fn inputs(case: &str) -> Inputs {
    Inputs::read(&golden(case).join("inputs.safetensors")).unwrap()
}

/// What the checkpoint as it is answers.
fn answer(case: &str) -> Actions {
    Checkpoint::open(golden(case)).unwrap().infer(&inputs(case)).unwrap()
}

/// The step `name` of the preprocessor.
fn step<'a>(pre: &'a mut Value, name: &str) -> &'a mut Value {
    pre["steps"].as_array_mut().unwrap().iter_mut().find(|step| step["registry_name"] == name).unwrap()
}

/// As LeRobot's main branch (7427f31801f944f5ec9ce53cda02862ce7d1638b) saves the tokenizer: in a folder that
/// the step names as its own.
fn with_artifact(dir: &Path, from: &str) {
    std::fs::create_dir(dir.join("tokenizer")).unwrap();
    for name in ["tokenizer.json", "tokenizer_config.json"] {
        std::fs::rename(dir.join(from).join(name), dir.join("tokenizer").join(name)).unwrap();
    }
    edit_json(&dir.join(PRE), |pre| {
        let step = step(pre, "tokenizer_processor");
        step["config"]["tokenizer_name"] = json!("tokenizer");
        step["artifacts"] = json!({"tokenizer_name": "tokenizer"});
    });
}

#[test]
fn a_tokenizer_that_the_processor_brings_is_taken_from_its_folder() {
    for (case, from) in [("pi05/two_cameras", ""), ("smolvla/cross_attention", "backbone")] {
        let dir = copy(case);
        with_artifact(dir.path(), from);
        let checkpoint = Checkpoint::open(dir.path()).unwrap();
        assert_eq!(checkpoint.info().tokenizer.as_ref().unwrap().file, dir.path().join("tokenizer/tokenizer.json"), "{case}");
        assert_eq!(checkpoint.infer(&inputs(case)).unwrap(), answer(case), "{case}");
    }
}

#[test]
fn an_artifact_is_inside_the_checkpoint_or_nowhere() {
    let opened = |edit: &dyn Fn(&Path)| {
        let error = open_after("pi05/two_cameras", |dir| {
            with_artifact(dir, "");
            edit(dir);
        });
        error.unwrap_err().to_string()
    };
    let named = |name: &'static str| {
        opened(&move |dir| {
            edit_json(&dir.join(PRE), |pre| {
                let step = step(pre, "tokenizer_processor");
                step["config"]["tokenizer_name"] = json!(name);
                step["artifacts"] = json!({"tokenizer_name": name});
            });
        })
    };
    for name in ["../tokenizer", "/tmp", "tokenizer/../../x", ""] {
        assert!(named(name).contains("expected a path inside the checkpoint's folder"), "{name}: {}", named(name));
    }
    assert!(named("elsewhere").contains("elsewhere, which is not there"), "{}", named("elsewhere"));
    // Where the folder is there without the file, what lies beside the checkpoint's own files is not taken for it.
    let text = opened(&|dir| std::fs::rename(dir.join("tokenizer/tokenizer.json"), dir.join("tokenizer.json")).unwrap());
    assert!(text.contains("tokenizer.json of tokenizer"), "{text}");
    let text =
        opened(&|dir| edit_json(&dir.join(PRE), |pre| step(pre, "tokenizer_processor")["config"]["tokenizer_name"] = json!("other")));
    assert!(text.contains("artifacts.tokenizer_name"), "{text}");
}

/// Keys of newer versions: one that says that something is off changes nothing; of any other nobody knows.
#[test]
fn an_unknown_key_of_a_step_is_passed_over_where_it_says_that_something_is_off() {
    for value in [json!(null), json!(false), json!([]), json!({})] {
        let dir = copy(ACT);
        edit_json(&dir.path().join(PRE), |pre| step(pre, "normalizer_processor")["config"]["dreams"] = value.clone());
        assert_eq!(Checkpoint::open(dir.path()).unwrap().infer(&inputs(ACT)).unwrap(), answer(ACT), "{value}");
    }
    for value in [json!(true), json!(1), json!(0), json!("none"), json!([1]), json!({"a": null})] {
        let error = open_after(ACT, |dir| {
            edit_json(&dir.join(PRE), |pre| step(pre, "normalizer_processor")["config"]["dreams"] = value.clone());
        });
        let error = error.unwrap_err();
        let text = format!("{error} {}", std::error::Error::source(&error).unwrap());
        assert!(matches!(error, CheckpointError::Step { index: 3, .. }) && text.contains("dreams"), "{text}");
    }
    // A known one that is off is off.
    let dir = copy("pi05/two_cameras");
    edit_json(&dir.path().join(PRE), |pre| step(pre, "tokenizer_processor")["config"]["truncation"] = json!(false));
    Checkpoint::open(dir.path()).unwrap();
}

/// As LeRobot's main branch writes them.
#[test]
fn keys_of_newer_steps_that_change_nothing_are_taken() {
    let fast = "pi0_fast/two_cameras";
    let dir = copy(fast);
    edit_json(&dir.path().join(PRE), |pre| {
        let config = &mut step(pre, "action_tokenizer_processor")["config"];
        config["allow_truncation"] = json!(true);
        config["fast_skip_tokens"] = json!(3);
        config["paligemma_tokenizer_name"] = json!("google/paligemma-3b-pt-224");
    });
    assert_eq!(Checkpoint::open(dir.path()).unwrap().infer(&inputs(fast)).unwrap(), answer(fast));

    let pi05 = "pi05/two_cameras";
    let with_state = |value: bool| {
        open_after(pi05, |dir| {
            edit_json(&dir.join(PRE), |pre| {
                step(pre, "pi05_prepare_state_tokenizer_processor_step")["config"]["include_state_in_prompt"] = json!(value);
            });
        })
    };
    with_state(true).unwrap();
    let text = with_state(false).unwrap_err().to_string();
    assert!(text.contains("include_state_in_prompt") && text.contains("memory"), "{text}");
}

#[test]
fn statistics_of_64_bits_are_taken() {
    let dir = copy(ACT);
    for entry in std::fs::read_dir(dir.path()).unwrap().map(|entry| entry.unwrap().path()) {
        if entry.to_string_lossy().contains("normalizer_processor") {
            edit_tensors(&entry, |tensors| {
                for (dtype, _, bytes) in tensors.values_mut().filter(|(dtype, ..)| *dtype == Dtype::F32) {
                    *dtype = Dtype::F64;
                    *bytes = common::floats(bytes).iter().flat_map(|value| f64::from(*value).to_le_bytes()).collect();
                }
            });
        }
    }
    assert_eq!(Checkpoint::open(dir.path()).unwrap().infer(&inputs(ACT)).unwrap(), answer(ACT));
    // Not weights: LeRobot computes in 32 bits.
    let error = open_after(ACT, |dir| {
        edit_tensors(&dir.join(MODEL), |tensors| {
            let (dtype, _, bytes) = tensors.get_mut("model.action_head.weight").unwrap();
            *dtype = Dtype::F64;
            *bytes = common::floats(bytes).iter().flat_map(|value| f64::from(*value).to_le_bytes()).collect();
        });
    });
    assert!(matches!(error, Err(CheckpointError::WrongDtype { .. })), "{error:?}");
}

#[test]
fn statistics_may_be_a_row_and_one_is_not_for_all() {
    let with_shape = |shape: &[usize]| {
        open_after(ACT, |dir| {
            for entry in std::fs::read_dir(dir).unwrap().map(|entry| entry.unwrap().path()) {
                let name = entry.to_string_lossy();
                if name.contains("normalizer_processor") && !name.contains("unnormalizer") {
                    edit_tensors(&entry, |tensors| {
                        let (_, old, bytes) = tensors.get_mut("observation.state.mean").unwrap();
                        *old = shape.to_vec();
                        bytes.truncate(4 * shape.iter().product::<usize>());
                    });
                }
            }
        })
    };
    assert_eq!(with_shape(&[1, 6]).unwrap().infer(&inputs(ACT)).unwrap(), answer(ACT));
    assert!(matches!(with_shape(&[1]), Err(CheckpointError::WrongStats { .. })));
}

/// LeRobot's networks look at the robot's state alone.
#[test]
fn states_beside_the_robots_are_ignored_as_in_lerobot() {
    for case in [ACT, "diffusion/resize_and_crop", "vqbet/codes_at_once"] {
        let dir = copy(case);
        edit_json(&dir.path().join(CONFIG), |config| {
            config["input_features"]["observation.effort"] = json!({"type": "STATE", "shape": [6]});
            config["normalization_mapping"]["STATE"] = json!("IDENTITY");
        });
        for file in [PRE, "policy_postprocessor.json"] {
            edit_json(&dir.path().join(file), |pipeline| {
                for step in pipeline["steps"].as_array_mut().unwrap() {
                    if let Some(map) = step["config"].get_mut("norm_map") {
                        map["STATE"] = json!("IDENTITY");
                    }
                }
            });
        }
        let checkpoint = Checkpoint::open(dir.path()).unwrap();
        let with = inputs(case).vector("observation.effort", vec![1.0; 6]);
        assert_eq!(checkpoint.infer(&with).unwrap(), checkpoint.infer(&inputs(case)).unwrap(), "{case}");
    }
}

#[test]
fn noise_may_have_its_batch_axis() {
    for case in ["pi05/two_cameras", "diffusion/resize_and_crop", "diffusion/pusht"] {
        let bytes = std::fs::read(golden(case).join("inputs.safetensors")).unwrap();
        let file = SafeTensors::deserialize(&bytes).unwrap();
        let (_, metadata) = SafeTensors::read_metadata(&bytes).unwrap();
        let views = file.iter().map(|(name, view)| {
            let mut shape = view.shape().to_vec();
            if let Some(rows) = ["noise", "noise_steps"].iter().position(|noise| name == *noise) {
                shape.insert(rows, 1);
            }
            (name.to_owned(), TensorView::new(view.dtype(), shape, view.data()).unwrap())
        });
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("inputs.safetensors");
        safetensors::serialize_to_file(views, metadata.metadata().clone(), &path).unwrap();
        let batched = Inputs::read(&path).unwrap();
        assert_eq!(batched, inputs(case), "{case}");
        assert_eq!(Checkpoint::open(golden(case)).unwrap().infer(&batched).unwrap(), answer(case), "{case}");
    }
}

#[test]
fn weights_of_a_wrapped_policy_are_named_as_such() {
    for (prefix, by) in [("_orig_mod.", "torch.compile"), ("module.", "DataParallel")] {
        let error = open_after(ACT, |dir| {
            edit_tensors(&dir.join(MODEL), |tensors| {
                *tensors = std::mem::take(tensors).into_iter().map(|(name, tensor)| (format!("{prefix}{name}"), tensor)).collect();
            });
        });
        let text = error.unwrap_err().to_string();
        assert!(text.contains(prefix) && text.contains(by), "{text}");
    }
}

#[test]
fn a_policy_that_says_it_is_an_adapter_and_is_none_is_told_so() {
    let error = open_after(ACT, |dir| edit_json(&dir.join(CONFIG), |config| config["use_peft"] = json!(true))).unwrap_err();
    let text = error.to_string();
    assert!(
        matches!(error, CheckpointError::NotACheckpoint { .. }) && text.contains("use_peft") && text.contains("adapter_config.json"),
        "{text}"
    );
    for missing in ["adapter_config.json", "adapter_model.safetensors"] {
        let error = open_after("act/adapter", |dir| std::fs::remove_file(dir.join(missing)).unwrap()).unwrap_err();
        let text = error.to_string();
        assert!(matches!(error, CheckpointError::NotACheckpoint { .. }) && text.contains(missing), "{text}");
    }
}

/// Only the rows that are looked up are read of a table that an adapter brings.
#[test]
fn an_adapters_table_is_read_row_by_row() {
    let case = "pi05/two_cameras";
    let table = "model.paligemma_with_expert.paligemma.model.language_model.embed_tokens.weight";
    let dir = copy(case);
    let base = dir.path().join("base");
    std::fs::create_dir(&base).unwrap();
    std::fs::copy(dir.path().join(CONFIG), base.join(CONFIG)).unwrap();
    std::fs::rename(dir.path().join(MODEL), base.join(MODEL)).unwrap();
    let own = {
        let bytes = std::fs::read(base.join(MODEL)).unwrap();
        let view = SafeTensors::deserialize(&bytes).unwrap();
        let view = view.tensor(table).unwrap();
        (view.dtype(), view.shape().to_vec(), view.data().to_vec())
    };
    // The base's own table is another, and so is it in the one to compare with.
    edit_tensors(&base.join(MODEL), |tensors| tensors.get_mut(table).unwrap().2.fill(0));
    let adapter = dir.path().join("adapter_model.safetensors");
    let name = format!("base_model.model.{table}");
    safetensors::serialize_to_file([(name, TensorView::new(own.0, own.1.clone(), &own.2).unwrap())], None, &adapter).unwrap();
    std::fs::write(
        dir.path().join("adapter_config.json"),
        json!({"peft_type": "LORA", "base_model_name_or_path": "base", "r": 4, "lora_alpha": 8, "modules_to_save": ["embed_tokens"]})
            .to_string(),
    )
    .unwrap();
    edit_json(&dir.path().join(CONFIG), |config| config["use_peft"] = json!(true));
    let checkpoint = Checkpoint::open(dir.path()).unwrap();
    assert_eq!(checkpoint.infer(&inputs(case)).unwrap(), answer(case));
    // The last token's row is in no sentence.
    let len = std::fs::metadata(&adapter).unwrap().len();
    std::fs::OpenOptions::new().write(true).open(&adapter).unwrap().set_len(len - 4).unwrap();
    assert_eq!(checkpoint.infer(&inputs(case)).unwrap(), answer(case));
}
