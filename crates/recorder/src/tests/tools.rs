//! The tools: what they keep, what they refuse, and that nothing is lost when they stop.

use std::fs;
use std::ops::ControlFlow;
use std::path::Path;

use super::model::{go_on, read, record};
use super::reading::{golden, has_ffmpeg};
use super::{assert_whole, contents};
use crate::media::mp4_read::read_video;
use crate::{
    CameraForm, Conversion, DatasetReader, Output, ToolError, Version, VideoOptions, plan_convert, plan_delete, plan_merge,
    plan_remove_features, plan_split_by_share, undo, verify_with,
};

fn to(folder: &Path) -> Output {
    Output::Folder(folder.to_owned())
}

fn convert(version: Version) -> Conversion {
    Conversion { version: Some(version), cameras: None }
}

/// The encoded frames of a video.
fn packets(path: &Path) -> Vec<Vec<u8>> {
    let bytes = fs::read(path).unwrap();
    let video = read_video(path).unwrap();
    video.samples.iter().map(|sample| bytes[sample.offset as usize..][..sample.bytes as usize].to_vec()).collect()
}

/// Every encoded frame of a dataset in order.
fn all_packets(root: &Path, key: &str) -> Vec<Vec<u8>> {
    let reader = DatasetReader::open(root).unwrap();
    let mut paths: Vec<_> =
        reader.episodes().iter().map(|episode| episode.videos.iter().find(|span| span.key == key).unwrap().path.clone()).collect();
    paths.dedup();
    paths.iter().flat_map(|path| packets(&root.join(path))).collect()
}

/// The columns of every episode, without what files say of them.
fn all_rows(root: &Path) -> Vec<Vec<arrow::array::ArrayRef>> {
    let reader = DatasetReader::open(root).unwrap();
    let rows = reader.episodes().iter().map(|episode| reader.rows(episode.episode_index, 0..episode.length).unwrap());
    rows.map(|batch| batch.columns().to_vec()).collect()
}

#[test]
fn going_through_the_older_versions_and_back_loses_nothing() {
    // Reordered H.264, AV1 with text, flags, matrices, images and depth: nothing is decoded.
    for (name, key) in [("h264", "observation.images.top"), ("mixed", "observation.images.top")] {
        let folder = tempfile::tempdir().unwrap();
        let steps = [Version::V21, Version::V30];
        let mut from = golden(name);
        for (number, version) in steps.into_iter().enumerate() {
            let target = folder.path().join(number.to_string());
            plan_convert(&from, &convert(version)).unwrap().run(&to(&target), &mut go_on).unwrap();
            assert_eq!(DatasetReader::open(&target).unwrap().version(), version);
            assert!(all_rows(&target) == all_rows(&golden(name)), "{name} as {version}");
            assert_eq!(all_packets(&target, key), all_packets(&golden(name), key), "{name} as {version}");
            from = target;
        }
        if has_ffmpeg() {
            assert_eq!(verify_with(&from, true, &mut go_on).unwrap(), []);
        }
        let stats = |root: &Path| DatasetReader::open(root).unwrap().stats().unwrap().unwrap();
        let (before, after) = (stats(&golden(name)), stats(&from));
        for (feature, stats) in &after {
            for key in ["mean", "std", "q50"] {
                let [a, b] = [&before[feature][key], &stats[key]].map(|value| serde_json::to_string(value).unwrap());
                let numbers = |text: &str| text.split(['[', ']', ',']).filter_map(|word| word.parse::<f64>().ok()).collect::<Vec<_>>();
                assert!(
                    numbers(&a).iter().zip(numbers(&b)).all(|(a, b)| (a - b).abs() <= 1e-6 * b.abs().max(1.0)),
                    "{name}: {feature}/{key}: {a} and {b}"
                );
            }
        }
    }
}

#[test]
fn a_merge_joins_tasks_and_refuses_what_differs() {
    let folder = tempfile::tempdir().unwrap();
    let [one, two, both] = ["one", "two", "both"].map(|name| folder.path().join(name));
    record(&one, 0, &[3, 4]);
    record(&two, 1, &[5]);
    let plan = plan_merge(&[one.clone(), two.clone()]).unwrap();
    assert_eq!((plan.results[0].episodes, plan.results[0].frames), (3, 12));
    let json = serde_json::to_value(&plan).unwrap();
    assert_eq!(json["results"][0]["tasks"], serde_json::json!(["Push the cube", "Touch the marker"]));
    assert!(plan.to_string().contains("merge 2 datasets") && plan.to_string().contains("3 episodes, 12 frames, 2 tasks"), "{plan}");
    plan.run(&to(&both), &mut go_on).unwrap();
    assert_whole(&both);
    assert_eq!(read(&both), [read(&one), read(&two)].concat());
    let log = fs::read_to_string(both.join("meta/sinew_episodes.jsonl")).unwrap();
    let numbers: Vec<u64> =
        log.lines().map(|line| serde_json::from_str::<serde_json::Value>(line).unwrap()["episode_index"].as_u64().unwrap()).collect();
    assert_eq!(numbers, [0, 1, 2]);

    let path = two.join("meta/info.json");
    let text = fs::read_to_string(&path).unwrap();
    fs::write(&path, text.replace("\"robot_type\": \"two_joint_arm\"", "\"robot_type\": \"other_arm\"")).unwrap();
    let error = plan_merge(&[one.clone(), two]).unwrap_err();
    assert!(error.to_string().contains("robot_type is \"two_joint_arm\""), "{error}");
    assert!(plan_merge(&[]).is_err());
    let error = plan_merge(&[one.clone(), golden("h264")]).unwrap_err();
    assert!(matches!(error, ToolError::Plan { .. }), "{error}");
}

#[test]
fn a_merge_of_other_rigs_says_what_differs_and_keeps_what_does_not() {
    let folder = tempfile::tempdir().unwrap();
    let [one, two, both, same] = ["one", "two", "both", "same"].map(|name| folder.path().join(name));
    record(&one, 0, &[3]);
    record(&two, 1, &[2]);
    let merge = |to_folder: &Path| {
        let plan = plan_merge(&[one.clone(), two.clone()]).unwrap();
        plan.run(&to(to_folder), &mut go_on).unwrap();
        plan.to_string()
    };
    assert!(!merge(&same).contains("sinew.json"));
    assert_eq!(fs::read(same.join("meta/sinew.json")).unwrap(), fs::read(one.join("meta/sinew.json")).unwrap());
    fs::write(two.join("meta/sinew.json"), r#"{"version": 1, "rig": {"robot": "two_joint_arm", "calibration": "a1b2"}}"#).unwrap();
    let shown = merge(&both);
    assert!(shown.contains("sinew.json is left out: calibration is not known in") && shown.contains("but \"a1b2\" in"), "{shown}");
    assert!(!both.join("meta/sinew.json").exists());
    assert_whole(&both);
}

#[test]
fn a_split_makes_all_parts_or_none() {
    let folder = tempfile::tempdir().unwrap();
    let [root, parts] = ["dataset", "parts"].map(|name| folder.path().join(name));
    record(&root, 0, &[3, 4, 2]);
    let plan = plan_split_by_share(&root, &[("a".to_owned(), 0.4), ("b".to_owned(), 0.6)]).unwrap();
    let mut stops = 0;
    loop {
        let mut left = stops;
        let result = plan.run(&to(&parts), &mut |_| {
            left -= 1;
            if left < 0 { ControlFlow::Break(()) } else { ControlFlow::Continue(()) }
        });
        if result.is_ok() {
            break;
        }
        let beside: Vec<_> = fs::read_dir(folder.path()).unwrap().map(|entry| entry.unwrap().file_name()).collect();
        assert_eq!(beside, ["dataset"], "stopped after {stops} steps");
        stops += 1;
    }
    assert!(stops >= 8, "{stops}");
    assert_eq!([read(&parts.join("a")), read(&parts.join("b"))].concat(), read(&root));
}

#[test]
fn operations_that_make_no_sense_are_refused() {
    let folder = tempfile::tempdir().unwrap();
    let root = folder.path().join("dataset");
    record(&root, 0, &[3, 4]);
    let before = contents(&root);
    assert!(plan_delete(&root, &[2]).is_err());
    assert!(plan_delete(&root, &[0, 1]).is_err());
    for needed in ["timestamp", "action"] {
        assert!(plan_remove_features(&root, &[needed.to_owned()]).is_err(), "{needed}");
    }
    assert!(plan_remove_features(&root, &["observation.images.back".to_owned()]).is_err());
    assert!(plan_convert(&root, &convert(Version::V30)).is_err());
    assert!(plan_split_by_share(&root, &[("a".to_owned(), 0.9), ("b".to_owned(), 0.9)]).is_err());
    assert!(plan_split_by_share(&root, &[("../a".to_owned(), 0.5)]).is_err());
    assert!(undo(&root).is_err());
    let plan = plan_delete(&root, &[0]).unwrap();
    let full = folder.path().join("full");
    fs::create_dir(&full).unwrap();
    fs::write(full.join("holiday.jpg"), "precious").unwrap();
    assert!(matches!(plan.run(&to(&full), &mut go_on), Err(ToolError::NotEmpty { .. })));
    assert!(contents(&root) == before);
}

#[test]
fn stopped_at_any_step_nothing_has_changed() {
    let folder = tempfile::tempdir().unwrap();
    let root = folder.path().join("dataset");
    record(&root, 0, &[3, 4, 2]);
    let before = contents(&root);
    let plan = plan_delete(&root, &[1]).unwrap();
    let mut stops = 0;
    loop {
        let mut left = stops;
        let result = plan.run(&Output::InPlace, &mut |_| {
            left -= 1;
            if left < 0 { ControlFlow::Break(()) } else { ControlFlow::Continue(()) }
        });
        if result.is_ok() {
            break;
        }
        assert!(matches!(result, Err(ToolError::Stopped)));
        assert!(contents(&root) == before, "stopped after {stops} steps");
        let beside: Vec<_> = fs::read_dir(folder.path()).unwrap().map(|entry| entry.unwrap().file_name()).collect();
        assert_eq!(beside, ["dataset"], "stopped after {stops} steps");
        stops += 1;
    }
    assert!(stops >= 6, "{stops}");
    assert_eq!(read(&root).len(), 2);
    undo(&root).unwrap();
    assert!(contents(&root) == before);
    undo(&root).unwrap();
    assert_eq!(read(&root).len(), 2);
}

#[test]
fn an_unsound_source_makes_no_result() {
    let folder = tempfile::tempdir().unwrap();
    let root = folder.path().join("dataset");
    record(&root, 0, &[3, 4]);
    // A video with a frame less than rows.
    let video = root.join("videos/observation.images.front/chunk-000/file-000.mp4");
    let other = folder.path().join("other");
    record(&other, 0, &[3, 3]);
    fs::copy(other.join("videos/observation.images.front/chunk-000/file-000.mp4"), &video).unwrap();
    let before = contents(&root);
    let result = plan_delete(&root, &[0]).unwrap().run(&Output::InPlace, &mut go_on);
    assert!(result.is_err());
    assert!(contents(&root) == before);
}

#[test]
fn a_camera_is_removed_with_its_files() {
    let folder = tempfile::tempdir().unwrap();
    let root = folder.path().join("dataset");
    record(&root, 0, &[3, 4]);
    fs::write(root.join("README.md"), "# A card").unwrap();
    plan_remove_features(&root, &["observation.images.wrist".to_owned()]).unwrap().run(&Output::InPlace, &mut go_on).unwrap();
    assert_whole(&root);
    let files = contents(&root);
    assert!(files.keys().all(|path| !path.to_string_lossy().contains("wrist")));
    assert_eq!(files[Path::new("README.md")], b"# A card");
    assert!(root.join("sinew/ticks/chunk-000/file-000.parquet").exists());
    assert!(!fs::read_to_string(root.join("meta/stats.json")).unwrap().contains("wrist"));
}

#[test]
fn every_dataset_has_a_card_and_its_owners_stays() {
    let folder = tempfile::tempdir().unwrap();
    let root = folder.path().join("dataset");
    record(&root, 0, &[3, 4]);
    let card = root.join("README.md");
    assert!(fs::read_to_string(&card).unwrap().contains("\nconfigs:\n- config_name: default\n  data_files: data/*/*.parquet\n"));
    fs::remove_file(&card).unwrap();
    let other = folder.path().join("other");
    plan_delete(&root, &[0]).unwrap().run(&to(&other), &mut go_on).unwrap();
    assert!(other.join("README.md").exists() && !card.exists());
    fs::write(&card, "mine").unwrap();
    record(&root, 1, &[3]);
    plan_delete(&root, &[0]).unwrap().run(&Output::InPlace, &mut go_on).unwrap();
    assert_eq!(fs::read(&card).unwrap(), b"mine");
}

#[test]
fn video_becomes_images_and_images_video() {
    let folder = tempfile::tempdir().unwrap();
    let [root, images, video] = ["dataset", "images", "video"].map(|name| folder.path().join(name));
    record(&root, 0, &[3, 4]);
    let form = |cameras| Conversion { version: None, cameras: Some(cameras) };
    plan_convert(&root, &form(CameraForm::Images)).unwrap().run(&to(&images), &mut go_on).unwrap();
    assert_eq!(verify_with(&images, true, &mut go_on).unwrap(), []);
    // PNG keeps every pixel.
    assert_eq!(read(&images), read(&root));
    assert!(!images.join("videos").exists());
    let options = VideoOptions { quality: 10, keyframe_interval: 1, ..VideoOptions::default() };
    plan_convert(&images, &form(CameraForm::Video(options))).unwrap().run(&to(&video), &mut go_on).unwrap();
    assert_eq!(verify_with(&video, true, &mut go_on).unwrap(), []);
    let [a, b] = [&root, &video].map(|root| DatasetReader::open(root).unwrap().image(1, "observation.images.front", 2).unwrap());
    let off = a.rgb.iter().zip(b.rgb.iter()).map(|(a, b)| f64::from(a.abs_diff(*b))).sum::<f64>() / a.rgb.len() as f64;
    assert!(off < 6.0, "{off}");
}
