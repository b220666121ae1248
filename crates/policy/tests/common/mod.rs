//! What the tests of this crate share.
#![allow(dead_code, reason = "each test binary uses a part of it")]

use std::collections::HashMap;
use std::path::{Path, PathBuf};

use safetensors::tensor::{Dtype, SafeTensors, TensorView};
use serde_json::Value;
use sinew_policy::{Checkpoint, CheckpointError};

/// The golden cases, `family/case`: every checkpoint under `tests/golden` with an answer of
/// LeRobot's beside it (made by `tests/golden/make_golden`).
pub(crate) fn cases() -> Vec<String> {
    let folders = |path: PathBuf| {
        let entries = std::fs::read_dir(path).unwrap().map(|entry| entry.unwrap().path());
        entries.filter(|path| path.is_dir()).collect::<Vec<_>>()
    };
    let mut cases: Vec<String> = folders(golden(""))
        .into_iter()
        .flat_map(folders)
        .filter(|case| case.join("expected.safetensors").exists())
        .map(|case| case.strip_prefix(golden("")).unwrap().to_str().unwrap().to_owned())
        .collect();
    cases.sort();
    assert!(cases.len() >= 5, "{cases:?}");
    cases
}

pub(crate) fn golden(name: &str) -> PathBuf {
    Path::new(&std::env::var("CARGO_MANIFEST_DIR").unwrap()).join("tests/golden").join(name)
}

pub(crate) fn floats(bytes: &[u8]) -> Vec<f32> {
    bytes.chunks_exact(4).map(|b| f32::from_le_bytes(b.try_into().unwrap())).collect()
}

pub(crate) fn read_floats(path: &Path, tensor: &str) -> (Vec<usize>, Vec<f32>) {
    let bytes = std::fs::read(path).unwrap();
    let file = SafeTensors::deserialize(&bytes).unwrap();
    let view = file.tensor(tensor).unwrap();
    assert_eq!(view.dtype(), Dtype::F32);
    (view.shape().to_vec(), floats(view.data()))
}

pub(crate) fn read_bytes(path: &Path, tensor: &str) -> Vec<u8> {
    let bytes = std::fs::read(path).unwrap();
    SafeTensors::deserialize(&bytes).unwrap().tensor(tensor).unwrap().data().to_vec()
}

pub(crate) fn max_delta(a: &[f32], b: &[f32]) -> f32 {
    assert_eq!(a.len(), b.len());
    a.iter().zip(b).map(|(a, b)| (a - b).abs()).fold(0.0, f32::max)
}

/// A copy of a golden checkpoint that a test may break.
pub(crate) fn copy(name: &str) -> tempfile::TempDir {
    let dir = tempfile::tempdir().unwrap();
    copy_folder(&golden(name), dir.path());
    dir
}

fn copy_folder(from: &Path, to: &Path) {
    std::fs::create_dir_all(to).unwrap();
    for path in std::fs::read_dir(from).unwrap().map(|entry| entry.unwrap().path()) {
        let target = to.join(path.file_name().unwrap());
        if path.is_dir() {
            copy_folder(&path, &target);
        } else {
            std::fs::copy(&path, target).unwrap();
        }
    }
}

pub(crate) type Tensors = HashMap<String, (Dtype, Vec<usize>, Vec<u8>)>;

/// Rewrites a safetensors file.
pub(crate) fn edit_tensors(path: &Path, edit: impl FnOnce(&mut Tensors)) {
    let bytes = std::fs::read(path).unwrap();
    let file = SafeTensors::deserialize(&bytes).unwrap();
    let mut tensors: Tensors =
        file.iter().map(|(name, view)| (name.to_owned(), (view.dtype(), view.shape().to_vec(), view.data().to_vec()))).collect();
    edit(&mut tensors);
    let views = tensors.iter().map(|(name, (dtype, shape, data))| (name, TensorView::new(*dtype, shape.clone(), data).unwrap()));
    safetensors::serialize_to_file(views, None, path).unwrap();
}

/// Rewrites a JSON file.
pub(crate) fn edit_json(path: &Path, edit: impl FnOnce(&mut Value)) {
    let mut json = serde_json::from_slice(&std::fs::read(path).unwrap()).unwrap();
    edit(&mut json);
    std::fs::write(path, serde_json::to_vec_pretty(&json).unwrap()).unwrap();
}

/// What opening a golden checkpoint answers after `edit` has changed its folder.
pub(crate) fn open_after(case: &str, edit: impl FnOnce(&Path)) -> Result<Checkpoint, CheckpointError> {
    let dir = copy(case);
    edit(dir.path());
    Checkpoint::open(dir.path())
}

/// Each value, put under its key into the JSON `file` of a golden checkpoint, must be refused by that
/// key's name.
pub(crate) fn refuses_values(case: &str, file: &str, values: impl IntoIterator<Item = (&'static str, Value)>) {
    for (key, value) in values {
        let error = open_after(case, |dir| edit_json(&dir.join(file), |json| json[key] = value.clone())).unwrap_err();
        assert!(matches!(&error, CheckpointError::Config { key: k, .. } if k == key), "{key} {value}: {error}");
    }
}

/// How many tensors a golden checkpoint has, and those without which it opens all the same; without each
/// of the others it must be refused by that tensor's name.
pub(crate) fn superfluous_tensors(case: &str) -> (usize, Vec<String>) {
    let dir = copy(case);
    let model = dir.path().join("model.safetensors");
    let mut names = Vec::new();
    edit_tensors(&model, |tensors| names.extend(tensors.keys().cloned()));
    let count = names.len();
    names.retain(|name| {
        edit_tensors(&model, |tensors| drop(tensors.remove(name)));
        let opened = Checkpoint::open(dir.path());
        std::fs::copy(golden(case).join("model.safetensors"), &model).unwrap();
        match opened {
            Ok(_) => true,
            Err(CheckpointError::MissingTensor { name: missing, .. }) => {
                assert_eq!(missing, *name);
                false
            }
            Err(error) => panic!("{name}: {error}"),
        }
    });
    (count, names)
}
