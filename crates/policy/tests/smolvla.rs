//! What is particular to SmolVLA, beyond what its golden cases show.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "what fails here fails the test")]

mod common;

use std::path::Path;

use common::{copy, edit_json, edit_tensors, golden, max_delta, read_floats};
use serde_json::{Value, json};
use sinew_policy::{Actions, Checkpoint, Chunk, Guidance, GuidanceSchedule, GuidanceSettings, InferError, Inputs};

const CASE: &str = "smolvla/self_attention";

fn inputs(case: &str) -> Inputs {
    Inputs::read(&golden(case).join("inputs.safetensors")).unwrap()
}

fn expected(case: &str) -> Vec<f32> {
    read_floats(&golden(case).join("expected.safetensors"), "action").1
}

fn assert_close(ours: &[f32], theirs: &[f32], what: &str) {
    let range = theirs.iter().copied().fold(f32::MIN, f32::max) - theirs.iter().copied().fold(f32::MAX, f32::min);
    let delta = max_delta(ours, theirs) / range;
    assert!(delta < 1e-4, "{what}: {delta}");
}

#[test]
fn the_checkpoints_own_guidance_is_told() {
    let wanted =
        GuidanceSettings { schedule: GuidanceSchedule::Exp, max_guidance_weight: 6.0, execution_horizon: 5, ..GuidanceSettings::default() };
    assert_eq!(Checkpoint::open(golden(CASE)).unwrap().info().guidance, Some(wanted));
}

#[test]
fn a_previous_chunk_that_does_not_fit_and_a_family_that_takes_none_are_refused() {
    let guidance = |rows, width| {
        let actions = Actions { rows, width, values: vec![0.0; rows * width] };
        let previous = Chunk { normalized: actions.clone(), actions };
        Guidance { previous, inference_delay: 0, settings: GuidanceSettings::default() }
    };
    let checkpoint = Checkpoint::open(golden(CASE)).unwrap();
    for (rows, width) in [(9, 5), (3, 9)] {
        let error = checkpoint.infer_chunk(&inputs(CASE), Some(&guidance(rows, width))).unwrap_err();
        assert!(std::error::Error::source(&error).unwrap().to_string().contains(&format!("{rows}x{width}")), "{error:?}");
    }
    let act = Checkpoint::open(golden("act/two_cameras_vae")).unwrap();
    let error = act.infer_chunk(&inputs("act/two_cameras_vae"), Some(&guidance(3, 6))).unwrap_err();
    assert!(matches!(&error, InferError::NoGuidance { family } if family == "act"), "{error:?}");
}

/// The other names under which the same tensors are on the Hub.
#[test]
fn tensors_are_found_by_the_names_of_a_compiled_model_and_of_either_tied_table() {
    let compiled = copy(CASE);
    edit_tensors(&compiled.path().join("model.safetensors"), |tensors| {
        let old = std::mem::take(tensors);
        tensors.extend(old.into_iter().map(|(name, tensor)| (name.replacen("model.", "model._orig_mod.", 1), tensor)));
    });
    let tied = copy(CASE);
    edit_tensors(&tied.path().join("model.safetensors"), |tensors| {
        let head = "model.vlm_with_expert.vlm.lm_head.weight";
        let table = "model.vlm_with_expert.vlm.model.text_model.embed_tokens.weight";
        match (tensors.remove(head), tensors.remove(table)) {
            (Some(tensor), None) => tensors.insert(table.into(), tensor),
            (None, Some(tensor)) => tensors.insert(head.into(), tensor),
            other => panic!("{other:?}"),
        };
    });
    // LeRobot ignores layers beyond num_vlm_layers.
    let longer = copy(CASE);
    edit_tensors(&longer.path().join("model.safetensors"), |tensors| {
        let layer = tensors.iter().filter(|(name, _)| name.contains("text_model.layers.2."));
        let more: Vec<_> = layer.map(|(name, tensor)| (name.replace("layers.2.", "layers.3."), tensor.clone())).collect();
        assert!(!more.is_empty());
        tensors.extend(more);
    });
    for (folder, what) in [(compiled, "compiled"), (tied, "tied"), (longer, "longer")] {
        let answer = Checkpoint::open(folder.path()).unwrap().infer(&inputs(CASE)).unwrap();
        assert_close(&answer.values, &expected(CASE), what);
    }
}

#[test]
fn configurations_that_make_no_network_are_refused() {
    let refused = |edit: &[(&str, Value)], of: &str, says: &str| {
        let folder = copy(CASE);
        edit_json(&folder.path().join(of), |json| {
            for (key, value) in edit {
                *json.pointer_mut(&format!("/{key}")).unwrap_or_else(|| panic!("no {key}")) = value.clone();
            }
        });
        let error = Checkpoint::open(folder.path()).unwrap_err();
        let words = std::iter::successors(Some(&error as &dyn std::error::Error), |error| error.source()).map(ToString::to_string);
        let words = words.collect::<Vec<_>>().join(": ");
        assert!(words.contains(says), "{edit:?}: {words}");
    };
    for (key, value, says) in [
        ("chunk_size", json!(0), "chunk_size is 0"),
        ("chunk_size", json!(1u64 << 40), "chunk_size is 1099511627776"),
        ("n_action_steps", json!(9), "n_action_steps is 9"),
        ("num_steps", json!(0), "num_steps is 0"),
        ("use_cache", json!(false), "use_cache is false"),
        ("use_delta_joint_actions_aloha", json!(true), "use_delta_joint_actions_aloha is true"),
        ("adapt_to_pi_aloha", json!(true), "with 4 joints and 5 actions"),
        ("vlm_model_name", json!("nobody/nothing"), "nobody/nothing"),
        ("num_expert_layers", json!(2), "num_expert_layers is 2"),
        ("num_expert_layers", json!(1), "num_expert_layers is 1 of 3"),
        ("expert_width_multiplier", json!(-1.0), "expert_width_multiplier is -1"),
        ("expert_width_multiplier", json!(0.5), "expected [12"),
        ("attention_mode", json!("cross_attn"), "k_proj"),
        ("resize_imgs_with_padding", json!([64, 48]), "resize_imgs_with_padding is 64x48"),
        ("resize_imgs_with_padding", Value::Null, "a 40x50 image"),
        ("empty_cameras", json!(1u64 << 40), "empty_cameras is 1099511627776"),
        ("max_state_dim", json!(3), "observation.state"),
        ("max_action_dim", json!(4), "at most max_action_dim"),
        ("min_period", json!(0.0), "min_period is 0"),
        ("rtc_config/max_guidance_weight", json!(0.0), "max_guidance_weight is 0"),
        ("rtc_config/prefix_attention_schedule", json!("SOME"), "SOME"),
    ] {
        refused(&[(key, value)], "config.json", says);
    }
    for (key, value, says) in [
        ("model_type", json!("idefics3"), "model_type is idefics3"),
        ("text_config/model_type", json!("gemma"), "text_config.model_type is gemma"),
        ("text_config/num_attention_heads", json!(5), "24 with 5 heads"),
        ("text_config/num_key_value_heads", json!(2), "2 of 3"),
        ("text_config/head_dim", json!(7), "head_dim is 7"),
        ("text_config/hidden_size", json!(48), "expected"),
        ("text_config/vocab_size", json!(7), "expected [7, 24]"),
        ("vision_config/patch_size", json!(0), "image_size is 32 with patches of 0"),
        ("vision_config/image_size", json!(40), "position_embedding"),
        ("vision_config/num_attention_heads", json!(0), "0 heads"),
        ("scale_factor", json!(0), "scale_factor is 0"),
        ("scale_factor", json!(3), "resize_imgs_with_padding"),
    ] {
        refused(&[(key, value)], "backbone/config.json", says);
    }
}

#[test]
fn cameras_may_stay_away_and_images_have_any_size_but_there_must_be_one() {
    let case = "smolvla/cross_attention";
    let checkpoint = Checkpoint::open(golden(case)).unwrap();
    let state = || Inputs::new().vector("observation.state", vec![0.0; 6]).task("go");
    let with = |height: usize, width: usize| state().image("observation.images.front", height, width, vec![9; height * width * 3]);
    assert_eq!(checkpoint.infer(&with(17, 90)).unwrap().rows, 8);
    assert!(checkpoint.infer(&with(1, 90)).is_err(), "nothing is left of a sliver");
    let error = checkpoint.infer(&state()).unwrap_err();
    assert!(std::error::Error::source(&error).unwrap().to_string().contains("none of the cameras"), "{error:?}");

    let fixed = Checkpoint::open(golden("smolvla/images_as_they_are")).unwrap();
    let image = Inputs::new().vector("observation.state", vec![0.0; 5]).image("observation.images.large", 32, 32, vec![9; 32 * 32 * 3]);
    assert!(matches!(fixed.infer(&image), Err(InferError::WrongInput { .. })));
}

#[test]
fn the_published_backbone_is_built_in_and_others_say_where_they_were_found() {
    let info = |dir: &Path| Checkpoint::open(dir).map(|checkpoint| checkpoint.info().clone());
    let source = info(&golden(CASE)).unwrap().backbone_source.unwrap();
    assert!(source.ends_with("backbone/config.json"), "{source}");
    // The tiny tensors are none of the published backbone's, which its dimensions are enough to tell.
    let folder = copy(CASE);
    let name = "HuggingFaceTB/SmolVLM2-500M-Video-Instruct";
    edit_json(&folder.path().join("config.json"), |json| {
        json["vlm_model_name"] = name.into();
        json["resize_imgs_with_padding"] = json!([512, 512]);
    });
    let error = info(folder.path()).unwrap_err().to_string();
    assert!(error.contains("vision_model") && error.contains("expected [768]"), "{error}");
}
