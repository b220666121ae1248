//! PEFT adapters: what is no plain or rank-stabilised LoRA, or doesn't fit its base, is refused.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "what fails here fails the test")]

mod common;

use std::error::Error;
use std::path::{Path, PathBuf};

use common::{copy, edit_json, edit_tensors, golden, refuses_values};
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
