//! What is no checkpoint that can be run is refused by name, before any weight is read.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "what fails here fails the test")]

mod common;

use std::path::Path;

use common::{copy, edit_json, edit_tensors, golden};
use safetensors::tensor::Dtype;
use serde_json::{Value, json};
use sinew_policy::{Checkpoint, CheckpointError, InferError, Inputs, OpenOptions};

const CASE: &str = "act/two_cameras_vae";
const MODEL: &str = "model.safetensors";
const CONFIG: &str = "config.json";
const PRE: &str = "policy_preprocessor.json";
const PRE_STATE: &str = "policy_preprocessor_step_3_normalizer_processor.safetensors";
const POST_STATE: &str = "policy_postprocessor_step_0_unnormalizer_processor.safetensors";

fn refusal(dir: &Path) -> (CheckpointError, String) {
    let error = Checkpoint::open(dir).unwrap_err();
    let text = error.to_string();
    assert!(text.contains(dir.to_str().unwrap()), "an error says where: {text}");
    (error, text)
}

fn after(edit: impl FnOnce(&Path)) -> (CheckpointError, String) {
    let dir = copy(CASE);
    Checkpoint::open(dir.path()).unwrap();
    edit(dir.path());
    refusal(dir.path())
}

fn config_refusal(key: &str, value: Value) -> String {
    let (error, text) = after(|dir| edit_json(&dir.join(CONFIG), |config| config[key] = value));
    assert!(matches!(&error, CheckpointError::Config { key: k, .. } if k == key), "{text}");
    text
}

#[test]
fn a_folder_that_is_no_checkpoint_says_what_it_holds() {
    let dir = tempfile::tempdir().unwrap();
    let (error, text) = refusal(dir.path());
    assert!(matches!(error, CheckpointError::NotACheckpoint { .. }) && text.contains("config.json") && text.contains("empty"), "{text}");
    std::fs::write(dir.path().join("holiday.jpg"), "").unwrap();
    assert!(refusal(dir.path()).1.contains("holiday.jpg"));
    let (error, _) = refusal(&dir.path().join("holiday.jpg"));
    assert!(matches!(error, CheckpointError::NotACheckpoint { .. }));
    let (error, _) = refusal(&dir.path().join("nowhere"));
    assert!(matches!(error, CheckpointError::Read { .. }));
}

#[test]
fn pickles_are_never_opened() {
    for name in ["pytorch_model.bin", "policy.pt", "policy.pkl", "last.ckpt"] {
        let (error, text) = after(|dir| std::fs::rename(dir.join(MODEL), dir.join(name)).unwrap());
        assert!(matches!(error, CheckpointError::Pickle { .. }) && text.contains(name), "{text}");
        let (error, _) = after(|dir| edit_json(&dir.join(PRE), |pre| pre["steps"][3]["state_file"] = json!(name)));
        assert!(matches!(error, CheckpointError::Pickle { .. }));
    }
    let (error, _) = refusal(Path::new("policy.pt"));
    assert!(matches!(error, CheckpointError::Pickle { .. }));
}

#[test]
fn a_state_file_is_in_the_folder() {
    for name in ["../policy.safetensors", "/etc/passwd", "..", ""] {
        let (error, text) = after(|dir| edit_json(&dir.join(PRE), |pre| pre["steps"][3]["state_file"] = json!(name)));
        assert!(matches!(error, CheckpointError::Config { .. }), "{text}");
    }
}

#[test]
fn a_truncated_file_says_how_much_is_missing() {
    let whole = std::fs::metadata(golden(CASE).join(MODEL)).unwrap().len();
    for cut in [whole - 1, whole / 2, 100] {
        let shorten = |dir: &Path| std::fs::OpenOptions::new().write(true).open(dir.join(MODEL)).unwrap().set_len(cut).unwrap();
        let (error, text) = after(shorten);
        let CheckpointError::Truncated { found, expected, .. } = error else { panic!("{text}") };
        assert_eq!(found, cut);
        assert!(cut == 100 || expected == whole, "{text}");
    }
    for bytes in [&b""[..], b"abc", b"\xff\xff\xff\xff\xff\xff\xff\xff{}", b"\x02\0\0\0\0\0\0\0[]"] {
        let (error, text) = after(|dir| std::fs::write(dir.join(MODEL), bytes).unwrap());
        assert!(matches!(error, CheckpointError::Header { .. } | CheckpointError::Read { .. }), "{text}");
    }
}

#[test]
fn another_family_is_refused_with_the_list_of_known_ones() {
    let (error, text) = after(|dir| edit_json(&dir.join(CONFIG), |config| config["type"] = json!("tdmpc")));
    assert!(matches!(error, CheckpointError::UnknownFamily { .. }) && text.contains("tdmpc") && text.contains("act"), "{text}");
    config_refusal("type", json!(null));
}

#[test]
fn every_tensor_is_needed_and_none_is_left_over() {
    let dir = copy(CASE);
    let mut names = Vec::new();
    edit_tensors(&dir.path().join(MODEL), |tensors| names.extend(tensors.keys().cloned()));
    for name in names {
        let training_only = name.starts_with("model.vae_encoder");
        edit_tensors(&dir.path().join(MODEL), |tensors| drop(tensors.remove(&name)));
        match Checkpoint::open(dir.path()) {
            Ok(_) => assert!(training_only, "{name} was not missed"),
            Err(error) => {
                let CheckpointError::MissingTensor { name: missing, .. } = error else { panic!("{name}: {error}") };
                assert_eq!(missing, name);
            }
        }
        std::fs::copy(golden(CASE).join(MODEL), dir.path().join(MODEL)).unwrap();
    }
    let (error, text) = after(|dir| {
        edit_tensors(&dir.join(MODEL), |tensors| drop(tensors.insert("model.mystery".into(), (Dtype::F32, vec![1], vec![0; 4]))));
    });
    assert!(matches!(error, CheckpointError::UnusedTensors { .. }) && text.contains("model.mystery"), "{text}");
}

#[test]
fn every_tensor_has_the_shape_and_dtype_that_the_others_imply() {
    let dir = copy(CASE);
    let mut names = Vec::new();
    edit_tensors(&dir.path().join(MODEL), |tensors| names.extend(tensors.keys().cloned()));
    for name in names.iter().filter(|name| !name.starts_with("model.vae_encoder")) {
        // One more in the first dimension.
        edit_tensors(&dir.path().join(MODEL), |tensors| {
            let (_, shape, bytes) = tensors.get_mut(name).unwrap();
            let row = bytes.len() / shape[0];
            shape[0] += 1;
            bytes.resize(bytes.len() + row, 0);
        });
        let error = Checkpoint::open(dir.path()).unwrap_err();
        assert!(matches!(error, CheckpointError::WrongShape { .. }), "{name}: {error}");
        std::fs::copy(golden(CASE).join(MODEL), dir.path().join(MODEL)).unwrap();
    }
    let (error, text) =
        after(|dir| edit_tensors(&dir.join(MODEL), |tensors| tensors.get_mut("model.action_head.bias").unwrap().0 = Dtype::I32));
    assert!(matches!(error, CheckpointError::WrongDtype { .. }) && text.contains("I32"), "{text}");
}

#[test]
fn a_configuration_that_disagrees_with_the_weights_is_refused() {
    for (key, value) in [
        ("chunk_size", json!(21)),
        ("dim_model", json!(64)),
        ("n_encoder_layers", json!(3)),
        ("pre_norm", json!(true)),
        ("vision_backbone", json!("resnet34")),
    ] {
        let (error, text) = after(|dir| edit_json(&dir.join(CONFIG), |config| config[key] = value));
        assert!(matches!(error, CheckpointError::WrongShape { .. } | CheckpointError::MissingTensor { .. }), "{key}: {text}");
    }
    let (error, _) = after(|dir| edit_json(&dir.join(CONFIG), |config| config["n_encoder_layers"] = json!(1)));
    assert!(matches!(error, CheckpointError::UnusedTensors { .. }));
}

#[test]
fn a_configuration_that_makes_no_network_is_refused() {
    config_refusal("n_obs_steps", json!(2));
    config_refusal("n_action_steps", json!(21));
    config_refusal("n_action_steps", json!(0));
    config_refusal("vision_backbone", json!("vit_b_16"));
    assert!(config_refusal("feedforward_activation", json!("glu")).contains("LeRobot"));
    config_refusal("replace_final_stride_with_dilation", json!(2));
    config_refusal("dim_model", json!(30));
    let (error, _) = after(|dir| edit_json(&dir.join(CONFIG), |config| config["dim_model"] = json!("big")));
    assert!(matches!(error, CheckpointError::Json { .. }));
    for (feature, value) in [
        ("observation.images.front", json!({"type": "VISUAL", "shape": [1, 96, 128]})),
        ("observation.images.front", json!({"type": "VISUAL", "shape": [3, 0, 128]})),
        ("observation.images.front", json!({"type": "VISUAL", "shape": [3, 96, 1_000_000_000]})),
        ("observation.state", json!({"type": "STATE", "shape": [0]})),
        ("observation.smell", json!({"type": "STATE", "shape": [6]})),
    ] {
        let (error, text) = after(|dir| edit_json(&dir.join(CONFIG), |config| config["input_features"][feature] = value));
        assert!(matches!(error, CheckpointError::Config { .. }) && text.contains(feature), "{text}");
    }
    let big = json!({"type": "VISUAL", "shape": [3, 8192, 8192]});
    let (error, text) = after(|dir| edit_json(&dir.join(CONFIG), |config| config["input_features"]["observation.images.front"] = big));
    assert!(matches!(error, CheckpointError::Config { .. }) && text.contains("16384"), "{text}");
    let (error, _) = after(|dir| std::fs::write(dir.join(CONFIG), "{").unwrap());
    assert!(matches!(error, CheckpointError::Json { .. }));
    let (error, _) = after(|dir| std::fs::write(dir.join(CONFIG), vec![b' '; (16 << 20) + 1]).unwrap());
    assert!(matches!(error, CheckpointError::TooBig { .. }));
}

#[test]
fn every_normalised_feature_has_its_statistics() {
    for (file, statistic) in
        [(PRE_STATE, "observation.state.mean"), (PRE_STATE, "observation.images.front.std"), (POST_STATE, "action.mean")]
    {
        let (error, text) = after(|dir| edit_tensors(&dir.join(file), |tensors| drop(tensors.remove(statistic))));
        assert!(matches!(error, CheckpointError::MissingStats { .. }), "{text}");
        let (feature, stat) = statistic.rsplit_once('.').unwrap();
        assert!(text.contains(feature) && text.contains(stat) && text.contains("MEAN_STD"), "{text}");
    }
    let (error, text) = after(|dir| {
        edit_tensors(&dir.join(POST_STATE), |tensors| drop(tensors.insert("action.mean".into(), (Dtype::F32, vec![5], vec![0; 20]))))
    });
    assert!(matches!(error, CheckpointError::WrongStats { expected: 6, .. }), "{text}");
    let (error, _) = after(|dir| edit_json(&dir.join(PRE), |pre| drop(pre["steps"][3].as_object_mut().unwrap().remove("state_file"))));
    assert!(matches!(error, CheckpointError::MissingStats { .. }));
    let (error, _) = after(|dir| std::fs::remove_file(dir.join(PRE_STATE)).unwrap());
    assert!(matches!(error, CheckpointError::Read { .. }));
}

#[test]
fn an_unknown_step_is_named() {
    let (error, text) = after(|dir| edit_json(&dir.join(PRE), |pre| pre["steps"][2]["registry_name"] = json!("smell_processor")));
    assert!(
        matches!(error, CheckpointError::UnknownStep { index: 2, .. })
            && text.contains("smell_processor")
            && text.contains("tokenizer_processor"),
        "{text}"
    );
    let (error, text) = after(|dir| {
        edit_json(&dir.join(PRE), |pre| pre["steps"][2] = json!({"class": "my.module.Step", "config": {}}));
    });
    assert!(matches!(error, CheckpointError::UnknownStep { .. }) && text.contains("my.module.Step"), "{text}");
    let (error, _) = after(|dir| edit_json(&dir.join(PRE), |pre| drop(pre["steps"].as_array_mut().unwrap().remove(1))));
    assert!(matches!(error, CheckpointError::Config { .. }));
    let (error, text) = after(|dir| edit_json(&dir.join(PRE), |pre| pre["steps"][2]["config"]["float_dtype"] = json!("float64")));
    assert!(matches!(error, CheckpointError::Config { .. }) && text.contains("float64"), "{text}");
}

#[test]
fn bf16_weights_are_taken() {
    let dir = copy(CASE);
    edit_tensors(&dir.path().join(MODEL), |tensors| {
        for (dtype, _, bytes) in tensors.values_mut() {
            *dtype = Dtype::BF16;
            *bytes = bytes.chunks_exact(4).flat_map(|b| [b[2], b[3]]).collect();
        }
    });
    let checkpoint = Checkpoint::open(dir.path()).unwrap();
    let inputs = Inputs::read(&golden(CASE).join("inputs.safetensors")).unwrap();
    let expected = Checkpoint::open(golden(CASE)).unwrap().infer(&inputs).unwrap();
    let delta = common::max_delta(&checkpoint.infer(&inputs).unwrap().values, &expected.values);
    assert!((1e-5..1.5).contains(&delta), "{delta}");
    assert_eq!(checkpoint.info().dtype, "BF16");
}

#[test]
fn inputs_that_do_not_fit_are_refused() {
    let checkpoint = Checkpoint::open(golden(CASE)).unwrap();
    let blank = || checkpoint.blank_inputs();
    let refused = |inputs: Inputs| checkpoint.infer(&inputs).unwrap_err().to_string();
    assert!(refused(Inputs::new()).contains("there is no"));
    assert!(refused(blank().vector("observation.state", vec![0.0; 7])).contains("7 values, expected 6"));
    assert!(refused(blank().image("observation.images.front", 64, 64, vec![0; 64 * 64 * 3])).contains("64x64 image, expected a 128x96"));
    // The bytes are fewer than the size says.
    refused(blank().image("observation.images.front", 96, 128, vec![0; 10]));
    let error = checkpoint.infer(&blank().vector("observation.state", vec![f32::NAN; 6])).unwrap_err();
    assert!(matches!(error, InferError::WrongInput { .. }) && error.to_string().contains("NaN"), "{error}");
}

/// Bytes changed at random are an error, or a checkpoint that still runs; never a panic.
#[test]
fn damage_never_panics() {
    let mut state = 1u64;
    let mut random = |below: usize| {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (state >> 33) as usize % below
    };
    let dir = copy("act/no_camera");
    let inputs = Inputs::read(&golden("act/no_camera").join("inputs.safetensors")).unwrap();
    let mut survived = 0;
    for file in [CONFIG, PRE, PRE_STATE, MODEL] {
        let path = dir.path().join(file);
        let whole = std::fs::read(&path).unwrap();
        for _ in 0..150 {
            let mut bytes = whole.clone();
            for _ in 0..=random(3) {
                let at = random(bytes.len().min(6000));
                bytes[at] = b"0123456789-{}[],\"\0\xff "[random(20)];
            }
            std::fs::write(&path, &bytes).unwrap();
            if let Ok(checkpoint) = Checkpoint::open(dir.path()) {
                survived += 1;
                let _ = checkpoint.infer(&inputs);
            }
        }
        std::fs::write(&path, whole).unwrap();
    }
    assert!((1..500).contains(&survived), "{survived} of 600 opened");
}

#[test]
fn nan_weights_are_refused_by_name_unless_they_are_allowed() {
    let dir = copy(CASE);
    for (name, value) in [("model.action_head.bias", f32::NAN), ("model.backbone.conv1.weight", f32::INFINITY)] {
        edit_tensors(&dir.path().join(MODEL), |tensors| {
            tensors.get_mut(name).unwrap().2[8..12].copy_from_slice(&value.to_le_bytes());
        });
    }
    let error = Checkpoint::open(dir.path()).unwrap().load().unwrap_err();
    let CheckpointError::NotFinite { names, .. } = &error else { panic!("{error}") };
    assert_eq!(names.len(), 2);
    assert!(error.to_string().contains("model.action_head.bias") && error.to_string().contains("model.backbone.conv1.weight"), "{error}");
    let checkpoint = OpenOptions::new().allow_nan(true).open(dir.path()).unwrap();
    checkpoint.load().unwrap();
    // What it answers is checked all the same.
    assert!(matches!(checkpoint.infer(&checkpoint.blank_inputs()), Err(InferError::NotFinite { .. })));
    let (error, _) = after(|dir| {
        edit_tensors(&dir.join(POST_STATE), |tensors| {
            tensors.get_mut("action.std").unwrap().2[..4].copy_from_slice(&f32::INFINITY.to_le_bytes());
        });
    });
    assert!(matches!(error, CheckpointError::NotFinite { .. }), "{error}");
}

#[test]
fn headers_that_promise_the_impossible_are_refused() {
    let header = |json: &str| [&(json.len() as u64).to_le_bytes(), json.as_bytes(), &[0; 64]].concat();
    let tensor = |start: u64, end: u64, shape: &str| format!(r#"{{"dtype":"F32","shape":{shape},"data_offsets":[{start},{end}]}}"#);
    let huge = 1u64 << 60;
    for bytes in [
        [&huge.to_le_bytes()[..], b"{}"].concat(),
        header(&format!(r#"{{"a":{}}}"#, tensor(0, huge, "[288230376151711744]"))),
        header(&format!(r#"{{"a":{}}}"#, tensor(0, 64, "[18446744073709551615, 18446744073709551615]"))),
        // Overlapping, with a hole, backwards, and longer than the shape says.
        header(&format!(r#"{{"a":{},"b":{}}}"#, tensor(0, 64, "[16]"), tensor(32, 64, "[8]"))),
        header(&format!(r#"{{"a":{},"b":{}}}"#, tensor(0, 16, "[4]"), tensor(32, 64, "[8]"))),
        header(&format!(r#"{{"a":{}}}"#, tensor(64, 0, "[16]"))),
        header(&format!(r#"{{"a":{}}}"#, tensor(0, 64, "[15]"))),
        header(&"[".repeat(100_000)),
    ] {
        for file in [MODEL, PRE_STATE] {
            let (error, text) = after(|dir| std::fs::write(dir.join(file), &bytes).unwrap());
            assert!(matches!(error, CheckpointError::Header { .. } | CheckpointError::Truncated { .. }), "{text}");
        }
        let folder = tempfile::tempdir().unwrap();
        std::fs::write(folder.path().join("inputs.safetensors"), &bytes).unwrap();
        Inputs::read(&folder.path().join("inputs.safetensors")).unwrap_err();
    }
}

#[test]
fn an_unknown_key_is_told_and_kept() {
    let dir = copy(CASE);
    edit_json(&dir.path().join(CONFIG), |config| config["dreams_per_second"] = json!(3));
    assert_eq!(Checkpoint::open(dir.path()).unwrap().info().unknown_keys, ["dreams_per_second"]);
    for case in common::cases() {
        assert_eq!(Checkpoint::open(golden(&case)).unwrap().info().unknown_keys, [""; 0], "{case}");
    }
}

/// What one family of several with the same network has, the others do not.
#[test]
fn a_key_of_another_family_is_unknown() {
    for (case, key, is_known) in [
        ("pi0/two_cameras", "temperature", false),
        ("pi0/two_cameras", "rtc_training_max_delay", false),
        ("pi05/two_cameras", "rtc_training_max_delay", true),
        ("pi0_fast/two_cameras", "text_tokenizer_name", true),
        ("pi0_fast/two_cameras", "num_inference_steps", false),
        ("smolvla/cross_attention", "pad_language_to", true),
        (CASE, "pad_language_to", false),
        (CASE, "kl_weight", true),
    ] {
        let dir = copy(case);
        edit_json(&dir.path().join(CONFIG), |config| {
            let known = config.get(key).cloned();
            config[key] = known.unwrap_or(json!(0));
        });
        let unknown = Checkpoint::open(dir.path()).unwrap().info().unknown_keys.clone();
        assert_eq!(unknown, if is_known { vec![] } else { vec![key] }, "{case}");
    }
}

#[test]
fn an_unknown_mode_is_refused() {
    let (error, text) = after(|dir| edit_json(&dir.join(PRE), |pre| pre["steps"][3]["config"]["norm_map"]["STATE"] = json!("SIGMOID")));
    assert!(matches!(error, CheckpointError::Step { index: 3, .. }), "{text}");
    let (error, text) = after(|dir| edit_json(&dir.join(CONFIG), |config| config["normalization_mapping"]["STATE"] = json!("SIGMOID")));
    assert!(matches!(error, CheckpointError::Config { .. }) && text.contains("MEAN_STD") && text.contains("SIGMOID"), "{text}");
}

/// The checkpoints that read text, each with a tokenizer of its own.
fn with_tokenizers() -> Vec<String> {
    let names = ["smolvla/", "pi0/", "pi05/", "pi0_fast/"];
    let first = |name: &&str| common::cases().into_iter().find(|case| case.starts_with(name));
    names.iter().filter_map(first).collect()
}

#[test]
fn a_tokenizer_that_is_not_there_is_asked_for_everywhere() {
    for case in with_tokenizers() {
        let dir = copy(&case);
        edit_json(&dir.path().join(PRE), |pre| {
            let steps = pre["steps"].as_array_mut().unwrap();
            let step = steps.iter_mut().find(|step| step["registry_name"] == "tokenizer_processor").unwrap();
            step["config"]["tokenizer_name"] = json!("someone/tokenizer");
        });
        drop(std::fs::remove_file(dir.path().join("tokenizer.json")));
        let (error, text) = refusal(dir.path());
        // π0-FAST's configuration names the same one.
        let is_named = ["someone/tokenizer", "google/paligemma-3b-pt-224"].iter().any(|name| text.matches(name).count() >= 3);
        assert!(matches!(error, CheckpointError::NotFound { .. }) && is_named, "{case}: {text}");
        std::fs::write(dir.path().join("tokenizer.json"), "{}").unwrap();
        let (error, text) = refusal(dir.path());
        assert!(matches!(error, CheckpointError::Tokenizer { .. }), "{case}: {text}");
    }
}

/// The JSON pointers of all values, but only the first of long lists and tables.
fn pointers(value: &Value, at: String, all: &mut Vec<String>) {
    match value {
        Value::Object(entries) => entries.iter().take(16).for_each(|(key, value)| pointers(value, format!("{at}/{key}"), all)),
        Value::Array(entries) => entries.iter().enumerate().take(4).for_each(|(i, value)| pointers(value, format!("{at}/{i}"), all)),
        _ => {}
    }
    all.push(at);
}

#[test]
fn a_tokenizer_with_a_part_of_another_form_is_refused_or_runs() {
    for case in with_tokenizers().into_iter().filter(|case| golden(case).join("tokenizer.json").exists()) {
        let inputs = Inputs::read(&golden(&case).join("inputs.safetensors")).unwrap();
        let dir = copy(&case);
        let path = dir.path().join("tokenizer.json");
        let text = std::fs::read_to_string(&path).unwrap();
        // What is no JSON at all, in the middle of a part for which the tokenizers crate expects some.
        let decoder = text.find("\"decoder\"").unwrap() + 40;
        for broken in [text.get(..decoder).unwrap(), &text.replacen("\"type\"", "\"type\" 5", 3)] {
            std::fs::write(&path, broken).unwrap();
            assert!(matches!(refusal(dir.path()).0, CheckpointError::Json { .. }), "{case}");
        }
        let whole: Value = serde_json::from_str(&text).unwrap();
        let mut all = Vec::new();
        pointers(&whole, String::new(), &mut all);
        let (mut refused, mut taken) = (0, 0);
        for at in all {
            for other in [json!(null), json!(7), json!("Sequence"), json!([]), json!({}), json!({"type": "Sequence"})] {
                let mut changed = whole.clone();
                let Some(place) = changed.pointer_mut(&at) else { continue };
                *place = other;
                std::fs::write(&path, changed.to_string()).unwrap();
                match Checkpoint::open(dir.path()) {
                    Ok(checkpoint) => {
                        taken += 1;
                        drop(checkpoint.infer(&inputs));
                    }
                    Err(_) => refused += 1,
                }
            }
        }
        assert!(refused > 20 && taken > 20, "{case}: {refused} refused, {taken} taken");
    }
}

#[test]
fn an_empty_task_is_taken() {
    for case in with_tokenizers() {
        let inputs = Inputs::read(&golden(&case).join("inputs.safetensors")).unwrap();
        let checkpoint = Checkpoint::open(golden(&case)).unwrap();
        assert_ne!(checkpoint.infer(&inputs).unwrap(), checkpoint.infer(&inputs.task("")).unwrap(), "{case}");
    }
}

#[test]
fn images_have_three_channels() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("inputs.safetensors");
    for shape in [vec![96, 128, 1], vec![96, 128, 4], vec![96, 128], vec![1, 1, 96, 128, 3]] {
        let bytes = vec![0; shape.iter().product()];
        let view = safetensors::tensor::TensorView::new(Dtype::U8, shape.clone(), &bytes).unwrap();
        safetensors::serialize_to_file([("observation.images.front", view)], None, &path).unwrap();
        let error = Inputs::read(&path).unwrap_err();
        assert!(matches!(error, InferError::WrongInput { .. }) && error.to_string().contains("[H, W, 3]"), "{shape:?}: {error}");
    }
}

/// Whatever number a configuration holds, nothing is allocated that its file doesn't justify: an
/// allocation of this size would end the test.
#[test]
fn absurd_numbers_are_refused_or_of_no_effect() {
    let mut families: Vec<String> = common::cases();
    families.dedup_by_key(|case| case.split('/').next().unwrap().to_owned());
    for case in families {
        let dir = copy(&case);
        let path = dir.path().join(CONFIG);
        let mut keys = Vec::new();
        edit_json(&path, |config| {
            keys.extend(config.as_object().unwrap().iter().filter(|(_, value)| value.is_number()).map(|(key, _)| key.clone()));
        });
        for key in keys {
            for number in [json!(1u64 << 40), json!(u64::MAX), json!(-1), json!(0), json!(1e300)] {
                edit_json(&path, |config| config[&key] = number.clone());
                drop(Checkpoint::open(dir.path()));
            }
            std::fs::copy(golden(&case).join(CONFIG), &path).unwrap();
        }
    }
}

#[test]
fn weights_that_are_not_there_as_they_look_say_what_to_do() {
    let dir = copy(CASE);
    let model = dir.path().join(MODEL);
    let weights = std::fs::read(&model).unwrap();
    std::fs::write(&model, "version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 7\n").unwrap();
    let (_, text) = refusal(dir.path());
    assert!(text.contains("Git LFS") && text.contains("git lfs pull"), "{text}");

    std::fs::remove_file(&model).unwrap();
    std::os::unix::fs::symlink("../blobs/0", &model).unwrap();
    let (_, text) = refusal(dir.path());
    assert!(text.contains("a link to ../blobs/0") && text.contains("anew"), "{text}");

    std::fs::remove_file(&model).unwrap();
    std::fs::write(dir.path().join("model.safetensors.index.json"), "{}").unwrap();
    std::fs::write(dir.path().join("model-00001-of-00002.safetensors"), weights).unwrap();
    let (_, text) = refusal(dir.path());
    assert!(text.contains("several files") && text.contains("save it again"), "{text}");

    // A pipe that nobody writes to: no open may wait for it.
    for file in [MODEL, CONFIG] {
        let dir = copy(CASE);
        let path = dir.path().join(file);
        std::fs::remove_file(&path).unwrap();
        assert!(std::process::Command::new("mkfifo").arg(&path).status().unwrap().success());
        let (error, _) = refusal(dir.path());
        assert!(std::error::Error::source(&error).unwrap().to_string().contains("no regular file"), "{error:?}");
    }
}

#[test]
fn tensors_of_a_part_that_was_compiled_are_told_as_such() {
    let (error, text) = after(|dir| {
        edit_tensors(&dir.join(MODEL), |tensors| {
            *tensors = tensors.drain().map(|(name, tensor)| (name.replacen("model.", "model._orig_mod.", 1), tensor)).collect();
        });
    });
    assert!(matches!(error, CheckpointError::Wrapped { .. }) && text.contains("torch.compile"), "{text}");
}

#[test]
fn a_shape_that_is_not_known_is_not_told() {
    let (_, text) = after(|dir| edit_tensors(&dir.join(MODEL), |tensors| tensors.retain(|name, _| !name.starts_with("model."))));
    assert!(text.contains("there is no tensor model.") && !text.contains("[]") && !text.contains("[0"), "{text}");
}

#[test]
fn a_value_of_the_wrong_type_is_told_with_its_key() {
    let (error, _) = after(|dir| edit_json(&dir.join(CONFIG), |config| config["n_heads"] = json!("eight")));
    let text = std::error::Error::source(&error).map(ToString::to_string).unwrap_or_default();
    assert!(text.starts_with("n_heads: invalid type"), "{error}: {text}");
}

/// Python writes them, and LeRobot reads them.
#[test]
fn numbers_that_json_does_not_have_are_in_the_way_only_where_they_are_read() {
    let put = |dir: &Path, key: &str| {
        edit_json(&dir.join(CONFIG), |config| (config[key], config["tags"]) = (json!("@"), json!(["NaN \\\" Infinity"])));
        let text = std::fs::read_to_string(dir.join(CONFIG)).unwrap();
        std::fs::write(dir.join(CONFIG), text.replace("\"@\"", "-Infinity")).unwrap();
    };
    let dir = copy(CASE);
    put(dir.path(), "optimizer_lr");
    Checkpoint::open(dir.path()).unwrap();
    let (error, _) = after(|dir| put(dir, "n_heads"));
    let text = std::error::Error::source(&error).map(ToString::to_string).unwrap_or_default();
    assert!(text.starts_with("n_heads: invalid type: string \"-Infinity\""), "{error}: {text}");
}
