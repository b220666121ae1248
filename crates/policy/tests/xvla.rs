//! X-VLA: what makes no network is refused, either layout of the tensors is read, and domains are told apart.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "what fails here fails the test")]

mod common;

use common::{copy, edit_json, edit_tensors, golden, open_after, refuses_values, superfluous_tensors};
use serde_json::{Value, json};
use sinew_policy::{Checkpoint, Inputs};

const CASE: &str = "xvla/as_published";
const JOINTS: &str = "xvla/joints_of_each_domain";
const ANY: &str = "xvla/any_actions";
const CONFIG: &str = "config.json";
const MODEL: &str = "model.safetensors";
const PRE: &str = "policy_preprocessor.json";

fn inputs(case: &str) -> Inputs {
    Inputs::read(&golden(case).join("inputs.safetensors")).unwrap()
}

fn words(error: &dyn std::error::Error) -> String {
    std::iter::successors(Some(error), |error| (*error).source()).map(ToString::to_string).collect::<Vec<_>>().join(": ")
}

fn edit_step(pre: &mut Value, name: &str, edit: impl FnOnce(&mut Value)) {
    edit(pre["steps"].as_array_mut().unwrap().iter_mut().find(|step| step["registry_name"] == name).unwrap());
}

#[test]
fn values_that_make_no_network_are_refused_by_name() {
    let values = [
        ("n_obs_steps", json!(2)),
        ("chunk_size", json!(0)),
        ("chunk_size", json!(1_u64 << 62)),
        ("n_action_steps", json!(7)),
        ("dtype", json!("float16")),
        ("hidden_size", json!(25)),
        ("depth", json!(0)),
        ("dim_time", json!(1_u64 << 40)),
        ("num_heads", json!(0)),
        ("mlp_ratio", json!(0.0)),
        ("num_domains", json!(0)),
        ("len_soft_prompts", json!(1_u64 << 40)),
        // Too few for the rows of three images.
        ("max_len_seq", json!(60)),
        ("action_mode", json!("dance")),
        ("num_denoising_steps", json!(1_u64 << 40)),
        // There is no place for the second gripper.
        ("max_state_dim", json!(19)),
        ("num_image_views", json!(0)),
        ("empty_cameras", json!(1_u64 << 40)),
        ("resize_imgs_with_padding", json!([0, 4])),
        ("florence_config", Value::Null),
        ("domain_feature_key", json!("observation.state")),
    ];
    refuses_values(CASE, CONFIG, values);
    let refused = |case: &str, edit: &dyn Fn(&mut Value), says: &str| {
        let text = words(&open_after(case, |dir| edit_json(&dir.join(CONFIG), edit)).unwrap_err());
        assert!(text.contains(says), "{says}: {text}");
    };
    // Each makes actions of a width of its own.
    refused(CASE, &|config| config["action_mode"] = json!("joint"), "20 values, expected 14 values");
    refused(CASE, &|config| config["use_proprio"] = json!(false), "max_state_dim is 0, as use_proprio is false");
    refused("xvla/two_so101", &|config| config["max_state_dim"] = json!(12), "expected 20, which action_mode so101_bimanual");
    refused(ANY, &|config| config["max_action_dim"] = json!(4), "max_action_dim is 4");
    // Without a frame all images have one size.
    let other = json!({"type": "VISUAL", "shape": [3, 24, 22]});
    refused(ANY, &|config| config["input_features"]["observation.images.side"] = other.clone(), "a 22x24 image");
    // A key that is none of the inputs is of no effect.
    assert!(open_after(CASE, |dir| edit_json(&dir.join(CONFIG), |config| config["domain_feature_key"] = json!("robot"))).is_ok());
}

#[test]
fn a_florence_that_cannot_be_run_is_refused() {
    let refused = |case: &str, key: &str, value: Value, says: &str| {
        let edit = |config: &mut Value| {
            *config.pointer_mut(&format!("/florence_config/{key}")).unwrap_or_else(|| panic!("no {key}")) = value.clone()
        };
        let text = words(&open_after(case, |dir| edit_json(&dir.join(CONFIG), edit)).unwrap_err());
        assert!(text.contains(says), "{key} {value}: {text}");
    };
    for (key, value, says) in [
        ("vision_config/model_type", json!("swin"), "florence_config.vision_config.model_type is swin"),
        ("vision_config/image_feature_source", json!(["last_frame"]), "image_feature_source"),
        ("vision_config/image_pos_embed/type", json!("sine"), "image_pos_embed.type is sine"),
        ("vision_config/image_pos_embed/max_pos_embeddings", json!(3), "max_position_embeddings is 3 for a map of 5x4"),
        ("vision_config/visual_temporal_embedding/type", json!("LEARNED"), "visual_temporal_embedding.type is LEARNED"),
        ("vision_config/dim_embed", json!([8, 16, 32]), "depths is 2 values"),
        ("vision_config/num_heads", json!([3, 4]), "embed_dim is 8"),
        ("vision_config/window_size", json!(0), "window_size is 0"),
        ("vision_config/patch_padding", json!([4000, 1]), "patch_stride is"),
        ("vision_config/patch_padding", json!([1_u64 << 40, 1]), "patch_padding is"),
        ("vision_config/patch_size", json!([99, 3]), "images of 40x32"),
        ("vision_config/projection_dim", json!(17), "projection_dim is 17, expected text_config.d_model, 16"),
        ("vision_config/depths", json!([1, 1]), "tensors are in no use"),
        ("text_config/model_type", json!("t5"), "florence_config.text_config.model_type is t5"),
        ("text_config/hidden_size", json!(32), "hidden_size is 32, expected 16"),
        ("text_config/encoder_attention_heads", json!(3), "16 with 3 heads"),
        ("text_config/max_position_embeddings", json!(61), "embed_positions"),
        ("text_config/vocab_size", json!(7), "expected [7, 16]"),
    ] {
        refused(CASE, key, value, says);
    }
    refused(ANY, "text_config/activation_function", json!("glu"), "activation_function is glu");
    refused(ANY, "vision_config/qkv_bias", json!(true), "qkv.bias");
    refused(ANY, "vision_config/mlp_ratio", json!(-1.0), "mlp_ratio is -1");
}

#[test]
fn every_tensor_is_needed_but_what_only_writes_text() {
    for (case, unused) in [(CASE, &["final_logits_bias"][..]), (JOINTS, &[]), (ANY, &[])] {
        let (count, found) = superfluous_tensors(case);
        assert!(count > 100, "{count}");
        assert_eq!(found.len(), unused.len(), "{case}: {found:?}");
        assert!(found.iter().zip(unused).all(|(name, end)| name.ends_with(end)), "{case}: {found:?}");
        assert!(Checkpoint::open(golden(case)).unwrap().info().unknown_keys.is_empty());
    }
}

#[test]
fn the_table_of_tokens_has_either_name() {
    let dir = copy(JOINTS);
    edit_tensors(&dir.path().join(MODEL), |tensors| {
        let names = ["shared", "encoder.embed_tokens"].map(|part| format!("model.vlm.language_model.{part}.weight"));
        let (old, new) = if tensors.contains_key(&names[0]) { (&names[0], &names[1]) } else { (&names[1], &names[0]) };
        let table = tensors.remove(old).unwrap();
        tensors.insert(new.clone(), table);
    });
    let answer = |dir: &std::path::Path| Checkpoint::open(dir).unwrap().infer(&inputs(JOINTS)).unwrap();
    assert_eq!(answer(dir.path()), answer(&golden(JOINTS)));
}

#[test]
fn a_domain_has_its_own_answer_and_must_be_one_of_the_models() {
    let with = |domain: u32| {
        let dir = copy(JOINTS);
        edit_json(&dir.path().join(PRE), |pre| edit_step(pre, "xvla_add_domain_id", |step| step["config"]["domain_id"] = json!(domain)));
        Checkpoint::open(dir.path()).unwrap().infer(&inputs(JOINTS))
    };
    assert_eq!(with(1).unwrap(), Checkpoint::open(golden(JOINTS)).unwrap().infer(&inputs(JOINTS)).unwrap());
    assert_ne!(with(0).unwrap(), with(1).unwrap());
    let text = words(&with(3).unwrap_err());
    assert!(text.contains("the domain is 3") && text.contains("0 to 2"), "{text}");
}

#[test]
fn images_and_domains_come_as_in_training() {
    for step in ["xvla_imagenet_normalize", "xvla_add_domain_id"] {
        let error = open_after(CASE, |dir| {
            edit_json(&dir.join(PRE), |pre| pre["steps"].as_array_mut().unwrap().retain(|other| other["registry_name"] != step));
        });
        assert!(error.unwrap_err().to_string().contains(&format!("a {step} among them")));
    }
    // Brought to 0..255, images must be brought back.
    let scaled = |at: usize| {
        open_after(CASE, |dir| {
            edit_json(&dir.join(PRE), |pre| {
                let steps = pre["steps"].as_array_mut().unwrap();
                let bytes = steps.iter().position(|step| step["registry_name"] == "xvla_image_to_float").unwrap();
                steps.insert(bytes + at, json!({"registry_name": "xvla_image_scale", "config": {"image_keys": null}}));
            });
        })
    };
    let answer = scaled(0).unwrap().infer(&inputs(CASE)).unwrap();
    let delta = common::max_delta(&answer.values, &Checkpoint::open(golden(CASE)).unwrap().infer(&inputs(CASE)).unwrap().values);
    assert!(delta < 1e-4, "{delta}");
    assert!(scaled(1).unwrap_err().to_string().contains("xvla_image_to_float"));
}

#[test]
fn cameras_may_stay_away_but_one() {
    let checkpoint = Checkpoint::open(golden(CASE)).unwrap();
    let state = || Inputs::new().vector("observation.state", vec![0.5; 8]).task("go");
    let image =
        |inputs: Inputs, name: &str, h: usize, w: usize| inputs.image(name, h, w, (0..h * w * 3).map(|i| (i % 251) as u8).collect());
    // They are fitted into the frame, whatever their size.
    assert_eq!(checkpoint.infer(&image(state(), "observation.images.image2", 17, 90)).unwrap().width, 20);
    let text = words(&checkpoint.infer(&state()).unwrap_err());
    assert!(text.contains("observation.images.image2"), "{text}");
}

#[test]
fn more_rows_than_there_are_positions_are_refused() {
    let long = "pick up the red cube and throw it away, then the green one, the blue one, and all others that are there";
    // Filled up, the short one is 20 tokens.
    for (key, value, task, says) in
        [("max_len_seq", 95, "go", "110 rows"), ("max_position_embeddings", 60, long, "max_position_embeddings")]
    {
        let dir = copy(CASE);
        edit_json(&dir.path().join(PRE), |pre| edit_step(pre, "tokenizer_processor", |step| step["config"]["truncation"] = json!(false)));
        if key == "max_len_seq" {
            edit_json(&dir.path().join(CONFIG), |config| config[key] = json!(value));
            edit_tensors(&dir.path().join(MODEL), |tensors| {
                let (_, shape, bytes) = tensors.get_mut("model.transformer.pos_emb").unwrap();
                bytes.truncate(bytes.len() / shape[1] * value);
                shape[1] = value;
            });
        }
        let text = words(&Checkpoint::open(dir.path()).unwrap().infer(&inputs(CASE).task(task)).unwrap_err());
        assert!(text.contains(says), "{key}: {text}");
    }
}
