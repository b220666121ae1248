//! Whatever part of a checkpoint is renamed, dropped, swapped, reshaped or given another type: either
//! the check refuses it, or it was of no effect and the policy answers to the last bit as before.
//!
//! What no check can see is not tried, as nothing else in a checkpoint tells it: two tensors, or two
//! cameras, of one shape in each other's place; F16 read as BF16; another number where a number may be.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "what fails here fails the test")]

mod common;

use std::fmt::Write as _;
use std::path::{Path, PathBuf};

use common::{copy, edit_json, edit_tensors};
use safetensors::tensor::Dtype;
use serde_json::{Value, json};
use sinew_core::RobotDescription;
use sinew_policy::{Actions, Checkpoint, Fit, InferError, Info, Inputs};

/// One of each family and layout.
const CASES: [&str; 11] = [
    "act/two_cameras_vae",
    "act/before_processors",
    "act/adapter",
    "diffusion/enlarged_one_step",
    "vqbet/single_row",
    "multi_task_dit/separate_encoders",
    "xvla/franka",
    "smolvla/cross_attention",
    "pi0/relative_actions",
    "pi05/two_cameras",
    "pi0_fast/cut_short",
];

/// A checkpoint in a folder of its own, to be mutated, with what is known of it.
struct Subject {
    dir: tempfile::TempDir,
    inputs: Inputs,
    info: Info,
    answer: Actions,
    robot: RobotDescription,
    fits: Vec<bool>,
    mutants: usize,
    harmless: usize,
    faults: Vec<String>,
}

impl Subject {
    fn new(case: &'static str) -> Self {
        let dir = copy(case);
        let checkpoint = Checkpoint::open(dir.path()).unwrap_or_else(|error| panic!("{case}: {error}"));
        let inputs = Inputs::read(&dir.path().join("inputs.safetensors")).unwrap();
        let robot = robot(checkpoint.info());
        let fits = Fit::of(&checkpoint, &robot).rows.iter().map(|row| row.fits).collect();
        let (info, answer) = (checkpoint.info().clone(), checkpoint.infer(&inputs).unwrap());
        Self { dir, inputs, info, answer, robot, fits, mutants: 0, harmless: 0, faults: Vec::new() }
    }

    fn file(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    /// The folder's files that are there, of these.
    fn files(&self, names: &[&'static str]) -> Vec<&'static str> {
        names.iter().copied().filter(|name| self.file(name).exists()).collect()
    }

    /// Mutates `file`, judges, and restores it.
    fn judge(&mut self, what: &str, file: &str, mutate: impl FnOnce(&Path)) {
        let path = self.file(file);
        let whole = std::fs::read(&path).unwrap();
        mutate(&path);
        self.mutants += 1;
        if let Ok(checkpoint) = Checkpoint::open(self.dir.path()) {
            let fits: Vec<bool> = Fit::of(&checkpoint, &self.robot).rows.iter().map(|row| row.fits).collect();
            if fits == self.fits {
                match checkpoint.infer(&self.inputs) {
                    Ok(answer) if answer == self.answer => self.harmless += 1,
                    Ok(_) => self.faults.push(format!("{what}: accepted, and answers differently")),
                    Err(error) => self.faults.push(format!("{what}: accepted, but {error}")),
                }
            }
        }
        std::fs::write(&path, whole).unwrap();
    }

    /// Every tensor of `file`.
    fn tensors(&mut self, file: &'static str) {
        let mut specs = Vec::new();
        edit_tensors(&self.file(file), |tensors| {
            specs.extend(tensors.iter().map(|(name, (dtype, shape, _))| (name.clone(), *dtype, shape.clone())));
        });
        specs.sort_by(|a, b| a.0.cmp(&b.0));
        for (i, (name, dtype, shape)) in specs.iter().enumerate() {
            let mut with = |what: &str, edit: &dyn Fn(&mut common::Tensors)| {
                self.judge(&format!("{what} {name} in {file}"), file, |path| edit_tensors(path, edit));
            };
            if !is_tied(name) {
                with("dropped", &|tensors| drop(tensors.remove(name)));
            }
            with("renamed", &|tensors| {
                let tensor = tensors.remove(name).unwrap();
                tensors.insert(format!("{name}_"), tensor);
            });
            with("reshaped", &|tensors| tensors.get_mut(name).unwrap().1.push(1));
            let other = match dtype {
                Dtype::F32 => Dtype::I32,
                Dtype::F16 | Dtype::BF16 => Dtype::I16,
                Dtype::I64 => Dtype::F64,
                _ => Dtype::I8,
            };
            if dtype.bitsize() == other.bitsize() {
                with("re-typed", &|tensors| tensors.get_mut(name).unwrap().0 = other);
            }
            let next = &specs[(i + 1) % specs.len()];
            if (next.1, &next.2) != (*dtype, shape) {
                with("swapped with the next", &|tensors| {
                    let (a, b) = (tensors.remove(name).unwrap(), tensors.remove(&next.0).unwrap());
                    tensors.insert(name.clone(), b);
                    tensors.insert(next.0.clone(), a);
                });
            }
        }
    }

    /// A NaN at the end of every tensor of the weights: its name is told, unless it is of no effect or
    /// stays in the file until it is used.
    fn poisoned(&mut self) {
        let file = self.file("model.safetensors");
        let whole = std::fs::read(&file).unwrap();
        let mut names = Vec::new();
        edit_tensors(&file, |tensors| {
            names.extend(tensors.iter().filter(|(_, (dtype, ..))| *dtype != Dtype::I64).map(|(name, _)| name.clone()))
        });
        for name in names {
            edit_tensors(&file, |tensors| {
                let (dtype, _, bytes) = tensors.get_mut(&name).unwrap();
                // Little-endian: the exponent's bits are in the last two bytes, whichever float it is.
                let width = dtype.bitsize() / 8;
                let last = bytes.len() - width;
                bytes[last..].fill(0xff);
            });
            self.mutants += 1;
            match Checkpoint::open(self.dir.path()).and_then(|checkpoint| checkpoint.load().map(|()| checkpoint)) {
                Err(error) if error.to_string().contains(&name) => {}
                Err(error) => self.faults.push(format!("NaN in {name}: {error}")),
                Ok(checkpoint) => match checkpoint.infer(&self.inputs) {
                    Ok(answer) if answer == self.answer => self.harmless += 1,
                    Ok(_) => self.faults.push(format!("NaN in {name}: accepted, and answers differently")),
                    Err(InferError::NotFinite { .. }) if name.contains("embed_tokens") => {}
                    Err(error) => self.faults.push(format!("NaN in {name}: loaded, but {error}")),
                },
            }
            std::fs::write(&file, &whole).unwrap();
        }
    }

    /// Every feature of config.json.
    fn features(&mut self) {
        let config = "config.json";
        for side in ["input_features", "output_features"] {
            let features = if side == "input_features" { &self.info.inputs } else { &self.info.outputs };
            let features: Vec<(String, Vec<usize>)> =
                features.iter().map(|feature| (feature.name.clone(), feature.shape.clone())).collect();
            for (i, (name, shape)) in features.iter().enumerate() {
                let mut with = |what: &str, edit: &dyn Fn(&mut serde_json::Map<String, Value>)| {
                    self.judge(&format!("{what} {name} of {side}"), config, |path| {
                        edit_json(path, |config| edit(config[side].as_object_mut().unwrap()));
                    });
                };
                with("dropped", &|features| drop(features.remove(name)));
                with("renamed", &|features| {
                    let feature = features.remove(name).unwrap();
                    features.insert(format!("{name}_"), feature);
                });
                for kind in ["VISUAL", "STATE", "ENV", "ACTION", "LANGUAGE", "REWARD", "SMELL"] {
                    with(kind, &|features| features[name]["type"] = json!(kind));
                }
                with("with a dimension more", &|features| features[name]["shape"].as_array_mut().unwrap().push(json!(2)));
                with("with its dimensions reversed", &|features| features[name]["shape"].as_array_mut().unwrap().reverse());
                for axis in 0..shape.len() {
                    with("larger", &|features| features[name]["shape"][axis] = json!(features[name]["shape"][axis].as_u64().unwrap() + 1));
                    with("a text", &|features| features[name]["shape"][axis] = json!("6"));
                }
                if let Some((next, _)) = features.get(i + 1).filter(|(_, next)| next != shape) {
                    with("swapped with the next", &|features| {
                        let a = features[name].take();
                        features[name] = features[next.as_str()].take();
                        features[next.as_str()] = a;
                    });
                }
            }
        }
    }

    /// Every step of the pipelines, and every key of its configuration.
    fn steps(&mut self, file: &'static str) {
        let mut steps = Vec::new();
        edit_json(&self.file(file), |pipeline| steps = pipeline["steps"].as_array().unwrap().clone());
        for (i, step) in steps.iter().enumerate() {
            let name = step["registry_name"].as_str().unwrap().to_owned();
            let mut with = |what: &str, edit: &dyn Fn(&mut Vec<Value>)| {
                self.judge(&format!("{what} step {i} ({name}) of {file}"), file, |path| {
                    edit_json(path, |pipeline| edit(pipeline["steps"].as_array_mut().unwrap()));
                });
            };
            with("dropped", &|steps| drop(steps.remove(i)));
            with("doubled", &|steps| steps.insert(i, steps[i].clone()));
            with("renamed", &|steps| steps[i]["registry_name"] = json!(format!("{name}_")));
            with("nameless", &|steps| drop(steps[i].as_object_mut().unwrap().remove("registry_name")));
            with("unconfigured", &|steps| steps[i]["config"] = json!([]));
            for other in i + 1..steps.len() {
                with(&format!("swapped with {other}"), &|steps| steps.swap(i, other));
            }
            if step.get("state_file").is_some() {
                with("without its file", &|steps| drop(steps[i].as_object_mut().unwrap().remove("state_file")));
                with("with another file", &|steps| steps[i]["state_file"] = json!("nowhere.safetensors"));
            }
            for (key, value) in step["config"].as_object().unwrap() {
                with(&format!("a renamed {key} of"), &|steps| {
                    let config = steps[i]["config"].as_object_mut().unwrap();
                    let value = config.remove(key).unwrap();
                    config.insert(format!("{key}_"), value);
                });
                let other = if value.is_object() { json!(7) } else { json!({"a": []}) };
                with(&format!("a re-typed {key} of"), &|steps| steps[i]["config"][key] = other.clone());
            }
            let listed: Vec<String> = step["config"]["features"].as_object().into_iter().flatten().map(|(name, _)| name.clone()).collect();
            for feature in listed {
                with(&format!("without {feature} in"), &|steps| {
                    drop(steps[i]["config"]["features"].as_object_mut().unwrap().remove(&feature))
                });
                with(&format!("another shape of {feature} in"), &|steps| steps[i]["config"]["features"][&feature]["shape"][0] = json!(99));
                with(&format!("another type of {feature} in"), &|steps| steps[i]["config"]["features"][&feature]["type"] = json!("REWARD"));
            }
            for kind in step["config"]["norm_map"].as_object().into_iter().flatten().map(|(kind, _)| kind) {
                for mode in ["IDENTITY", "MEAN_STD", "MIN_MAX", "QUANTILES", "QUANTILE10", "SIGMOID"] {
                    with(&format!("{kind} {mode} in"), &|steps| steps[i]["config"]["norm_map"][kind] = json!(mode));
                }
                with(&format!("without {kind} in"), &|steps| drop(steps[i]["config"]["norm_map"].as_object_mut().unwrap().remove(kind)));
            }
        }
    }
}

/// Of a table of tokens and the head that names tokens LeRobot takes either for both where the other
/// is not there.
fn is_tied(tensor: &str) -> bool {
    ["embed_tokens.weight", "lm_head.weight"].iter().any(|end| tensor.ends_with(end))
}

/// A robot with the checkpoint's cameras, and as many joints as its state has entries.
fn robot(info: &Info) -> RobotDescription {
    let joints = info.inputs.iter().find(|input| input.name == "observation.state").map_or(1, |input| input.shape[0]);
    let mut toml =
        "schema = 2\nname = 'arm'\ntitle = 'Arm'\ncontrol_rate_hz = 30\nlerobot = { class = 'arm' }\nstop = { behaviour = 'hold' }\n\
                    bus = [{ name = 'arm', protocol = 'feetech' }]\n"
            .to_owned();
    for i in 0..joints {
        write!(
            toml,
            "[[part]]\nname = 'j{i}'\ncommand = 'position'\nmotor = {{ bus = 'arm', model = 'sts3215', id = {i} }}\nunit = 'degrees'\n\
             limits = {{ position = [-0.5, 1.5], velocity = 1.0, step = 0.1 }}\n"
        )
        .unwrap();
    }
    for camera in &info.cameras {
        write!(toml, "[[camera]]\nname = '{}'\nwidth = {}\nheight = {}\n", camera.name, camera.width, camera.height).unwrap();
    }
    RobotDescription::from_toml("arm", &toml).unwrap()
}

#[test]
fn a_mutant_is_refused_or_answers_as_before() {
    std::thread::scope(|scope| {
        for case in CASES {
            scope.spawn(move || {
                let mut subject = Subject::new(case);
                for file in subject.files(&["model.safetensors", "adapter_model.safetensors"]) {
                    subject.tensors(file);
                }
                if subject.file("model.safetensors").exists() {
                    subject.poisoned();
                }
                subject.features();
                for file in subject.files(&["policy_preprocessor.json", "policy_postprocessor.json"]) {
                    subject.steps(file);
                }
                let states = std::fs::read_dir(subject.dir.path()).unwrap().map(|entry| entry.unwrap().file_name().into_string().unwrap());
                let states: Vec<String> = states.filter(|name| name.starts_with("policy_") && name.ends_with(".safetensors")).collect();
                for file in states {
                    subject.tensors(file.leak());
                }
                println!("{case}: {} mutants, {} of them harmless", subject.mutants, subject.harmless);
                assert!(subject.mutants - subject.harmless > 200, "{case}");
                assert!(subject.faults.is_empty(), "{case}:\n{}", subject.faults.join("\n"));
            });
        }
    });
}
