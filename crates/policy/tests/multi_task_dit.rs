//! Multi-Task DiT: what makes no network is refused, and CLIPs are found and read as transformers does.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "what fails here fails the test")]

mod common;

use std::error::Error;
use std::path::PathBuf;

use common::{copy, edit_json, golden, open_after, refuses_values, superfluous_tensors};
use serde_json::{Value, json};
use sinew_policy::{Checkpoint, Inputs, OpenOptions, Resources};

const CASE: &str = "multi_task_dit/as_published";
const SEPARATE: &str = "multi_task_dit/separate_encoders";
const CONFIG: &str = "config.json";

fn inputs(case: &str) -> Inputs {
    Inputs::read(&golden(case).join("inputs.safetensors")).unwrap()
}

fn words(error: &dyn Error) -> String {
    std::iter::successors(Some(error), |error| (*error).source()).map(ToString::to_string).collect::<Vec<_>>().join(": ")
}

#[test]
fn values_that_make_no_network_are_refused_by_name() {
    let values = [
        ("n_obs_steps", json!(0)),
        ("horizon", json!(1)),
        ("horizon", json!(1_u64 << 62)),
        ("n_action_steps", json!(0)),
        ("objective", json!("consistency")),
        ("noise_scheduler_type", json!("PNDM")),
        ("beta_schedule", json!("exponential")),
        ("prediction_type", json!("v_prediction")),
        ("beta_start", json!(0.5)),
        ("clip_sample_range", json!(-1.0)),
        ("num_train_timesteps", json!(0)),
        ("num_inference_steps", json!(101)),
        ("hidden_dim", json!(25)),
        // Three heads of five.
        ("hidden_dim", json!(15)),
        ("num_layers", json!(0)),
        ("num_heads", json!(0)),
        ("timestep_embed_dim", json!(2)),
        ("timestep_embed_dim", json!(9)),
        ("rope_base", json!(0.0)),
        ("vision_encoder_name", json!("google/siglip-base")),
        ("text_encoder_name", json!("bert")),
        ("image_resize_shape", json!([10, 1_000_000])),
        ("image_crop_shape", json!([0, 32])),
        // What becomes of the images is not what the encoder takes.
        ("image_crop_shape", json!([32, 31])),
        ("image_crop_shape", json!([41, 32])),
        ("image_crop_shape", Value::Null),
    ];
    refuses_values(CASE, CONFIG, values);
    let flow = [("integration_method", json!("heun")), ("num_integration_steps", json!(0))];
    refuses_values("multi_task_dit/flow_euler", CONFIG, flow);
}

#[test]
fn encoders_that_cannot_be_run_are_refused() {
    let refused = |of: &str, part: &str, key: &str, value: Value, says: &str| {
        let error = open_after(SEPARATE, |dir| {
            edit_json(&dir.join(of).join(CONFIG), |json| *json.pointer_mut(&format!("{part}/{key}")).unwrap() = value.clone());
        });
        let text = words(&error.unwrap_err());
        assert!(text.contains(says), "{key} {value}: {text}");
    };
    for (key, value, says) in [
        ("patch_size", json!(0), "image_size is 30 with patches of 0"),
        ("num_channels", json!(1), "num_channels is 1"),
        ("hidden_act", json!("swiglu"), "hidden_act is swiglu"),
        ("num_attention_heads", json!(5), "24 with 5 heads"),
        ("num_hidden_layers", json!(1), "tensors are in no use"),
        ("hidden_size", json!(27), "expected"),
        ("image_size", json!(35), "images of 35x35"),
        ("model_type", json!("siglip_vision_model"), "model_type is siglip_vision_model"),
    ] {
        refused("clip-vision", "", key, value, says);
    }
    for (key, value, says) in [
        ("max_position_embeddings", json!(0), "max_position_embeddings is 0"),
        ("max_position_embeddings", json!(21), "position_embedding"),
        ("vocab_size", json!(7), "token_embedding"),
        ("eos_token_id", json!([2, 3]), "invalid type"),
        ("model_type", json!("clip_vision_model"), "model_type is clip_vision_model"),
    ] {
        refused("some/CLIP-text", "", key, value, says);
    }
    let error = open_after(CASE, |dir| std::fs::remove_file(dir.join("clip/config.json")).unwrap()).unwrap_err();
    assert!(words(&error).contains("config.json of clip"), "{}", words(&error));
    // Keys of a whole CLIP are named with the encoder's.
    let error = open_after(CASE, |dir| edit_json(&dir.join("clip/config.json"), |json| json["vision_config"]["patch_size"] = json!(99)));
    assert!(words(&error.unwrap_err()).contains("vision_config.image_size"));
}

#[test]
fn every_tensor_is_needed_but_a_norm_of_the_vision_encoders() {
    for (case, cameras) in [(CASE, 1), (SEPARATE, 2)] {
        let (count, unused) = superfluous_tensors(case);
        assert!(count > 80, "{count}");
        assert_eq!(unused.len(), 2 * cameras, "{unused:?}");
        assert!(unused.iter().all(|name| name.contains(".vision_model.post_layernorm.")), "{case}: {unused:?}");
        assert!(Checkpoint::open(golden(case)).unwrap().info().unknown_keys.is_empty());
    }
}

#[test]
fn images_that_are_resized_may_have_any_size_and_others_not() {
    let image = |h: usize, w: usize| (0..h * w * 3).map(|i| (i % 251) as u8).collect();
    let resizing = Checkpoint::open(golden("multi_task_dit/padding_is_the_end")).unwrap();
    let state = |n| Inputs::new().vector("observation.state", vec![1.0; n]).task("go");
    assert_eq!(resizing.infer(&state(2).image("observation.images.top", 90, 31, image(90, 31))).unwrap().width, 3);
    let fixed = Checkpoint::open(golden("multi_task_dit/flow_euler")).unwrap();
    assert!(fixed.infer(&state(5).image("observation.images.front", 32, 32, image(32, 32))).is_ok());
    let error = fixed.infer(&state(5).image("observation.images.front", 32, 33, image(32, 33))).unwrap_err();
    assert!(error.to_string().contains("33x32"), "{error}");
}

#[test]
fn a_text_that_is_longer_than_the_encoder_takes_is_refused() {
    let dir = copy("multi_task_dit/flow_rk4");
    edit_json(&dir.path().join("policy_preprocessor.json"), |pre| {
        for step in pre["steps"].as_array_mut().unwrap().iter_mut().filter(|step| step["registry_name"] == "tokenizer_processor") {
            step["config"]["truncation"] = json!(false);
        }
    });
    let checkpoint = Checkpoint::open(dir.path()).unwrap();
    let long = "pick up the red cube and throw it away, then the green one, the blue one, and all others that are there";
    let error = checkpoint.infer(&inputs("multi_task_dit/flow_rk4").task(long)).unwrap_err();
    assert!(words(&error).contains("expected 1 to 20"), "{}", words(&error));
}

#[test]
fn noise_is_drawn_from_the_seed_alone_unless_it_is_given() {
    let checkpoint = Checkpoint::open(golden("multi_task_dit/flow_rk4")).unwrap();
    let inputs = || Inputs::new().vector("observation.state", vec![1.0; 4]).task("go");
    let answer = |inputs: &Inputs| checkpoint.infer(inputs).unwrap().values;
    assert_eq!(answer(&inputs().seed(1)), answer(&inputs().seed(1)));
    assert_ne!(answer(&inputs().seed(1)), answer(&inputs().seed(2)));
}

/// Repositories as folders, and which files were asked for.
#[derive(Debug)]
struct Hub(PathBuf, std::sync::Mutex<Vec<String>>);

impl Resources for Hub {
    fn find(&self, repo: &str, file: &str) -> Result<Option<PathBuf>, Box<dyn Error + Send + Sync>> {
        self.1.lock().unwrap().push(format!("{repo}/{file}"));
        Ok(Some(self.0.join(repo).join(file)).filter(|path| path.is_file()))
    }
}

#[test]
fn encoders_and_the_tokenizer_come_from_the_repositories_that_are_named() {
    let dir = copy(SEPARATE);
    let hub = Hub(golden(SEPARATE), std::sync::Mutex::default());
    for folder in ["clip-vision", "some"] {
        std::fs::remove_dir_all(dir.path().join(folder)).unwrap();
    }
    assert!(words(&Checkpoint::open(dir.path()).unwrap_err()).contains("config.json of clip-vision"));
    let checkpoint = OpenOptions::new().resources(&hub).open(dir.path()).unwrap();
    assert_eq!(checkpoint.infer(&inputs(SEPARATE)).unwrap(), Checkpoint::open(golden(SEPARATE)).unwrap().infer(&inputs(SEPARATE)).unwrap());
    let asked = hub.1.lock().unwrap().clone();
    for file in ["clip-vision/config.json", "some/CLIP-text/config.json", "some/CLIP-text/tokenizer.json"] {
        assert!(asked.iter().any(|path| path == file), "{file}: {asked:?}");
    }
    // Nothing of the encoders but their dimensions, as their weights are in the checkpoint.
    assert!(asked.iter().all(|path| path.ends_with(".json")), "{asked:?}");
}

/// The dimensions of the published one need no file; the tensors tell that they are others here.
#[test]
fn the_usual_encoder_needs_no_file() {
    let error = open_after("multi_task_dit/flow_rk4", |dir| {
        edit_json(&dir.join(CONFIG), |config| config["text_encoder_name"] = json!("openai/clip-vit-base-patch16"));
    });
    assert!(words(&error.unwrap_err()).contains("[49408, 512]"));
}
