//! What is particular to the π policies, beyond what their golden cases show.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "what fails here fails the test")]

mod common;

use std::error::Error;
use std::path::Path;

use common::{copy, edit_json, edit_tensors, golden, max_delta, read_floats};
use safetensors::tensor::Dtype;
use serde_json::{Value, json};
use sinew_policy::{Actions, Checkpoint, Chunk, Guidance, GuidanceMode, GuidanceSettings, Inputs};

fn inputs(case: &str) -> Inputs {
    Inputs::read(&golden(case).join("inputs.safetensors")).unwrap()
}

fn answer(dir: &Path, case: &str) -> Vec<f32> {
    Checkpoint::open(dir).unwrap().infer(&inputs(case)).unwrap().values
}

fn expected(case: &str) -> Vec<f32> {
    read_floats(&golden(case).join("expected.safetensors"), "action").1
}

/// An error with all its causes.
fn words(error: &dyn Error) -> String {
    let mut words = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        words += &format!(": {error}");
        cause = error.source();
    }
    words
}

const TABLE: &str = "model.paligemma_with_expert.paligemma.model.language_model.embed_tokens.weight";
const HEAD: &str = "model.paligemma_with_expert.paligemma.lm_head.weight";
const EXPERT_HEAD: &str = "model.paligemma_with_expert.gemma_expert.lm_head.weight";

#[test]
fn every_tensor_is_needed_but_those_of_training() {
    for (case, unused) in
        [("pi0/two_cameras", &[HEAD, EXPERT_HEAD][..]), ("pi05/odd_sizes", &[HEAD, EXPERT_HEAD]), ("pi0_fast/cut_short", &[])]
    {
        let mut names = Vec::new();
        let folder = copy(case);
        let weights = folder.path().join("model.safetensors");
        edit_tensors(&weights, |tensors| names.extend(tensors.keys().cloned()));
        assert!(names.len() > 30, "{case}");
        for name in names {
            // Either of these stands in for the other.
            if [TABLE, HEAD].contains(&name.as_str()) {
                continue;
            }
            let mut taken = None;
            edit_tensors(&weights, |tensors| taken = tensors.remove(&name));
            match Checkpoint::open(folder.path()) {
                Ok(_) => assert!(unused.contains(&name.as_str()), "{case} does without {name}"),
                Err(error) => {
                    let error = words(&error);
                    assert!(error.contains(&name) && !unused.contains(&name.as_str()), "{case} without {name}: {error}");
                }
            }
            edit_tensors(&weights, |tensors| drop(tensors.insert(name, taken.unwrap())));
        }
    }
}

/// Where the table of tokens is missing, the language model's head is it, and the other way round.
#[test]
fn the_table_of_tokens_and_the_head_stand_in_for_each_other() {
    let case = "pi0/two_cameras";
    let folder = copy(case);
    edit_tensors(&folder.path().join("model.safetensors"), |tensors| {
        let table = tensors.remove(TABLE).unwrap();
        tensors.insert(HEAD.into(), table);
    });
    assert!(max_delta(&answer(folder.path(), case), &expected(case)) < 1e-4);

    let case = "pi0_fast/two_cameras";
    let [tied, headless] = [copy(case), copy(case)];
    edit_tensors(&tied.path().join("model.safetensors"), |tensors| {
        let table = tensors[TABLE].clone();
        tensors.insert(HEAD.into(), table);
    });
    edit_tensors(&headless.path().join("model.safetensors"), |tensors| drop(tensors.remove(HEAD).unwrap()));
    // Such a model writes no actions; it must write the same.
    let [tied, headless] = [tied, headless].map(|folder| {
        let checkpoint = Checkpoint::open(folder.path()).unwrap();
        checkpoint.infer(&inputs(case)).map_err(|error| words(&error))
    });
    assert_eq!(tied, headless);
}

#[test]
fn what_makes_no_network_is_refused() {
    for (case, key, value, says) in [
        ("pi0/two_cameras", "paligemma_variant", json!("gemma_7b"), "paligemma_variant is gemma_7b"),
        ("pi0/two_cameras", "action_expert_variant", json!("gemma_7b"), "action_expert_variant is gemma_7b"),
        ("pi0/two_cameras", "dtype", json!("float16"), "dtype is float16"),
        ("pi0/two_cameras", "chunk_size", json!(1u64 << 40), "chunk_size is 1099511627776"),
        ("pi0/two_cameras", "n_action_steps", json!(7), "n_action_steps is 7"),
        ("pi0/two_cameras", "num_inference_steps", json!(0), "num_inference_steps is 0"),
        ("pi0/two_cameras", "min_period", json!(-1.0), "min_period is -1"),
        ("pi0/two_cameras", "image_resolution", json!([16, 18]), "image_resolution is [16, 18]"),
        ("pi0/two_cameras", "image_resolution", json!([20, 20]), "position_embedding"),
        ("pi0/two_cameras", "image_resolution", json!([2, 2]), "patch_embedding"),
        ("pi0/two_cameras", "max_state_dim", json!(5), "max_state_dim is 5"),
        ("pi0/two_cameras", "max_state_dim", json!(10), "state_proj"),
        ("pi0/two_cameras", "max_action_dim", json!(5), "max_action_dim is 5"),
        ("pi0/two_cameras", "max_action_dim", json!(9), "action_in_proj"),
        (
            "pi0/two_cameras",
            "input_features/observation.images.front/shape",
            json!([1, 48, 64]),
            "observation.images.front is VISUAL [1, 48, 64]",
        ),
        ("pi0/two_cameras", "input_features/observation.images.front/shape", json!([3, 48, 1u64 << 40]), "at most 8192 a side"),
        ("pi0/two_cameras", "input_features/observation.state/shape", json!([6, 1]), "observation.state is STATE [6, 1]"),
        ("pi0_fast/cut_short", "max_action_dim", json!(1u64 << 40), "max_action_dim is 1099511627776"),
        ("pi0/guided", "rtc_config/max_guidance_weight", json!(0.0), "max_guidance_weight is 0"),
        ("pi05/trained", "rtc_config/mode", json!("learned"), "unknown variant `learned`"),
        ("pi05/trained", "rtc_training_max_delay", json!(0), "rtc_config.mode is trained"),
        ("pi05/trained", "rtc_training_max_delay", json!(6), "rtc_training_max_delay is 6"),
        ("pi05/trained", "use_visual_memory", json!(true), "use_visual_memory is true"),
        ("pi05/trained", "use_proprioceptive_memory", json!(true), "use_proprioceptive_memory is true"),
        ("pi0/two_cameras", "type", json!("pi05"), "expected the tokens of sentence and state"),
        ("pi05/two_cameras", "type", json!("pi0"), "expected the tokens of the sentence with a line feed"),
        ("pi0_fast/cut_short", "temperature", json!(-0.5), "temperature is -0.5"),
        ("pi0_fast/cut_short", "max_decoding_steps", json!(0), "max_decoding_steps is 0"),
        ("pi0_fast/cut_short", "fast_skip_tokens", json!(100_000), "fast_skip_tokens is 100000"),
        ("pi0_fast/cut_short", "action_tokenizer_name", json!("nobody/nothing"), "processor_config.json of nobody/nothing"),
    ] {
        let folder = copy(case);
        edit_json(&folder.path().join("config.json"), |json| *json.pointer_mut(&format!("/{key}")).unwrap() = value.clone());
        let error = words(&Checkpoint::open(folder.path()).unwrap_err());
        assert!(error.contains(says), "{case} with {key} {value}: {error}");
    }
}

#[test]
fn heads_that_do_not_divide_and_layers_that_are_not_there_are_refused() {
    let language = "model.paligemma_with_expert.paligemma.model.language_model.layers";
    let zeros = |shape: &[usize]| (Dtype::F32, shape.to_vec(), vec![0; 4 * shape.iter().product::<usize>()]);
    for (name, shape, says) in [
        (format!("{language}.0.self_attn.q_proj.weight"), [30, 24], "[30, 24], expected [64, 24]"),
        (format!("{language}.0.self_attn.k_proj.weight"), [7, 24], "[7, 24], expected [256"),
        (format!("{language}.0.self_attn.k_proj.weight"), [0, 24], "[0, 24], expected [256"),
        (format!("{language}.0.mlp.gate_proj.weight"), [41, 24], "up_proj"),
        (format!("{language}.2.self_attn.k_proj.weight"), [8, 24], "layers.2"),
        (format!("{language}.18446744073709551615.self_attn.k_proj.weight"), [8, 24], "layers.2"),
        ("model.paligemma_with_expert.gemma_expert.model.layers.2.mlp.up_proj.weight".into(), [28, 16], "gemma_expert.model.layers.2"),
        ("model.paligemma_with_expert.gemma_expert.model.layers.1.self_attn.k_proj.weight".into(), [16, 16], "expected [8, 16]"),
        ("model.paligemma_with_expert.paligemma.model.multi_modal_projector.linear.weight".into(), [24, 31], "expected [24, 32]"),
    ] {
        let folder = copy("pi0/two_cameras");
        edit_tensors(&folder.path().join("model.safetensors"), |tensors| drop(tensors.insert(name.clone(), zeros(&shape))));
        let error = words(&Checkpoint::open(folder.path()).unwrap_err());
        assert!(error.contains(says), "{name} as {shape:?}: {error}");
    }
}

#[test]
fn rows_are_given_only_where_the_policy_was_trained_for_so_many() {
    use GuidanceMode::{Guided, Trained};
    let guidance = |mode, rows: usize, inference_delay| {
        let actions = Actions { rows, width: 5, values: vec![0.5; 5 * rows] };
        let previous = Chunk { normalized: actions.clone(), actions };
        Guidance { previous, inference_delay, settings: GuidanceSettings { mode, ..GuidanceSettings::default() } }
    };
    let run = |case: &str, guidance: &Guidance| {
        let chunk = Checkpoint::open(golden(case)).unwrap().infer_chunk(&inputs(case), Some(guidance));
        chunk.map(|chunk| chunk.normalized.values).map_err(|error| words(&error))
    };
    let refused = |case, guidance: &Guidance, says: &str| {
        let error = run(case, guidance).unwrap_err();
        assert!(error.contains(says), "{case}: {error}");
    };
    let chunk = run("pi05/trained", &guidance(Trained, 4, 3)).unwrap();
    let is_given = |row: &[f32]| row[..5] == [0.5; 5] && row[5] == 0.0;
    assert!(chunk.chunks_exact(6).zip(0..).all(|(row, i)| is_given(row) == (i < 3)), "{chunk:?}");
    refused("pi05/trained", &guidance(Trained, 5, 4), "4 rows are given to continue, expected at most 3");
    refused("pi05/trained", &guidance(Trained, 1, 2), "2 rows are to be given, expected at most the 1");
    refused("pi05/guided", &guidance(Trained, 4, 1), "rtc_training_max_delay 0");
    refused("pi0/guided", &guidance(Trained, 4, 1), "the pi0 policy");
    // None are given where none are executed meanwhile, and any policy can be pulled.
    assert_eq!(run("pi05/trained", &guidance(Trained, 4, 0)).unwrap(), {
        let checkpoint = Checkpoint::open(golden("pi05/trained")).unwrap();
        checkpoint.infer_chunk(&inputs("pi05/trained"), None).unwrap().normalized.values
    });
    assert!(run("pi05/trained", &guidance(Guided, 4, 3)).is_ok());

    // A mode that is switched off is no reason to refuse the checkpoint.
    let folder = copy("pi05/trained");
    edit_json(&folder.path().join("config.json"), |json| {
        json["rtc_training_max_delay"] = json!(0);
        json["rtc_config"]["enabled"] = json!(false);
    });
    assert!(max_delta(&answer(folder.path(), "pi05/trained"), &expected("pi05/trained")) < 1e-4);
}

#[test]
fn an_observation_without_any_image_is_refused() {
    let case = "pi0/missing_cameras";
    let checkpoint = Checkpoint::open(golden(case)).unwrap();
    let blind = Inputs::new().vector("observation.state", vec![0.0; 5]).task("look");
    let error = words(&checkpoint.infer(&blind).unwrap_err());
    assert!(error.contains("no image was given") && error.contains("observation.images.left"), "{error}");
}

#[test]
fn the_table_of_tokens_stays_in_the_file() {
    let folder = copy("pi0/two_cameras");
    let before = Checkpoint::open(folder.path()).unwrap().info().clone();
    edit_tensors(&folder.path().join("model.safetensors"), |tensors| {
        let (_, shape, data) = tensors.get_mut(TABLE).unwrap();
        shape[0] += 1000;
        data.extend(vec![0; 1000 * shape[1] * 4]);
    });
    let after = Checkpoint::open(folder.path()).unwrap().info().clone();
    assert_eq!(after.parameters, before.parameters + 1000 * 24);
    assert_eq!(after.memory_bytes, before.memory_bytes);
}

/// What the model writes: `rows` of its head, all others zero.
fn writes(folder: &Path, rows: &[(usize, f32)]) {
    edit_tensors(&folder.join("model.safetensors"), |tensors| {
        let (_, shape, data) = tensors.get_mut(HEAD).unwrap();
        let mut values = vec![0.0f32; shape[0] * shape[1]];
        for (row, value) in rows {
            values[row * shape[1]..][..shape[1]].fill(*value);
        }
        *data = values.iter().flat_map(|value| value.to_le_bytes()).collect();
    });
}

#[test]
fn what_is_no_action_is_refused() {
    let case = "pi0_fast/two_cameras";
    let folder = copy(case);
    let config = folder.path().join("config.json");
    // All tokens weigh the same: the first of them, which is for padding, is written.
    writes(folder.path(), &[]);
    let error = words(&Checkpoint::open(folder.path()).unwrap().infer(&inputs(case)).unwrap_err());
    assert!(error.contains("begin with [0, 0]"), "{error}");

    edit_json(&config, |json| json["validate_action_token_prefix"] = Value::Bool(false));
    // FAST has no such token, and LeRobot passes over those: no coefficient is left.
    let still = answer(folder.path(), case);
    assert!(still.chunks_exact(5).all(|row| row == &still[..5]), "{still:?}");

    // Whatever the sign of the last row's sum, one of two tokens behind those of actions is written.
    let (mut size, weights) = (0, folder.path().join("model.safetensors"));
    edit_tensors(&weights, |tensors| size = tensors[HEAD].1[0]);
    writes(folder.path(), &[(size - 1, 1.0), (size - 2, -1.0)]);
    let error = words(&Checkpoint::open(folder.path()).unwrap().infer(&inputs(case)).unwrap_err());
    assert!(error.contains("among the actions, expected at most"), "{error}");
}

#[test]
fn tokens_are_drawn_at_a_temperature() {
    let case = "pi0_fast/cut_short";
    let folder = copy(case);
    let at = |temperature: f64, seed: u64| {
        edit_json(&folder.path().join("config.json"), |json| json["temperature"] = json!(temperature));
        Checkpoint::open(folder.path()).unwrap().infer(&inputs(case).seed(seed)).unwrap().values
    };
    assert!(max_delta(&at(1e-6, 1), &expected(case)) < 1e-4);
    assert_eq!(at(1.0, 2), at(1.0, 2));
    assert_ne!(at(1.0, 2), at(1.0, 3));
}

#[test]
fn the_tokenizers_of_fast_must_have_what_is_needed() {
    let case = "pi0_fast/cut_short";
    let fast = "lerobot/fast-action-tokenizer";
    let broken = |file: &str, edit: &dyn Fn(&mut Value), says: &str| {
        let folder = copy(case);
        edit_json(&folder.path().join(file), |json| edit(json));
        let error = words(&Checkpoint::open(folder.path()).unwrap_err());
        assert!(error.contains(says), "{file}: {error}");
    };
    broken(&format!("{fast}/processor_config.json"), &|json| json["scale"] = json!(0.0), "scale and min_token is 0");
    broken(&format!("{fast}/tokenizer.json"), &|json| json["model"] = json!(3), "tokenizer.json");
    let rename = |from: &'static str| {
        move |json: &mut Value| {
            let vocabulary = json["model"]["vocab"].as_object_mut().unwrap();
            let id = vocabulary.remove(from).unwrap();
            vocabulary.insert("something else".into(), id);
        }
    };
    broken("tokenizer.json", &rename("|"), "lacks the token \"|\"");
    broken("tokenizer_config.json", &|json| json["bos_token"] = json!("<nothing>"), "lacks a bos_token");

    let folder = copy(case);
    std::fs::remove_file(folder.path().join(fast).join("tokenizer.json")).unwrap();
    let error = words(&Checkpoint::open(folder.path()).unwrap_err());
    assert!(error.contains(fast) && error.contains("tokenizer.json"), "{error}");
}
