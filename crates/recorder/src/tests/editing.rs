//! What an edit must not lose: episodes recorded meanwhile, other programs' files, and the lock.

use std::fs;
use std::path::Path;
use std::sync::Arc;

use arrow::array::{ArrayRef, Int32Array, Int64Array, RecordBatch, StringArray};
use arrow::compute::concat_batches;
use arrow::datatypes::DataType;
use serde_json::{Map, Value, json};
use sinew_core::{EpisodeEnd, FrameSink, Outcome};

use super::model::{go_on, read, record, small_robot};
use super::{assert_whole, contents, frame, start};
use crate::commit::Staging;
use crate::format::arrays::{integers, strings};
use crate::format::parquet_read::read_whole;
use crate::tools::rows::{close, table_writer};
use crate::{
    Condition, Conversion, DatasetInfo, DatasetReader, DatasetRecorder, DatasetSchema, DatasetWriter, Dtype, Feature, Output,
    RecorderOptions, Row, Version, forget_undo, kept_for_undo, plan_convert, plan_delete, plan_merge, plan_rename_task, plan_split,
    plan_undo, select_episodes, undo, verify_with,
};

fn in_place(plan: &crate::Plan) {
    plan.run(&Output::InPlace, &mut go_on).unwrap();
}

#[test]
fn a_plan_is_not_carried_out_on_another_dataset_than_it_was_made_of() {
    let folder = tempfile::tempdir().unwrap();
    let [root, out] = ["dataset", "out"].map(|name| folder.path().join(name));
    record(&root, 0, &[3, 4]);
    let plan = plan_delete(&root, &[0]).unwrap();
    // While the question waits.
    record(&root, 1, &[2]);
    let before = contents(&root);
    for output in [Output::InPlace, Output::Folder(out.clone())] {
        let error = plan.run(&output, &mut go_on).unwrap_err();
        assert!(error.to_string().contains("has changed since"), "{error}");
        assert!(contents(&root) == before && !out.exists());
    }
    in_place(&plan_delete(&root, &[0]).unwrap());
    assert_eq!(read(&root).len(), 2);
}

/// What a program notes of the place is no change of the dataset, and holds whatever is there.
#[test]
fn notes_of_an_upload_stay_when_a_change_is_undone() {
    let folder = tempfile::tempdir().unwrap();
    let root = folder.path().join("dataset");
    record(&root, 0, &[3, 4]);
    let notes = root.join(".cache/sinew/upload.jsonl");
    fs::create_dir_all(notes.parent().unwrap()).unwrap();
    fs::write(&notes, "before").unwrap();
    plan_delete(&root, &[1]).unwrap().run(&Output::InPlace, &mut go_on).unwrap();
    assert_eq!(fs::read_to_string(&notes).unwrap(), "before");
    fs::write(&notes, "after an upload").unwrap();
    let plan = plan_undo(&root).unwrap();
    assert_eq!(plan.newer(), None);
    plan.run(false).unwrap();
    assert_eq!((read(&root).len(), fs::read_to_string(&notes).unwrap().as_str()), (2, "after an upload"));
}

#[test]
fn undo_takes_no_newer_episode_away_unasked() {
    let folder = tempfile::tempdir().unwrap();
    let root = folder.path().join("dataset");
    record(&root, 0, &[3, 4]);
    in_place(&plan_delete(&root, &[0]).unwrap());
    record(&root, 1, &[2, 5]);
    let before = contents(&root);
    let error = undo(&root).unwrap_err();
    assert!(error.to_string().contains("episodes 1 and 2"), "{error}");
    assert!(contents(&root) == before);
    // Nor does it where something else was changed.
    let root = folder.path().join("other");
    record(&root, 0, &[3, 4]);
    in_place(&plan_delete(&root, &[0]).unwrap());
    fs::write(root.join("README.md"), "# A card").unwrap();
    let error = undo(&root).unwrap_err();
    assert!(error.to_string().contains("README.md"), "{error}");
}

#[test]
fn whoever_holds_one_of_two_folders_that_change_places_keeps_his_lock() {
    let folder = tempfile::tempdir().unwrap();
    let [root, kept] = ["dataset", ".dataset.undo"].map(|name| folder.path().join(name));
    record(&root, 0, &[3, 4]);
    in_place(&plan_delete(&root, &[0]).unwrap());
    // As one who opened the dataset right after another exchange, by its old name.
    let (other, _) = Staging::open_any(&kept).unwrap();
    let before = contents(folder.path());
    let error = undo(&root).unwrap_err();
    assert!(error.to_string().contains("another process"), "{error}");
    let mut after = contents(folder.path());
    after.retain(|path, _| !path.ends_with("dataset/.sinew/lock"));
    assert!(after == before);
    drop(other);
    undo(&root).unwrap();
    assert!(!root.join(".sinew").exists() && !kept.join(".sinew").exists());
    assert_eq!(read(&root).len(), 2);
}

/// A dataset of episodes of 3, 4 and 2 frames with what other programs keep in theirs.
fn with_others_files(root: &Path) {
    record(root, 0, &[3, 4, 2]);
    let put = |name: &str, text: &str| {
        let path = root.join(name);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, text).unwrap();
    };
    put("meta/modality.json", r#"{"state": {"arm": {"start": 0, "end": 2}}}"#);
    put("meta/notes.jsonl", "{\"episode_index\": 0, \"good\": true}\n{\"episode_index\": 2, \"good\": false}\n");
    put("annotations/by_hand.txt", "all fine");
    let path = root.join("meta/info.json");
    let mut info: Value = serde_json::from_str(&fs::read_to_string(&path).unwrap()).unwrap();
    info["tools"] = json!([{"type": "function"}]);
    fs::write(&path, serde_json::to_string_pretty(&info).unwrap()).unwrap();
}

fn info(root: &Path) -> Value {
    serde_json::from_str(&fs::read_to_string(root.join("meta/info.json")).unwrap()).unwrap()
}

#[test]
fn what_others_keep_in_a_dataset_stays() {
    let folder = tempfile::tempdir().unwrap();
    let root = folder.path().join("dataset");
    with_others_files(&root);
    in_place(&plan_rename_task(&root, "Wave", "Fold the cloth").unwrap());
    in_place(&plan_delete(&root, &[1]).unwrap());
    assert_whole(&root);
    assert_eq!(info(&root)["tools"], json!([{"type": "function"}]));
    assert!(root.join("meta/modality.json").exists() && root.join("annotations/by_hand.txt").exists());
    let notes = fs::read_to_string(root.join("meta/notes.jsonl")).unwrap();
    let notes: Vec<Value> = notes.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    assert_eq!(notes, [json!({"episode_index": 0, "good": true}), json!({"episode_index": 1, "good": false})]);
}

#[test]
fn an_episode_between_key_frames_is_taken_out_all_the_same() {
    let folder = tempfile::tempdir().unwrap();
    let [root, stream, parts] = ["dataset", "stream", "parts"].map(|name| folder.path().join(name));
    record(&root, 0, &[3, 4, 2]);
    // The same number of frames as one stream, with a key frame at every second one.
    record(&stream, 0, &[9]);
    for camera in ["front", "wrist"] {
        let video = format!("videos/observation.images.{camera}/chunk-000/file-000.mp4");
        fs::copy(stream.join(&video), root.join(&video)).unwrap();
    }
    let reader = DatasetReader::open(&root).unwrap();
    let wanted = reader.image(1, "observation.images.front", 2).unwrap();
    let plan = plan_split(&root, &[("a".to_owned(), vec![1]), ("b".to_owned(), vec![0, 2])]).unwrap();
    assert!(plan.to_string().contains("between key frames"), "{plan}");
    plan.run(&Output::Folder(parts.clone()), &mut go_on).unwrap();
    for part in ["a", "b"] {
        let faults = verify_with(&parts.join(part), false, &mut go_on).unwrap();
        assert_eq!(faults, [], "{part}");
    }
    let found = DatasetReader::open(&parts.join("a")).unwrap().image(0, "observation.images.front", 2).unwrap();
    let off = wanted.rgb.iter().zip(found.rgb.iter()).map(|(a, b)| f64::from(a.abs_diff(*b))).sum::<f64>() / wanted.rgb.len() as f64;
    assert!(off < 4.0, "{off}");
}

#[cfg(unix)]
#[test]
fn what_an_edit_does_not_change_is_not_written_again() {
    use std::os::unix::fs::MetadataExt;
    let folder = tempfile::tempdir().unwrap();
    let root = folder.path().join("dataset");
    record(&root, 0, &[3, 4, 2]);
    let files = ["data/chunk-000/file-000.parquet", "videos/observation.images.front/chunk-000/file-000.mp4"];
    let inodes = |root: &Path| files.map(|file| fs::metadata(root.join(file)).unwrap().ino());
    let before = inodes(&root);
    in_place(&plan_rename_task(&root, "Wave", "Fold the cloth").unwrap());
    let (now, kept) = (inodes(&root), inodes(&folder.path().join(".dataset.undo")));
    assert_eq!((now[1], kept), (before[1], before));
    // LeRobot writes tables in place.
    assert_ne!(now[0], before[0]);
    // What is recorded then changes nothing of what is kept.
    let kept = contents(&folder.path().join(".dataset.undo"));
    record(&root, 1, &[5]);
    assert!(contents(&folder.path().join(".dataset.undo")) == kept);
    assert_whole(&root);
}

/// A dataset whose rows have numbers of tasks beside their own, and numbers of subtasks: an episode a task.
fn annotated(root: &Path, tasks: &[&str], subtasks: &[&str]) {
    let features = vec![
        Feature::numbers("action", Dtype::F32, &[1]),
        Feature::numbers("annotation.human.task", Dtype::I64, &[1]),
        Feature::numbers("subtask_index", Dtype::I64, &[1]),
    ];
    let mut writer = DatasetWriter::create(root, &DatasetSchema::new(10, features), RecorderOptions::default()).unwrap();
    for (number, task) in tasks.iter().enumerate() {
        writer.begin_episode(Map::new()).unwrap();
        for row in 0..3 {
            let subtask = row as i64 % subtasks.len() as i64;
            let values = [crate::Value::from(&[row as f32][..]), (&[number as i64][..]).into(), (&[subtask][..]).into()];
            writer.add_row(&Row { task, values: &values, side: &[] }).unwrap();
        }
        writer.save_episode(Map::new()).unwrap();
    }
    drop(writer);
    let names: ArrayRef = Arc::new(StringArray::from_iter_values(subtasks));
    let numbers: ArrayRef = Arc::new(Int64Array::from_iter_values(0..subtasks.len() as i64));
    put_table(&root.join("meta/subtasks.parquet"), vec![("subtask_index", numbers), ("subtask", names)]);
}

fn put_table(path: &Path, columns: Vec<(&str, ArrayRef)>) {
    let batch = RecordBatch::try_from_iter(columns).unwrap();
    let mut writer = table_writer(path, &batch).unwrap();
    writer.write(&batch).unwrap();
    close(path, writer).unwrap();
}

/// Of each episode its task, what its annotation says and its subtasks.
fn said(root: &Path) -> Vec<(String, String, Vec<String>)> {
    let reader = DatasetReader::open(root).unwrap();
    let words: Vec<String> =
        strings(read_whole(&root.join("meta/subtasks.parquet")).unwrap()[0].column_by_name("subtask").unwrap()).unwrap();
    let episodes = reader.episodes().iter().map(|episode| {
        let rows = reader.rows(episode.episode_index, 0..episode.length).unwrap();
        let numbers = |key: &str| integers(&rows, key).unwrap();
        let annotated = reader.tasks()[numbers("annotation.human.task")[0] as usize].clone();
        (episode.tasks[0].clone(), annotated, numbers("subtask_index").into_iter().map(|number| words[number as usize].clone()).collect())
    });
    episodes.collect()
}

#[test]
fn numbers_of_words_are_those_of_the_same_words_after_an_edit() {
    let folder = tempfile::tempdir().unwrap();
    let [one, two, both] = ["one", "two", "both"].map(|name| folder.path().join(name));
    annotated(&one, &["pick", "push", "wave"], &["reach", "grasp"]);
    annotated(&two, &["fold", "push"], &["grasp", "lift", "reach"]);
    let wanted = [said(&one), said(&two)].concat();
    let plan = plan_merge(&[one.clone(), two]).unwrap();
    assert!(plan.to_string().contains("become one of 3 subtasks"), "{plan}");
    plan.run(&Output::Folder(both.clone()), &mut go_on).unwrap();
    assert_eq!(said(&both), wanted);
    in_place(&plan_delete(&both, &[0, 3]).unwrap());
    assert_eq!(said(&both), [&wanted[1..3], &wanted[4..]].concat());
    in_place(&plan_rename_task(&both, "push", "Push it.").unwrap());
    assert_eq!(said(&both)[0].1, "Push it.");
    assert_whole(&both);
}

#[test]
fn what_can_t_be_kept_is_said_before() {
    let folder = tempfile::tempdir().unwrap();
    let [one, two, both] = ["one", "two", "both"].map(|name| folder.path().join(name));
    with_others_files(&one);
    with_others_files(&two);
    let put = |path: &Path, text: &str| fs::write(path, text).unwrap();
    put(&two.join("meta/modality.json"), "{}");
    put(&one.join("meta/relative_stats.json"), "{}");
    put(&one.join("meta/marks.json"), r#"{"bad_episodes": [1]}"#);
    fs::create_dir_all(one.join("videos/observation.images.gone/chunk-000")).unwrap();
    put(&one.join("videos/observation.images.gone/chunk-000/file-000.mp4"), "");
    let path = two.join("meta/info.json");
    put(&path, &fs::read_to_string(&path).unwrap().replace("\"function\"", "\"other\""));
    let shown = plan_delete(&one, &[0]).unwrap().to_string();
    for said in [
        "meta/notes.jsonl is numbered anew",
        "meta/relative_stats.json is left out",
        "meta/marks.json is left out: it speaks of episodes by number",
        "observation.images.gone/chunk-000/file-000.mp4 is left out: no episode is in it",
        "kept as they are, whatever they say of episodes by number: annotations/by_hand.txt",
    ] {
        assert!(shown.contains(said), "{said}: {shown}");
    }
    // Where no number changes, nothing has to go.
    let shown = plan_rename_task(&one, "Wave", "Fold the cloth").unwrap().to_string();
    assert!(!shown.contains("stats.json") && !shown.contains("marks.json"), "{shown}");
    let plan = plan_merge(&[one.clone(), two.clone()]).unwrap();
    for said in [
        "tools of meta/info.json is left out: it is not the same in",
        "meta/modality.json is left out: it is not the same in",
        "meta/marks.json is left out",
    ] {
        assert!(plan.to_string().contains(said), "{said}: {plan}");
    }
    plan.run(&Output::Folder(both.clone()), &mut go_on).unwrap();
    assert!(info(&both)["tools"].is_null() && !both.join("meta/modality.json").exists());
    assert_eq!(fs::read_to_string(both.join("meta/notes.jsonl")).unwrap().lines().count(), 4);
    assert_eq!(fs::read_to_string(both.join("annotations/by_hand.txt")).unwrap(), "all fine");
}

#[test]
fn tables_of_others_are_numbered_anew() {
    let folder = tempfile::tempdir().unwrap();
    let root = folder.path().join("dataset");
    record(&root, 0, &[3, 4, 2]);
    let column = |values: &[i32]| -> ArrayRef { Arc::new(Int32Array::from(values.to_vec())) };
    let columns = vec![("episode_index", column(&[2, 0, 1, 2])), ("index", column(&[7, 1, 3, 8])), ("score", column(&[20, 0, 10, 21]))];
    put_table(&root.join("meta/scores.parquet"), columns);
    in_place(&plan_delete(&root, &[1]).unwrap());
    let batches = read_whole(&root.join("meta/scores.parquet")).unwrap();
    let table = concat_batches(&batches[0].schema(), &batches).unwrap();
    let found = ["episode_index", "index", "score"].map(|name| integers(&table, name).unwrap());
    assert_eq!(found, [vec![0, 1, 1], vec![1, 3, 4], vec![0, 20, 21]]);
    assert_eq!(*table.schema().field(0).data_type(), DataType::Int32);
}

#[test]
fn splits_move_with_their_episodes() {
    let folder = tempfile::tempdir().unwrap();
    let root = folder.path().join("dataset");
    record(&root, 0, &[3, 4, 2, 2]);
    let path = root.join("meta/info.json");
    let mut changed = info(&root);
    changed["splits"] = json!({"train": "0:2", "val": "2:4"});
    fs::write(&path, changed.to_string()).unwrap();
    in_place(&plan_delete(&root, &[1]).unwrap());
    assert_eq!(info(&root)["splits"], json!({"train": "0:1", "val": "1:3"}));
    let plan = plan_delete(&root, &[1, 2]).unwrap();
    assert!(plan.to_string().contains("the split val is left out"), "{plan}");
}

/// Records episodes of 3 rows that end like this.
fn record_ending(root: &Path, ends: &[Outcome]) {
    let robot = small_robot();
    let mut recorder = DatasetRecorder::create(root, &robot, 30, RecorderOptions::default()).unwrap();
    for (number, outcome) in ends.iter().enumerate() {
        recorder.begin(&start(number as u64, "Wave")).unwrap();
        for tick in 0..3 {
            recorder.frame(&frame(&robot, number as u64, tick)).unwrap();
        }
        recorder.end(&EpisodeEnd { outcome: outcome.clone(), keep: true, lost_frames: 0 }).unwrap();
    }
}

/// Of each episode whether it was a success, and why not.
fn ends(root: &Path) -> Vec<(Option<bool>, Option<String>)> {
    DatasetInfo::open(root).unwrap().episodes.into_iter().map(|episode| (episode.success, episode.reason)).collect()
}

#[test]
fn how_an_episode_ended_goes_with_it_and_chooses_it() {
    let folder = tempfile::tempdir().unwrap();
    let [root, older, again] = ["dataset", "older", "again"].map(|name| folder.path().join(name));
    let fail = |why: &str| Outcome::Failure(why.to_owned());
    record_ending(&root, &[Outcome::Success, fail("time is up"), Outcome::Running, fail("it fell"), Outcome::Success]);
    let wanted = [
        (Some(true), None),
        (Some(false), Some("time is up".to_owned())),
        (None, None),
        (Some(false), Some("it fell".to_owned())),
        (Some(true), None),
    ];
    assert_eq!(ends(&root), wanted);
    let chosen = |conditions: &[&str]| {
        let conditions: Vec<Condition> = conditions.iter().map(|text| text.parse().unwrap()).collect();
        select_episodes(&root, &conditions)
    };
    assert_eq!(chosen(&["success=false"]).unwrap(), [1, 3]);
    assert_eq!(chosen(&["success!=true", "reason~TIME"]).unwrap(), [1]);
    assert_eq!(chosen(&["success=null"]).unwrap(), [2]);
    assert_eq!(chosen(&["seed>=103", "length=3"]).unwrap(), [3, 4]);
    assert!(chosen(&["colour=red"]).unwrap_err().to_string().contains("length, limited_"));
    // The table says so by itself, in the columns of LeRobot's file.
    fs::remove_file(root.join("meta/sinew_episodes.jsonl")).unwrap();
    assert_eq!(ends(&root), wanted);
    in_place(&plan_delete(&root, &[0, 2]).unwrap());
    let wanted = [wanted[1].clone(), wanted[3].clone(), wanted[4].clone()];
    assert_eq!(ends(&root), wanted);
    let convert = |from: &Path, to: &Path, version| {
        let conversion = Conversion { version: Some(version), cameras: None };
        plan_convert(from, &conversion).unwrap().run(&Output::Folder(to.to_owned()), &mut go_on).unwrap();
    };
    convert(&root, &older, Version::V21);
    assert_eq!(ends(&older), wanted);
    convert(&older, &again, Version::V30);
    assert_eq!(ends(&again), wanted);
    assert_whole(&again);
}

/// LeRobot reads the tables of episodes by the columns of the first.
#[test]
fn a_recording_goes_on_in_the_columns_that_the_dataset_has() {
    let folder = tempfile::tempdir().unwrap();
    let root = folder.path().join("dataset");
    record(&root, 0, &[3]);
    let has_columns = |file: &str| {
        let batches = read_whole(&root.join("meta/episodes/chunk-000").join(file)).unwrap();
        batches[0].column_by_name("sinew/success").is_some()
    };
    assert!(has_columns("file-000.parquet"));
    record(&root, 1, &[2]);
    assert!(has_columns("file-001.parquet"));
    // One that was recorded before there were such columns.
    fs::remove_file(root.join("meta/episodes/chunk-000/file-001.parquet")).unwrap();
    let root = folder.path().join("before");
    record(&root, 0, &[3]);
    let path = root.join("meta/episodes/chunk-000/file-000.parquet");
    let batch = read_whole(&path).unwrap().remove(0);
    let kept: Vec<usize> = (0..batch.num_columns()).filter(|at| !batch.schema().field(*at).name().starts_with("sinew/")).collect();
    let batch = batch.project(&kept).unwrap();
    let mut writer = table_writer(&path, &batch).unwrap();
    writer.write(&batch).unwrap();
    close(&path, writer).unwrap();
    record(&root, 1, &[2]);
    let second = read_whole(&root.join("meta/episodes/chunk-000/file-001.parquet")).unwrap();
    assert!(second[0].column_by_name("sinew/success").is_none());
    assert_eq!(ends(&root), [(Some(true), None), (Some(true), None)]);
    // An edit writes all of them anew.
    in_place(&plan_rename_task(&root, "Push the cube", "Push it").unwrap());
    assert!(read_whole(&path).unwrap()[0].column_by_name("sinew/success").is_some());
}

#[test]
fn what_is_kept_can_be_forgotten() {
    let folder = tempfile::tempdir().unwrap();
    let root = folder.path().join("dataset");
    record(&root, 0, &[3, 4]);
    assert_eq!(kept_for_undo(&root).unwrap(), None);
    assert!(forget_undo(&root).is_err());
    in_place(&plan_delete(&root, &[0]).unwrap());
    let kept = kept_for_undo(&root).unwrap().unwrap();
    assert_eq!((kept.operation.as_deref(), kept.contents.episodes), (Some("delete 1 of 2 episodes"), 2));
    assert!(kept.own_bytes > 0 && kept.own_bytes <= kept.bytes);
    assert_eq!(forget_undo(&root).unwrap(), kept);
    let beside: Vec<_> = fs::read_dir(folder.path()).unwrap().map(|entry| entry.unwrap().file_name()).collect();
    assert_eq!(beside, ["dataset"]);
    assert!(undo(&root).is_err());
}

#[test]
fn newer_episodes_go_where_that_is_wanted_and_come_back() {
    let folder = tempfile::tempdir().unwrap();
    let root = folder.path().join("dataset");
    record(&root, 0, &[3, 4]);
    let first = read(&root);
    in_place(&plan_delete(&root, &[0]).unwrap());
    record(&root, 1, &[2]);
    let second = read(&root);
    let plan = plan_undo(&root).unwrap();
    assert!(plan.to_string().contains("brings back 2 episodes, 7 frames") && plan.to_string().contains("episode 1 (2 frames)"), "{plan}");
    plan.run(true).unwrap();
    assert_eq!(read(&root), first);
    // Back again, nothing is newer.
    undo(&root).unwrap();
    assert_eq!(read(&root), second);
    // What was kept without a word of what it was.
    fs::remove_file(folder.path().join(".dataset.undo.json")).unwrap();
    let error = undo(&root).unwrap_err();
    assert!(error.to_string().contains("is not known"), "{error}");
}

#[cfg(target_os = "linux")]
#[test]
fn a_dataset_of_links_is_changed_elsewhere_only() {
    let folder = tempfile::tempdir().unwrap();
    let [blobs, root, out] = ["blobs", "dataset", "out"].map(|name| folder.path().join(name));
    record(&blobs, 0, &[3, 4]);
    for path in contents(&blobs).into_keys() {
        let link = root.join(&path);
        fs::create_dir_all(link.parent().unwrap()).unwrap();
        std::os::unix::fs::symlink(blobs.join(&path), link).unwrap();
    }
    let plan = plan_delete(&root, &[0]).unwrap();
    let error = plan.run(&Output::InPlace, &mut go_on).unwrap_err();
    assert!(error.to_string().contains("the Hub's cache"), "{error}");
    plan.run(&Output::Folder(out.clone()), &mut go_on).unwrap();
    assert_whole(&out);
    assert!(!fs::symlink_metadata(out.join("meta/info.json")).unwrap().is_symlink());
    let error = DatasetRecorder::resume(&root, &small_robot(), 30, RecorderOptions::default()).err().unwrap();
    assert!(super::chain(&error).contains("the Hub's cache"), "{error}");
}

#[test]
fn a_result_that_has_no_room_is_not_begun() {
    let folder = tempfile::tempdir().unwrap();
    let root = folder.path().join("dataset");
    record(&root, 0, &[3, 4]);
    let plan = plan_rename_task(&root, "Push the cube", "Push it").unwrap();
    let in_place = plan.space(&Output::InPlace).unwrap();
    let elsewhere = plan.space(&Output::Folder(folder.path().join("out"))).unwrap();
    let of_videos: u64 = contents(&root).iter().filter(|(path, _)| path.starts_with("videos")).map(|(_, bytes)| bytes.len() as u64).sum();
    assert!(in_place.needed_bytes + of_videos * 99 / 100 <= elsewhere.needed_bytes, "{in_place:?} {elsewhere:?}");
    assert!(in_place.free_bytes.is_some_and(|free| free > 0));
}

#[cfg(unix)]
#[test]
fn a_folder_keeps_its_mode_and_owner() {
    use std::os::unix::fs::{MetadataExt, PermissionsExt};
    let folder = tempfile::tempdir().unwrap();
    let root = folder.path().join("dataset");
    record(&root, 0, &[3, 4]);
    fs::set_permissions(&root, fs::Permissions::from_mode(0o700)).unwrap();
    // Only root can give something away.
    let owner = if rustix::process::geteuid().is_root() { 1234 } else { fs::metadata(&root).unwrap().uid() };
    std::os::unix::fs::chown(&root, Some(owner), None).unwrap();
    in_place(&plan_delete(&root, &[0]).unwrap());
    for path in [root.clone(), root.join("meta/info.json"), root.join("data")] {
        assert_eq!(fs::metadata(&path).unwrap().uid(), owner, "{}", path.display());
    }
    assert_eq!(fs::metadata(&root).unwrap().mode() & 0o777, 0o700);
}
