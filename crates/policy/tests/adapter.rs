//! PEFT adapters: what is no plain or rank-stabilised LoRA, or doesn't fit its base, is refused.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "what fails here fails the test")]

mod common;

use std::error::Error;
use std::path::{Path, PathBuf};

use common::{copy, edit_json, edit_tensors, golden, refuses_values};
use safetensors::tensor::Dtype;
use serde_json::{Value, json};
use sinew_policy::{Checkpoint, CheckpointError, Inputs, OpenOptions, Resources};

const CASE: &str = "act/adapter";
const CONFIG: &str = "adapter_config.json";
const MODEL: &str = "adapter_model.safetensors";

fn open_after(edit: impl FnOnce(&Path)) -> Result<Checkpoint, CheckpointError> {
    common::open_after(CASE, edit)
}

fn refused(key: &'static str, value: Value) {
    refuses_values(CASE, CONFIG, [(key, value)]);
}

#[test]
fn other_kinds_of_adapters_are_refused_by_name() {
    open_after(|_| {}).unwrap();
    for (key, value) in [
        ("peft_type", json!("LOHA")),
        ("use_dora", json!(true)),
        ("use_qalora", json!(true)),
        ("lora_bias", json!(true)),
        ("fan_in_fan_out", json!(true)),
        ("bias", json!("all")),
        ("init_lora_weights", json!("pissa")),
        ("layer_replication", json!([[0, 1]])),
        ("target_parameters", json!(["weight"])),
        ("a_kind_of_tomorrow", json!(true)),
        ("rank_pattern", json!({"(": 2})),
        ("base_model_name_or_path", json!(null)),
    ] {
        refused(key, value);
    }
}

#[test]
fn an_adapter_fits_its_base() {
    let names = {
        let mut names = Vec::new();
        open_after(|dir| edit_tensors(&dir.join(MODEL), |tensors| names.extend(tensors.keys().cloned()))).unwrap();
        names
    };
    assert!(names.len() > 10);
    for name in names {
        let missing = open_after(|dir| edit_tensors(&dir.join(MODEL), |tensors| drop(tensors.remove(&name))));
        assert!(matches!(missing, Err(CheckpointError::MissingTensor { .. } | CheckpointError::UnusedTensors { .. })), "{name}");
        let misshapen = open_after(|dir| {
            edit_tensors(&dir.join(MODEL), |tensors| {
                let (_, shape, bytes) = tensors.get_mut(&name).unwrap();
                let row = bytes.len() / shape[0];
                shape[0] += 1;
                bytes.resize(bytes.len() + row, 0);
            });
        });
        assert!(matches!(misshapen, Err(CheckpointError::WrongShape { .. })), "{name}");
        let renamed = open_after(|dir| {
            edit_tensors(&dir.join(MODEL), |tensors| {
                let tensor = tensors.remove(&name).unwrap();
                tensors.insert(name.replace("base_model.model.model", "base_model.model.odel"), tensor);
            });
        });
        assert!(matches!(renamed, Err(CheckpointError::MissingTensor { .. } | CheckpointError::UnusedTensors { .. })), "{name}");
    }
}

#[derive(Debug)]
struct Hub(PathBuf);

impl Resources for Hub {
    fn find(&self, _: &str, _: &str) -> Result<Option<PathBuf>, Box<dyn Error + Send + Sync>> {
        Ok(None)
    }

    fn folder(&self, repo: &str, revision: Option<&str>) -> Result<Option<PathBuf>, Box<dyn Error + Send + Sync>> {
        Ok((repo == "someone/base" && revision == Some("v1")).then(|| self.0.clone()))
    }
}

#[test]
fn a_base_that_is_not_here_is_asked_for() {
    let dir = copy(CASE);
    edit_json(&dir.path().join(CONFIG), |config| {
        config["base_model_name_or_path"] = json!("someone/base");
        config["revision"] = json!("v1");
    });
    let error = Checkpoint::open(dir.path()).unwrap_err();
    assert!(matches!(&error, CheckpointError::NotFound { .. }) && error.to_string().contains("someone/base"), "{error}");
    let hub = Hub(golden(CASE).join("base"));
    let checkpoint = OpenOptions::new().resources(&hub).open(dir.path()).unwrap();
    assert_eq!(checkpoint.info().adapter_base.as_deref(), Some("someone/base"));
    let inputs = Inputs::read(&dir.path().join("inputs.safetensors")).unwrap();
    assert_eq!(checkpoint.infer(&inputs).unwrap(), Checkpoint::open(golden(CASE)).unwrap().infer(&inputs).unwrap());
}

#[test]
fn a_base_is_not_looked_for_in_the_current_folder() {
    // Tests run in the crate's folder.
    let base = format!("tests/golden/{CASE}/base");
    assert!(Path::new(&base).join("model.safetensors").is_file());
    let open = |name: &str| open_after(|dir| edit_json(&dir.join(CONFIG), |config| config["base_model_name_or_path"] = json!(name)));
    let error = open(&base).unwrap_err();
    assert!(matches!(&error, CheckpointError::NotFound { .. }) && error.to_string().contains(&base), "{error}");
    let absolute = std::path::absolute(&base).unwrap();
    open(absolute.to_str().unwrap()).unwrap();
    open("./base").unwrap();
}

#[test]
fn what_the_base_states_of_its_licence_holds_too() {
    let of_base = |card: Option<&str>| {
        let checkpoint = open_after(|dir| {
            std::fs::write(dir.join("README.md"), "---\nlicense: mit\n---\n").unwrap();
            card.into_iter().for_each(|card| std::fs::write(dir.join("base/README.md"), card).unwrap());
        });
        let info = checkpoint.unwrap().info().clone();
        assert_eq!(info.licence.as_deref(), Some("mit"));
        let of_base = info.terms.into_iter().filter(|terms| terms.by.ends_with("of its base base"));
        of_base.map(|terms| format!("{}: {}", terms.by, terms.licences.join(", "))).collect::<Vec<_>>()
    };
    let config = "the config.json of its base base: apache-2.0";
    let card = "the card of its base base: cc-by-nc-4.0";
    assert_eq!(of_base(Some("---\nlicense: cc-by-nc-4.0\n---\n")), [card, config]);
    assert_eq!(of_base(None), [config]);
}

/// An adapter with the `tensors` over the golden checkpoint `case`, whose folder it changes.
fn over(case: &str, tensors: &[(&str, [usize; 2])]) -> tempfile::TempDir {
    let dir = copy(case);
    let base = dir.path().join("base");
    std::fs::create_dir(&base).unwrap();
    std::fs::copy(dir.path().join("config.json"), base.join("config.json")).unwrap();
    std::fs::rename(dir.path().join("model.safetensors"), base.join("model.safetensors")).unwrap();
    for file in [CONFIG, MODEL] {
        std::fs::copy(golden(CASE).join(file), dir.path().join(file)).unwrap();
    }
    edit_json(&dir.path().join(CONFIG), |config| {
        config["r"] = json!(2);
        config["rank_pattern"] = json!({});
        config["modules_to_save"] = json!(null);
    });
    edit_tensors(&dir.path().join(MODEL), |all| {
        all.clear();
        all.extend(tensors.iter().map(|(name, shape)| {
            let values = (0..shape[0] * shape[1]).flat_map(|i| ((i as f32 * 0.7).sin()).to_le_bytes()).collect();
            (format!("base_model.model.{name}"), (Dtype::F32, shape.to_vec(), values))
        }));
    });
    dir
}

/// The table of tokens and the head share their numbers in these files, and an adapter of the head changes the head alone. SmolVLA and
/// pi05 have no use for the head.
#[test]
fn an_adapter_of_the_head_leaves_the_table_alone() {
    let smolvla = "model.vlm_with_expert.vlm.lm_head";
    let pi = "model.paligemma_with_expert.paligemma.lm_head";
    for (case, head, size) in [("smolvla/aloha", smolvla, [300, 24]), ("pi05/two_cameras", pi, [301, 24])] {
        let low_rank = [(format!("{head}.lora_A.weight"), [2, size[1]]), (format!("{head}.lora_B.weight"), [size[0], 2])];
        let whole = [(format!("{head}.weight"), size)];
        for tensors in [low_rank.as_slice(), whole.as_slice()] {
            let tensors: Vec<(&str, [usize; 2])> = tensors.iter().map(|(name, shape)| (name.as_str(), *shape)).collect();
            let dir = over(case, &tensors);
            // As safetensors keeps one of two names for the same numbers.
            edit_tensors(&dir.path().join("base/model.safetensors"), |tensors| {
                tensors.retain(|name, _| !name.ends_with("embed_tokens.weight"))
            });
            edit_tensors(&dir.path().join("base/model.safetensors"), |tensors| assert!(tensors.contains_key(&format!("{head}.weight"))));
            let base = copy(case);
            std::fs::copy(dir.path().join("base/model.safetensors"), base.path().join("model.safetensors")).unwrap();
            let inputs = Inputs::read(&base.path().join("inputs.safetensors")).unwrap();
            let [ours, of_base] = [dir.path(), base.path()].map(|dir| Checkpoint::open(dir).unwrap().infer(&inputs).unwrap());
            assert_eq!(ours, of_base, "{case}: {tensors:?}");
        }
    }
}

/// PyTorch's attention takes the weight of its last layer and never calls that layer.
#[test]
fn an_adapter_that_pytorch_passes_over_changes_nothing() {
    let case = "act/two_cameras_vae";
    let inputs = Inputs::read(&golden(case).join("inputs.safetensors")).unwrap();
    let of_base = Checkpoint::open(golden(case)).unwrap().infer(&inputs).unwrap();
    for (layer, changes) in [("model.encoder.layers.0.self_attn.out_proj", false), ("model.encoder.layers.0.linear1", true)] {
        let mut shape = Vec::new();
        let mut read = |dir: &Path| {
            edit_tensors(&dir.join("model.safetensors"), |all| shape.clone_from(&all[&format!("{layer}.weight")].1));
        };
        read(copy(case).path());
        let [a, b] = ["lora_A", "lora_B"].map(|matrix| format!("{layer}.{matrix}.weight"));
        let dir = over(case, &[(a.as_str(), [2, shape[1]]), (b.as_str(), [shape[0], 2])]);
        let ours = Checkpoint::open(dir.path()).unwrap().infer(&inputs).unwrap();
        assert_eq!(ours != of_base, changes, "{layer}");
    }
}

#[test]
fn an_adapter_of_another_form_is_refused_with_what_to_do() {
    for (name, word) in [
        ("model.decoder_pos_embed.lora_embedding_A", "an embedding"),
        ("model.encoder.layers.0.self_attn.lora_A.weight", "nn.MultiheadAttention"),
        ("model.encoder.layers.0.linear1.lora_magnitude_vector", "DoRA"),
    ] {
        let error = Checkpoint::open(over("act/two_cameras_vae", &[(name, [2, 2])]).path()).unwrap_err().to_string();
        assert!(error.contains(name) && error.contains(word) && error.contains("merge_and_unload"), "{error}");
    }
}

/// As with `peft`, which warns.
#[test]
fn a_layer_without_its_pair_stays_as_it_is() {
    let pair = |name: &str| name.contains("encoder.layers.0.linear1.lora_");
    let mut count = 0;
    open_after(|dir| {
        edit_tensors(&dir.join(MODEL), |tensors| {
            count = tensors.len();
            tensors.retain(|name, _| !pair(name));
            count -= tensors.len();
        });
    })
    .unwrap();
    assert!(count >= 2, "{count}");
}

#[test]
fn nan_in_an_adapter_is_told_of_the_adapter() {
    let mut nan = String::new();
    let dir = copy(CASE);
    edit_tensors(&dir.path().join(MODEL), |tensors| {
        nan = tensors.keys().find(|name| name.contains("linear1.lora_B")).unwrap().clone();
        tensors.get_mut(&nan).unwrap().2[..4].copy_from_slice(&f32::NAN.to_le_bytes());
    });
    let error = Checkpoint::open(dir.path()).unwrap().load().unwrap_err();
    let CheckpointError::NotFinite { path, names } = &error else { panic!("{error}") };
    assert_eq!((path, names.as_slice()), (&dir.path().join(MODEL), [nan].as_slice()));
}
