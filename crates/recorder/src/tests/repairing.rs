//! Broken datasets, made by LeRobot itself (golden/make_broken.py) and by hand, and what is saved of them.

use std::fs;
use std::path::Path;

use serde_json::Value;

use super::model::{go_on, read, record};
use super::reading::{golden, has_ffmpeg};
use super::{assert_whole, contents};
use crate::{DatasetReader, Loader, Output, ShortVideo, ToolError, Values, Windows, examine, plan_repair, undo, verify};

fn copy_tree(from: &Path, to: &Path) {
    fs::create_dir_all(to).unwrap();
    for entry in fs::read_dir(from).unwrap() {
        let path = entry.unwrap().path();
        let target = to.join(path.file_name().unwrap());
        if path.is_dir() {
            copy_tree(&path, &target);
        } else {
            fs::copy(&path, &target).unwrap();
        }
    }
}

#[test]
fn what_lerobot_leaves_when_it_is_killed_is_saved_whole() {
    if !has_ffmpeg() {
        return;
    }
    let folder = tempfile::tempdir().unwrap();
    let root = folder.path().join("killed");
    copy_tree(&golden("killed"), &root);
    assert!(verify(&root).is_err());
    let before = contents(&root);
    let plan = plan_repair(&root, ShortVideo::default(), &mut go_on).unwrap().unwrap();
    assert!(plan.to_string().contains("had no footer; 18 rows in 3 row groups are found by their pages"), "{plan}");
    plan.run(&Output::InPlace, &mut go_on).unwrap();
    drop(plan);
    assert_whole(&root);
    let recorded: Value = serde_json::from_str(&fs::read_to_string(golden("killed.json")).unwrap()).unwrap();
    let reader = DatasetReader::open(&root).unwrap();
    let mut loader = Loader::new(&reader, &Windows::default()).unwrap();
    let rows = recorded
        .as_array()
        .unwrap()
        .iter()
        .flat_map(|episode| episode["rows"].as_array().unwrap().iter().map(|row| (&episode["task"], row)));
    let mut index = 0;
    for (task, row) in rows {
        let item = loader.item(index).unwrap();
        assert_eq!(item.task, task.as_str().unwrap());
        for key in ["action", "observation.state"] {
            let Values::Numbers { values, .. } = &item.values[key] else { panic!() };
            let wanted: Vec<f64> = row[key].as_array().unwrap().iter().map(|value| value.as_f64().unwrap()).collect();
            assert!(values.iter().zip(&wanted).all(|(a, b)| (a - b).abs() <= 1e-7 * b.abs()), "{key} of row {index}");
        }
        assert_eq!(item.values["note"], Values::Text(vec![row["note"].as_str().unwrap().to_owned()]));
        assert_eq!(item.images.len(), 2);
        index += 1;
    }
    assert_eq!(index, reader.total_frames());
    assert!(plan_repair(&root, ShortVideo::default(), &mut go_on).unwrap().is_none());
    undo(&root).unwrap();
    assert!(contents(&root) == before);
}

#[test]
fn each_kind_of_damage_is_mended_without_touching_other_episodes() {
    type Damage = fn(&Path);
    let cases: [(&str, Damage, usize); 5] = [
        ("no episodes table", |root| fs::remove_dir_all(root.join("meta/episodes")).unwrap(), 3),
        (
            "info.json ahead of the data",
            |root| {
                let path = root.join("meta/info.json");
                let text = fs::read_to_string(&path).unwrap();
                fs::write(
                    path,
                    text.replace("\"total_episodes\": 3", "\"total_episodes\": 5").replace("\"total_frames\": 12", "\"total_frames\": 21"),
                )
                .unwrap();
            },
            3,
        ),
        ("no statistics", |root| fs::remove_file(root.join("meta/stats.json")).unwrap(), 3),
        (
            "a table without a footer",
            |root| {
                let path = root.join("data/chunk-000/file-000.parquet");
                let bytes = fs::read(&path).unwrap();
                let footer = u32::from_le_bytes(bytes[bytes.len() - 8..][..4].try_into().unwrap()) as usize;
                fs::write(&path, &bytes[..bytes.len() - 8 - footer]).unwrap();
            },
            3,
        ),
        (
            "a table cut in its last row group",
            |root| {
                let path = root.join("data/chunk-000/file-000.parquet");
                let bytes = fs::read(&path).unwrap();
                let footer = u32::from_le_bytes(bytes[bytes.len() - 8..][..4].try_into().unwrap()) as usize;
                fs::write(&path, &bytes[..bytes.len() - 8 - footer - 300]).unwrap();
            },
            2,
        ),
    ];
    for (what, damage, saved) in cases {
        let folder = tempfile::tempdir().unwrap();
        let root = folder.path().join("dataset");
        record(&root, 0, &[3, 4, 5]);
        let episodes = read(&root);
        damage(&root);
        let plan = plan_repair(&root, ShortVideo::default(), &mut go_on).unwrap().unwrap_or_else(|| panic!("{what}: no fault was found"));
        plan.run(&Output::InPlace, &mut go_on).unwrap_or_else(|error| panic!("{what}: {}", super::chain(&error)));
        assert_whole(&root);
        assert_eq!(read(&root), episodes[..saved], "{what}");
    }
}

#[test]
fn a_video_that_is_short_costs_its_episode_or_rows_and_one_that_is_long_nothing() {
    let front = "videos/observation.images.front/chunk-000/file-000.mp4";
    let damaged = |lengths: &[u64]| {
        let folder = tempfile::tempdir().unwrap();
        let root = folder.path().join("dataset");
        record(&root, 0, &[3, 4]);
        let episodes = read(&root);
        let other = folder.path().join("other");
        record(&other, 0, lengths);
        fs::copy(other.join(front), root.join(front)).unwrap();
        let report = examine(&root, false, &mut go_on).unwrap();
        assert_eq!((report.faults.is_empty(), report.warnings.is_empty()), (lengths[1] > 4, lengths[1] < 4));
        (folder, root, episodes)
    };
    let repair = |root: &Path, short| plan_repair(root, short, &mut go_on).unwrap().unwrap().run(&Output::InPlace, &mut go_on).unwrap();
    let (_folder, root, episodes) = damaged(&[3, 2]);
    repair(&root, ShortVideo::DropEpisode);
    assert_eq!(read(&root), episodes[..1]);
    let (_folder, root, episodes) = damaged(&[3, 2]);
    repair(&root, ShortVideo::CutRows);
    let found = read(&root);
    assert_eq!((found[0] == episodes[0], found[1].rows_cut(2)), (true, episodes[1].rows_cut(2)));
    let (_folder, root, episodes) = damaged(&[3, 6]);
    repair(&root, ShortVideo::DropEpisode);
    assert_eq!(read(&root), episodes);
}

#[test]
fn what_cannot_be_saved_is_refused_and_left_alone() {
    let folder = tempfile::tempdir().unwrap();
    let root = folder.path().join("dataset");
    record(&root, 0, &[3]);
    fs::remove_dir_all(root.join("data")).unwrap();
    let before = contents(&root);
    assert!(matches!(plan_repair(&root, ShortVideo::default(), &mut go_on), Err(ToolError::Plan { .. })));
    fs::write(root.join("meta/info.json"), "{").unwrap();
    assert!(plan_repair(&root, ShortVideo::default(), &mut go_on).is_err());
    fs::write(root.join("meta/info.json"), &before[Path::new("meta/info.json")]).unwrap();
    assert!(contents(&root) == before);
}
