//! Commits beside other programs, and what is found where one was begun.

use std::fs;

use serde_json::Value;

use super::{assert_whole, attempt, chain, contents, create, robot};
use crate::commit::{Staging, tests::Written};
use crate::{DatasetRecorder, Layout, RecordError, RecorderOptions, recover, remove_begun};

fn start(root: &std::path::Path) -> Result<DatasetRecorder, RecordError> {
    DatasetRecorder::create(root, &robot(), 30, RecorderOptions::default())
}

#[test]
fn a_dataset_that_was_started_and_has_no_episode_is_gone_on_with() {
    let folder = tempfile::tempdir().unwrap();
    let root = folder.path().join("dataset");
    drop(start(&root).unwrap());
    let mut recorder = start(&root).unwrap();
    attempt(&mut recorder, 0, 4, true).unwrap();
    drop(recorder);
    assert_whole(&root);
    assert!(matches!(start(&root), Err(RecordError::NotEmpty { .. })), "one with an episode is not");
    // Killed before there was an info.json.
    let other = folder.path().join("other");
    fs::create_dir_all(other.join(".sinew/stage")).unwrap();
    fs::write(other.join(".sinew/stage/1-1"), "half").unwrap();
    fs::create_dir_all(other.join("meta")).unwrap();
    drop(start(&other).unwrap());
    // A folder that nobody started a dataset in is somebody's.
    let somebodys = folder.path().join("somebodys");
    fs::create_dir_all(somebodys.join("meta")).unwrap();
    assert!(matches!(start(&somebodys), Err(RecordError::NotEmpty { .. })));
}

#[test]
fn keys_of_others_stay_when_a_dataset_is_gone_on_with() {
    for layout in [Layout::V30, Layout::V21] {
        let folder = tempfile::tempdir().unwrap();
        let options = || RecorderOptions { layout, ..RecorderOptions::default() };
        let mut recorder = DatasetRecorder::create(folder.path(), &robot(), 30, options()).unwrap();
        attempt(&mut recorder, 0, 4, true).unwrap();
        drop(recorder);
        let path = folder.path().join("meta/info.json");
        let read = || -> Value { serde_json::from_slice(&fs::read(&path).unwrap()).unwrap() };
        let mut info = read();
        info["tools"] = serde_json::json!([{"name": "hammer"}]);
        info["fps"] = 30.0.into();
        fs::write(&path, info.to_string()).unwrap();
        let mut recorder = DatasetRecorder::resume(folder.path(), &robot(), 30, options()).unwrap();
        attempt(&mut recorder, 1, 4, true).unwrap();
        drop(recorder);
        assert_eq!((&read()["tools"], read()["total_episodes"].as_u64()), (&info["tools"], Some(2)));
        let chunks = if layout == Layout::V21 { Some(1) } else { None };
        assert_eq!(read()["total_chunks"].as_u64(), chunks);
        assert_whole(folder.path());
    }
}

#[test]
fn what_another_program_writes_meanwhile_is_not_overwritten() {
    let folder = tempfile::tempdir().unwrap();
    let root = folder.path().join("dataset");
    let mut recorder = create(&root);
    attempt(&mut recorder, 0, 4, true).unwrap();
    let path = root.join("meta/info.json");
    let mut info: Value = serde_json::from_slice(&fs::read(&path).unwrap()).unwrap();
    info["total_episodes"] = 7.into();
    fs::write(&path, info.to_string()).unwrap();
    let error = attempt(&mut recorder, 1, 4, true).unwrap_err();
    assert!(chain(&error).contains("info.json was changed by another program"), "{}", chain(&error));
    drop(recorder);
    assert_eq!(fs::read_to_string(&path).unwrap(), info.to_string());
}

/// A commit whose log was left behind after all of it was made, as when a sync failed or the process was killed.
#[test]
fn a_log_that_was_left_behind_is_not_replayed_over_what_others_wrote() {
    let folder = tempfile::tempdir().unwrap();
    let root = folder.path().join("dataset");
    let mut recorder = create(&root);
    attempt(&mut recorder, 0, 4, true).unwrap();
    drop(recorder);
    let [info, log] = ["meta/info.json", ".sinew/commit"].map(|path| root.join(path));
    let (mut staging, _) = Staging::open(&root).unwrap();
    staging.remember(&["meta/info.json"]).unwrap();
    let mut ours: Value = serde_json::from_slice(&fs::read(&info).unwrap()).unwrap();
    ours["by_us"] = true.into();
    let change = staging.write("meta/info.json", ours.to_string().as_bytes()).unwrap();
    staging.commit(vec![change]).unwrap();
    let kept = fs::read(&log).unwrap();
    staging.install().unwrap();
    drop(staging);
    assert_eq!(fs::read_to_string(&info).unwrap(), ours.to_string());
    ours["by_another"] = true.into();
    fs::write(&info, ours.to_string()).unwrap();
    fs::create_dir_all(root.join(".sinew")).unwrap();
    fs::write(&log, kept).unwrap();
    recover(&root).unwrap();
    assert_eq!(fs::read_to_string(&info).unwrap(), ours.to_string());
    assert!(!log.exists(), "it is done with");
    assert_whole(&root);
}

#[test]
fn a_log_that_leads_out_or_is_damaged_is_refused() {
    let folder = tempfile::tempdir().unwrap();
    let root = folder.path().join("dataset");
    drop(create(&root));
    fs::create_dir_all(root.join(".sinew")).unwrap();
    let refused = |log: &Written| {
        fs::write(root.join(".sinew/commit"), log.bytes()).unwrap();
        chain(&recover(&root).unwrap_err())
    };
    for path in ["../escaped", "/etc/escaped", "meta/../../escaped", ""] {
        let error = refused(&Written::of(3, path));
        assert!(error.contains("leads out of the dataset") || error.contains("names no file"), "{error}");
    }
    assert!(refused(&Written::of(4, "meta/info.json")).contains("version"));
    assert!(refused(&Written::damaged()).contains("damaged"));
    std::os::unix::fs::symlink(folder.path(), root.join("linked")).unwrap();
    assert!(refused(&Written::of(3, "linked/escaped")).contains("is a link"));
}

#[test]
fn what_failed_before_its_first_episode_leaves_nothing_where_that_is_wanted() {
    let folder = tempfile::tempdir().unwrap();
    let root = folder.path().join("dataset");
    drop(start(&root).unwrap());
    assert!(matches!(remove_begun(&root), Ok(true)));
    assert_eq!(fs::read_dir(&root).unwrap().count(), 0);
    // After an attempt that was not kept.
    let mut recorder = start(&root).unwrap();
    assert!(remove_begun(&root).is_err(), "somebody is recording into it");
    attempt(&mut recorder, 0, 4, false).unwrap();
    drop(recorder);
    assert!(matches!(remove_begun(&root), Ok(true)));
    assert_eq!(fs::read_dir(&root).unwrap().count(), 0);
    // What somebody put there is his.
    drop(start(&root).unwrap());
    fs::write(root.join("meta/notes.txt"), "mine").unwrap();
    let before = contents(&root);
    assert!(matches!(remove_begun(&root), Ok(false)));
    assert_eq!(contents(&root), before);
    fs::remove_file(root.join("meta/notes.txt")).unwrap();
    let mut recorder = start(&root).unwrap();
    attempt(&mut recorder, 0, 4, true).unwrap();
    drop(recorder);
    assert!(matches!(remove_begun(&root), Ok(false)));
    assert_whole(&root);
    assert!(remove_begun(folder.path()).is_err(), "no dataset");
}
