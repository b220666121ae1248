//! Datasets that LeRobot opens, though it would not write them so itself.

use std::fs;
use std::path::Path;

use std::sync::Arc;

use arrow::array::{ArrayRef, DictionaryArray, Float64Array, Int16Array, LargeStringArray, RecordBatch, UInt8Array};
use arrow::datatypes::Int32Type;
use parquet::arrow::ArrowWriter;
use serde_json::{Value, json};

use super::{assert_whole, attempt, create, robot};
use crate::format::json::read_json;
use crate::format::parquet_read::read_whole;
use crate::format::table::numbered_tasks_file;
use crate::{
    CameraForm, Conversion, DatasetInfo, DatasetReader, DatasetRecorder, DatasetSchema, DatasetWriter, Feature, Mend, Output, Rate,
    RecorderOptions, Report, Row, ShortVideo, Truth, Version, VideoOptions, examine, plan_convert, plan_delete, plan_repair, plan_stats,
    verify, write_mcap,
};

const INFO: &str = "meta/info.json";
const STATS: &str = "meta/stats.json";
const DATA: &str = "data/chunk-000/file-000.parquet";

fn go_on(_: crate::Step) -> std::ops::ControlFlow<()> {
    std::ops::ControlFlow::Continue(())
}

fn examined(root: &Path) -> Report {
    examine(root, true, &mut go_on).unwrap()
}

/// Changes the columns of the table at `path`.
fn edit_table(path: &Path, change: impl Fn(&str, &ArrayRef) -> ArrayRef) {
    rewrite_table(path, |name, column| (name.to_owned(), change(name, column)));
}

fn rewrite_table(path: &Path, change: impl Fn(&str, &ArrayRef) -> (String, ArrayRef)) {
    let batches = read_whole(path).unwrap();
    let batches: Vec<RecordBatch> = batches
        .iter()
        .map(|batch| {
            let schema = batch.schema();
            let columns = schema.fields().iter().zip(batch.columns());
            RecordBatch::try_from_iter(columns.map(|(field, column)| change(field.name(), column))).unwrap()
        })
        .collect();
    let mut writer = ArrowWriter::try_new(fs::File::create(path).unwrap(), batches[0].schema(), None).unwrap();
    batches.iter().for_each(|batch| writer.write(batch).unwrap());
    writer.close().unwrap();
}

fn tasks_of(root: &Path) -> Vec<Vec<String>> {
    DatasetReader::open(root).unwrap().episodes().iter().map(|episode| episode.tasks.clone()).collect()
}

/// A dataset of two episodes of the robot.
fn recorded(root: &Path) {
    let mut recorder = create(root);
    attempt(&mut recorder, 0, 9, true).unwrap();
    attempt(&mut recorder, 1, 8, true).unwrap();
}

fn edit_json(path: &Path, change: impl FnOnce(&mut Value)) {
    let mut value: Value = serde_json::from_slice(&fs::read(path).unwrap()).unwrap();
    change(&mut value);
    fs::write(path, value.to_string()).unwrap();
}

fn in_place(plan: &crate::Plan) {
    plan.run(&Output::InPlace, &mut go_on).unwrap();
}

#[test]
fn a_rate_written_as_a_float_is_resumed() {
    let folder = tempfile::tempdir().unwrap();
    recorded(folder.path());
    edit_json(&folder.path().join("meta/info.json"), |info| info["fps"] = 30.0.into());
    assert_whole(folder.path());
    let mut recorder = DatasetRecorder::resume(folder.path(), &robot(), 30, RecorderOptions::default()).unwrap();
    attempt(&mut recorder, 2, 7, true).unwrap();
    drop(recorder);
    assert_whole(folder.path());
    assert!(fs::read_to_string(folder.path().join("meta/info.json")).unwrap().contains("\"fps\": 30,"));
}

#[test]
fn rates_that_are_no_whole_numbers_are_recorded_verified_edited_and_exported() {
    for hz in [29.97, 12.5, 30000.0 / 1001.0, 0.5] {
        let folder = tempfile::tempdir().unwrap();
        let root = folder.path().join("dataset");
        let features = vec![Feature::video("observation.images.front", 64, 48)];
        let schema = DatasetSchema { fps: Rate::from_hz(hz).unwrap(), ..DatasetSchema::new(1, features) };
        let picture = vec![90; 64 * 48 * 3].into();
        for resumed in [false, true] {
            let mut writer = match resumed {
                false => DatasetWriter::create(&root, &schema, RecorderOptions::default()).unwrap(),
                true => DatasetWriter::resume(&root, &schema, RecorderOptions::default()).unwrap(),
            };
            for length in [7, 40] {
                writer.begin_episode(Default::default()).unwrap();
                for _ in 0..length {
                    writer.add_row(&Row { task: "wait", values: &[crate::Value::Rgb(&picture)], side: &[] }).unwrap();
                }
                writer.save_episode(Default::default()).unwrap();
            }
        }
        assert_whole(&root);
        assert_eq!(DatasetInfo::open(&root).unwrap().fps.hz(), hz);
        in_place(&plan_delete(&root, &[0]).unwrap());
        let video = VideoOptions::default();
        in_place(&plan_convert(&root, &Conversion { cameras: Some(CameraForm::Video(video)), ..Conversion::default() }).unwrap());
        assert_whole(&root);
        let reader = DatasetReader::open(&root).unwrap();
        assert_eq!(
            reader.images(1, "observation.images.front", 0..7).unwrap().map(|image| image.unwrap().width).collect::<Vec<_>>(),
            [64; 7]
        );
        write_mcap(&reader, &[0, 1], &folder.path().join("a.mcap"), &mut go_on).unwrap();
    }
}

#[test]
fn images_whose_channels_are_declared_first_are_whole_and_edited() {
    let folder = tempfile::tempdir().unwrap();
    let root = folder.path();
    recorded(root);
    edit_json(&root.join(INFO), |info| {
        for (key, feature) in info["features"].as_object_mut().unwrap() {
            if key.contains("images") {
                let [height, width] = [0, 1].map(|at| feature["shape"][at].clone());
                feature["shape"] = json!([3, height, width]);
                feature["names"] = json!(["channel", "height", "width"]);
            }
        }
    });
    let sizes: Vec<(u64, u64)> = DatasetInfo::open(root).unwrap().cameras.iter().map(|camera| (camera.width, camera.height)).collect();
    let whole = tempfile::tempdir().unwrap();
    recorded(whole.path());
    let expected = DatasetInfo::open(whole.path()).unwrap();
    assert_eq!(sizes, expected.cameras.iter().map(|camera| (camera.width, camera.height)).collect::<Vec<_>>());
    assert_eq!(examined(root), Report::default());
    // Going on with it leaves the declaration as it was.
    let mut recorder = DatasetRecorder::resume(root, &robot(), 30, RecorderOptions::default()).unwrap();
    attempt(&mut recorder, 2, 7, true).unwrap();
    drop(recorder);
    in_place(&plan_delete(root, &[0]).unwrap());
    in_place(&plan_convert(root, &Conversion { cameras: Some(CameraForm::Images), ..Conversion::default() }).unwrap());
    assert_eq!(examined(root), Report::default());
}

#[test]
fn numbers_that_are_not_finite_are_a_warning_and_stay_what_they_are() {
    let folder = tempfile::tempdir().unwrap();
    let root = folder.path();
    let schema = DatasetSchema::new(10, vec![Feature::numbers("next.reward", crate::Dtype::F32, &[1])]);
    let mut writer = DatasetWriter::create(root, &schema, RecorderOptions::default()).unwrap();
    for _ in 0..2 {
        writer.begin_episode(Default::default()).unwrap();
        for row in 0..4 {
            writer.add_row(&Row { task: "wait", values: &[crate::Value::from(&[row as f32][..])], side: &[] }).unwrap();
        }
        writer.save_episode(Default::default()).unwrap();
    }
    drop(writer);
    let with_nan = |values: &ArrayRef| -> ArrayRef {
        let values = arrow::array::AsArray::as_primitive::<arrow::datatypes::Float32Type>(values);
        Arc::new(
            values
                .iter()
                .map(|value| value.map(|value| if value == 3.0 { f32::NAN } else { value }))
                .collect::<arrow::array::Float32Array>(),
        )
    };
    edit_table(&root.join(DATA), |name, column| if name == "next.reward" { with_nan(column) } else { column.clone() });
    // As Python writes it.
    let text = fs::read_to_string(root.join(STATS)).unwrap();
    let mut stats: Value = serde_json::from_str(&text).unwrap();
    for key in ["min", "max", "mean", "std", "q01", "q10", "q50", "q90", "q99"] {
        stats["next.reward"][key] = json!(["NaN"]);
    }
    fs::write(root.join(STATS), stats.to_string().replace("\"NaN\"", "NaN")).unwrap();
    let report = examined(root);
    assert!(report.warnings.iter().any(|warning| warning.what == "episode 1: next.reward of frame 3 is NaN"), "{report:?}");
    in_place(&plan_stats(root).unwrap());
    for version in [Version::V21, Version::V30] {
        in_place(&plan_convert(root, &Conversion { version: Some(version), ..Conversion::default() }).unwrap());
        let report = examined(root);
        assert_eq!((report.faults.len(), report.warnings.len()), (0, 2), "{report:?}");
    }
    assert!(fs::read_to_string(root.join(STATS)).unwrap().contains("NaN"));
    // Nothing but the rows is odd, and no repair changes those.
    assert!(plan_repair(root, ShortVideo::default(), &mut go_on).unwrap().is_none());
    let mut writer = DatasetWriter::resume(root, &schema, RecorderOptions::default()).unwrap();
    writer.begin_episode(Default::default()).unwrap();
    writer.add_row(&Row { task: "wait", values: &[crate::Value::from(&[1f32][..])], side: &[] }).unwrap();
    writer.save_episode(Default::default()).unwrap();
    assert!(read_json(&root.join(STATS)).unwrap()["next.reward"]["mean"][0].is_null());
    assert_eq!(examined(root).faults, []);
}

#[test]
fn tasks_are_found_by_their_numbers_in_any_order_and_with_gaps() {
    let folder = tempfile::tempdir().unwrap();
    let root = folder.path();
    recorded(root);
    let words = tasks_of(root);
    let write = |tasks: &[(u64, &str)]| {
        fs::write(root.join("meta/tasks.parquet"), numbered_tasks_file(tasks.iter().copied()).unwrap()).unwrap();
    };
    write(&[(1, "Touch the marker"), (0, "Push the cube")]);
    let report = examined(root);
    assert_eq!((report.faults.len(), report.warnings.len()), (0, 1));
    assert!(report.warnings[0].to_string().contains("LeRobot 0.6.1 goes by the row"));
    // Only the tables of episodes are broken; the words are there.
    fs::remove_dir_all(root.join("meta/episodes")).unwrap();
    in_place(&plan_repair(root, ShortVideo::default(), &mut go_on).unwrap().unwrap());
    assert_eq!((tasks_of(root), examined(root)), (words.clone(), Report::default()));

    let renumbered = |_: &str| -> ArrayRef { Arc::new(Int16Array::from([vec![0; 9], vec![3; 8]].concat())) };
    edit_table(&root.join(DATA), |name, column| if name == "task_index" { renumbered(name) } else { column.clone() });
    write(&[(3, "Touch the marker"), (0, "Push the cube")]);
    let mut recorder = DatasetRecorder::resume(root, &robot(), 30, RecorderOptions::default()).unwrap();
    attempt(&mut recorder, 3, 5, true).unwrap();
    drop(recorder);
    in_place(&plan_stats(root).unwrap());
    assert_eq!(examined(root), Report::default());
    assert_eq!(tasks_of(root)[..2], words);
}

#[test]
fn a_side_table_of_some_episodes_only_is_whole() {
    let folder = tempfile::tempdir().unwrap();
    let root = folder.path();
    recorded(root);
    let options = RecorderOptions { telemetry: false, ..RecorderOptions::default() };
    let mut recorder = DatasetRecorder::resume(root, &robot(), 30, options).unwrap();
    attempt(&mut recorder, 2, 7, true).unwrap();
    drop(recorder);
    assert_eq!(examined(root), Report::default());
    in_place(&plan_delete(root, &[0]).unwrap());
    assert_eq!(examined(root), Report::default());
    let rows: usize = read_whole(&root.join("sinew/ticks/chunk-000/file-000.parquet")).unwrap().iter().map(RecordBatch::num_rows).sum();
    assert_eq!(rows, 8);
    edit_table(&root.join("sinew/ticks/chunk-000/file-000.parquet"), |name, column| {
        if name == "episode_index" { Arc::new(UInt8Array::from(vec![7; 8])) } else { column.clone() }
    });
    assert!(examined(root).faults[0].what.contains("episode 7 has 8 rows, expected that there is no such episode"));
}

#[test]
fn a_dataset_without_quantiles_or_statistics_is_resumed_and_what_is_stale_is_a_warning() {
    for known in [true, false] {
        let folder = tempfile::tempdir().unwrap();
        let root = folder.path();
        recorded(root);
        if known {
            edit_json(&root.join(STATS), |stats| {
                for feature in stats.as_object_mut().unwrap().values_mut() {
                    feature.as_object_mut().unwrap().retain(|key, _| !key.starts_with('q'));
                }
                // As an edit of LeRobot's leaves them.
                stats["index"]["mean"] = json!([1.0]);
            });
        } else {
            fs::remove_file(root.join(STATS)).unwrap();
        }
        let report = examined(root);
        assert_eq!((report.faults, report.warnings[0].mend), (Vec::new(), Some(Mend::Stats)));
        let mut recorder = DatasetRecorder::resume(root, &robot(), 30, RecorderOptions::default()).unwrap();
        attempt(&mut recorder, 2, 7, true).unwrap();
        drop(recorder);
        let stats = read_json(&root.join(STATS)).unwrap();
        assert_eq!((stats["action"]["count"] == json!([24]), stats["action"]["q01"].is_null()), (known, true), "{stats}");
        assert_eq!(examined(root).faults, []);
        in_place(&plan_stats(root).unwrap());
        assert_eq!(examined(root), Report::default());
    }
    // Statistics that a policy is trained with are another matter.
    let folder = tempfile::tempdir().unwrap();
    recorded(folder.path());
    edit_json(&folder.path().join(STATS), |stats| stats["action"]["mean"][0] = json!(7.0));
    assert_eq!(examined(folder.path()).faults.len(), 1);
}

#[test]
fn columns_of_other_widths_and_forms_are_read() {
    let folder = tempfile::tempdir().unwrap();
    let root = folder.path();
    let features = vec![Feature::text("note"), Feature::numbers("done", crate::Dtype::Bool, &[1])];
    let mut writer = DatasetWriter::create(root, &DatasetSchema::new(10, features), RecorderOptions::default()).unwrap();
    writer.begin_episode(Default::default()).unwrap();
    for row in 0..4 {
        let values = [crate::Value::Text("né"), crate::Value::from(&[Truth(row == 3)][..])];
        writer.add_row(&Row { task: "wait", values: &values, side: &[] }).unwrap();
    }
    writer.save_episode(Default::default()).unwrap();
    drop(writer);
    let narrow = |name: &str, column: &ArrayRef| -> ArrayRef {
        match name {
            "index" | "episode_index" | "task_index" | "frame_index" => {
                crate::format::cast::cast(column, &arrow::datatypes::DataType::UInt8).unwrap()
            }
            "timestamp" => crate::format::cast::cast(column, &arrow::datatypes::DataType::Float64).unwrap(),
            "done" => Arc::new(UInt8Array::from(vec![0, 0, 0, 1])),
            "note" => Arc::new(vec!["né"; 4].into_iter().collect::<DictionaryArray<Int32Type>>()),
            _ => column.clone(),
        }
    };
    edit_table(&root.join(DATA), narrow);
    edit_table(&root.join("meta/tasks.parquet"), |name, column| match name {
        "task" => Arc::new(LargeStringArray::from(vec!["wait"])),
        _ => narrow("index", column),
    });
    edit_table(&root.join("meta/episodes/chunk-000/file-000.parquet"), |name, column| match name {
        "length" | "dataset_to_index" => Arc::new(Int16Array::from(vec![4])),
        "episode_index" => Arc::new(Float64Array::from_iter_values([0.0])),
        _ => column.clone(),
    });
    assert_eq!(examined(root), Report::default());
    in_place(&plan_stats(root).unwrap());
    assert_eq!(examined(root), Report::default());
    let rows = DatasetReader::open(root).unwrap().rows(0, 0..4).unwrap();
    assert!(crate::format::arrays::strings(rows.column_by_name("note").unwrap()).unwrap().iter().all(|note| note == "né"));
    assert!(rows.column_by_name("done").unwrap().as_any().is::<arrow::array::BooleanArray>());
}

#[cfg(unix)]
#[test]
fn links_out_of_a_dataset_are_not_followed_and_pipes_not_waited_for() {
    use std::os::unix::fs::symlink;
    let folder = tempfile::tempdir().unwrap();
    let [root, out, private] = ["dataset", "out", "private"].map(|name| folder.path().join(name));
    recorded(&root);
    fs::create_dir(&private).unwrap();
    fs::write(private.join("key"), "secret").unwrap();
    symlink(&private, root.join("extra")).unwrap();
    symlink(private.join("key"), root.join("notes.txt")).unwrap();
    symlink(folder.path().join("nowhere"), root.join("raw")).unwrap();
    rustix::fs::mkfifoat(rustix::fs::CWD, root.join("pipe"), rustix::fs::Mode::RUSR).unwrap();
    let plan = plan_delete(&root, &[0]).unwrap();
    let said = plan.to_string();
    for name in ["extra is a link", "notes.txt is a link", "raw is a link", "pipe is left out: it is no file"] {
        assert!(said.contains(name), "{said}");
    }
    plan.run(&Output::Folder(out.clone()), &mut go_on).unwrap();
    for name in ["extra", "notes.txt", "raw", "pipe"] {
        assert!(fs::symlink_metadata(out.join(name)).is_err(), "{name}");
    }
    in_place(&plan);
    for name in ["extra", "notes.txt", "raw"] {
        assert!(fs::symlink_metadata(root.join(name)).unwrap().is_symlink(), "{name}");
    }
    // A pipe where a file of the format should be.
    fs::remove_file(root.join("meta/stats.json")).unwrap();
    rustix::fs::mkfifoat(rustix::fs::CWD, root.join("meta/stats.json"), rustix::fs::Mode::RUSR).unwrap();
    assert!(super::chain(&verify(&root).unwrap_err()).contains("a pipe, a socket or a device"));
}

#[test]
fn names_with_slashes_are_read_and_edited() {
    let folder = tempfile::tempdir().unwrap();
    let root = folder.path().join("dataset");
    recorded(&root);
    let path = root.join("meta/info.json");
    let renamed =
        |name: &str| name.replace("observation.state", "observation/state").replace("observation.images.front", "observation/images/front");
    fs::write(&path, renamed(&fs::read_to_string(&path).unwrap())).unwrap();
    fs::create_dir_all(root.join("videos/observation/images")).unwrap();
    fs::rename(root.join("videos/observation.images.front"), root.join("videos/observation/images/front")).unwrap();
    for tree in ["data", "meta/episodes"] {
        for path in crate::format::info::parquet_files(&root.join(tree)).unwrap() {
            rewrite_table(&path, |name, column| (renamed(name), column.clone()));
        }
    }
    let stats = root.join("meta/stats.json");
    fs::write(&stats, renamed(&fs::read_to_string(&stats).unwrap())).unwrap();
    assert_eq!(examined(&root).faults, []);
    in_place(&plan_delete(&root, &[0]).unwrap());
    assert_eq!(examined(&root).faults, []);
    let reader = DatasetReader::open(&root).unwrap();
    assert!(reader.image(0, "observation/images/front", 1).is_ok());
}
