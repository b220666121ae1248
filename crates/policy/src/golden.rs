//! Each step alone answers what LeRobot's answers (`tests/golden/steps`, made by its `make_golden`).

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

use crate::families;
use crate::features::{ACTION, Features};
use crate::files::Files;
use crate::processor::{Array, Batch, Pipeline, Precision, Tokens};
use crate::tensor_file::TensorFile;

fn folder() -> PathBuf {
    Path::new(&std::env::var("CARGO_MANIFEST_DIR").unwrap()).join("tests/golden/steps")
}

fn cases() -> Vec<String> {
    let entries = std::fs::read_dir(folder()).unwrap().map(|entry| entry.unwrap().file_name().into_string().unwrap());
    let mut cases: Vec<String> =
        entries.filter_map(|name| name.strip_suffix(".json").map(str::to_owned)).filter(|name| !name.ends_with("_post")).collect();
    cases.sort();
    cases
}

fn array(file: &TensorFile, name: &str) -> Array {
    let info = file.spec(name).unwrap();
    Array { shape: info.shape.clone(), values: file.floats(name, info).unwrap() }
}

/// The features of run `i` at the place `side` (`in` or `out`).
fn features(file: &TensorFile, i: usize, side: &str) -> Vec<(String, Array)> {
    let names = file.names();
    names.iter().filter_map(|name| Some((name.strip_prefix(&format!("{i}.{side}."))?.to_owned(), array(file, name)))).collect()
}

#[test]
fn each_step_answers_what_lerobots_does() {
    let (dir, known) = (folder(), families::steps());
    let mut steps_seen = BTreeSet::new();
    for case in cases() {
        let file = TensorFile::open(&dir.join(format!("{case}.safetensors"))).unwrap();
        let models: BTreeMap<String, Features> = serde_json::from_str(file.metadata("features").unwrap()).unwrap();
        let tasks: [Vec<String>; 2] = serde_json::from_str(file.metadata("tasks").unwrap()).unwrap();
        let files = Files { dir: &dir, resources: None };
        let pre =
            Pipeline::open(&files, &known, &format!("{case}.json"), &models["inputs"], None).unwrap_or_else(|e| panic!("{case}: {e}"));
        let post = dir.join(format!("{case}_post.json")).exists().then(|| {
            Pipeline::open(&files, &known, &format!("{case}_post.json"), &models["outputs"], Some(&pre))
                .unwrap_or_else(|e| panic!("{case}: {e}"))
        });
        steps_seen.extend(pre.names().chain(post.iter().flat_map(Pipeline::names)).map(str::to_owned));
        for (i, (task, expected_task)) in tasks[0].iter().zip(&tasks[1]).enumerate() {
            let case = format!("{case} {i}");
            let mut batch = Batch { task: task.clone(), ..Batch::default() };
            batch.features.extend(features(&file, i, "in"));
            pre.run(&mut batch).unwrap();
            assert_eq!(batch.task, *expected_task, "{case}");
            let expected = features(&file, i, "out");
            assert_eq!(batch.features.len(), expected.len(), "{case}");
            for (name, expected) in &expected {
                close(&format!("{case} {name}"), &batch.features[name], expected, batch.precision);
            }
            if let Some(info) = file.spec(&format!("{i}.tokens")) {
                let ids: Vec<u32> = file.bytes(info).unwrap().chunks_exact(4).map(|b| u32::from_le_bytes(b.try_into().unwrap())).collect();
                let mask = file.bytes(file.spec(&format!("{i}.mask")).unwrap()).unwrap().iter().map(|byte| *byte == 1).collect();
                assert_eq!(batch.tokens, Some(Tokens { ids, mask }), "{case}: {task:?}");
            } else {
                assert_eq!(batch.tokens, None, "{case}");
            }
            if let Some(post) = &post {
                batch.features = BTreeMap::from([(ACTION.to_owned(), array(&file, &format!("{i}.action")))]);
                batch.precision = Precision::F32;
                post.run(&mut batch).unwrap();
                close(&case, &batch.features[ACTION], &array(&file, &format!("{i}.answer")), batch.precision);
            }
        }
    }
    assert_eq!(steps_seen, known.iter().map(|(name, _)| (*name).to_owned()).collect(), "every known step has a case");
}

/// Narrow types agree to the last bit, as each operation is rounded; `f32` to its last two.
fn close(what: &str, ours: &Array, theirs: &Array, precision: Precision) {
    assert_eq!(ours.shape, theirs.shape, "{what}");
    for (a, b) in ours.values.iter().zip(&theirs.values) {
        let tolerance = if precision == Precision::F32 { 3e-7 * (1.0 + b.abs()) } else { 0.0 };
        assert!(a == b || (a - b).abs() <= tolerance || a.is_nan() && b.is_nan(), "{what}: {a} is not {b}");
    }
}
