//! Datasets of other features than a robot's own, and of version 2.1.

use std::fs;

use serde_json::{Map, Value as Json};
use sinew_core::Pixels;

use super::reading::has_ffmpeg;
use super::{assert_whole, chain, contents};
use crate::{
    DatasetReader, DatasetSchema, DatasetWriter, Dtype, Feature, Layout, RecordError, RecorderOptions, Row, Truth, Value, Values,
    VideoOptions,
};

fn features() -> Vec<Feature> {
    vec![
        Feature::numbers("action", Dtype::F32, &[3]),
        Feature::numbers("reward", Dtype::F64, &[1]),
        Feature::numbers("done", Dtype::Bool, &[1]),
        Feature::numbers("matrix", Dtype::I32, &[2, 3]),
        Feature::numbers("pressed", Dtype::Bool, &[2]),
        Feature::text("note"),
        Feature::image("observation.images.still", 33, 17),
        Feature::video("observation.images.film", 64, 32),
    ]
}

fn grey(level: u64, pixels: usize) -> Pixels {
    (0..pixels * 3).map(|at| (level * 5 + at as u64 / 3 % 7) as u8).collect::<Vec<_>>().into()
}

fn add(writer: &mut DatasetWriter, task: &str, row: u64) -> Result<crate::Taken, RecordError> {
    let (action, matrix) = ([row as f32, 1.0, -2.5], [1, 2, 3, 4, 5, row as i32]);
    let (note, still, film) = (format!("row {row} é"), grey(row, 33 * 17), grey(row, 64 * 32));
    let values = [
        Value::from(&action[..]),
        Value::from(&[row as f64 / 3.0][..]),
        Value::from(row % 2 == 1),
        Value::from(&matrix[..]),
        Value::from(&[Truth(row > 2), Truth(false)][..]),
        Value::Text(&note),
        Value::Rgb(&still),
        Value::Rgb(&film),
    ];
    writer.add_row(&Row { task, values: &values, side: &[] })
}

fn record(root: &std::path::Path, layout: Layout, lengths: &[u64]) {
    let options = RecorderOptions { layout, ..RecorderOptions::default() };
    let mut writer = DatasetWriter::create(root, &DatasetSchema::new(10, features()), options).unwrap();
    for length in lengths {
        writer.begin_episode(Map::new()).unwrap();
        for row in 0..*length {
            add(&mut writer, if row < 2 { "Begin" } else { "Go on" }, row).unwrap();
        }
        writer.save_episode(Map::new()).unwrap();
    }
}

#[test]
fn every_kind_of_feature_comes_back_as_it_was_in_both_versions() {
    for layout in [Layout::V30, Layout::V21] {
        let folder = tempfile::tempdir().unwrap();
        record(folder.path(), layout, &[5, 1, 4]);
        assert_whole(folder.path());
        let reader = DatasetReader::open(folder.path()).unwrap();
        let mut loader = crate::Loader::new(&reader, &crate::Windows::default()).unwrap();
        assert_eq!((reader.episodes().len(), reader.total_frames(), reader.tasks().len()), (3, 10, 2));
        assert_eq!(reader.episodes()[0].tasks, ["Begin", "Go on"]);
        assert_eq!(reader.episodes()[1].tasks, ["Begin"]);
        for (index, (episode, row)) in [(0u64, 0u64), (0, 4), (1, 0), (2, 3)].into_iter().enumerate() {
            let at = [0, 4, 5, 9][index];
            let item = loader.item(at).unwrap();
            let numbers = |key: &str| match &item.values[key] {
                Values::Numbers { values, .. } => values.clone(),
                other => panic!("{key} is {other:?}"),
            };
            assert_eq!(numbers("action"), [row as f64, 1.0, -2.5], "{layout:?}, episode {episode}");
            assert_eq!(numbers("matrix"), [1.0, 2.0, 3.0, 4.0, 5.0, row as f64]);
            assert_eq!(numbers("done"), [(row % 2) as f64]);
            assert_eq!(numbers("pressed"), [f64::from(u8::from(row > 2)), 0.0]);
            let still = reader.images(episode, "observation.images.still", row..row + 1).unwrap().next().unwrap().unwrap();
            assert_eq!(still.rgb, grey(row, 33 * 17));
        }
    }
}

#[test]
fn version_2_1_has_its_own_files_and_can_be_resumed() {
    let folder = tempfile::tempdir().unwrap();
    record(folder.path(), Layout::V21, &[3, 2]);
    let options = RecorderOptions { layout: Layout::V21, ..RecorderOptions::default() };
    let mut writer = DatasetWriter::resume(folder.path(), &DatasetSchema::new(10, features()), options).unwrap();
    writer.begin_episode(Map::new()).unwrap();
    add(&mut writer, "Something else", 0).unwrap();
    writer.save_episode(Map::new()).unwrap();
    drop(writer);
    let names: Vec<String> = contents(folder.path()).keys().map(|path| path.to_str().unwrap().to_owned()).collect();
    for expected in [
        "data/chunk-000/episode_000002.parquet",
        "videos/chunk-000/observation.images.film/episode_000002.mp4",
        "meta/episodes.jsonl",
        "meta/episodes_stats.jsonl",
        "meta/tasks.jsonl",
    ] {
        assert!(names.iter().any(|name| name == expected), "{expected} is missing: {names:?}");
    }
    let lines = |name: &str| -> Vec<Json> {
        let text = fs::read_to_string(folder.path().join("meta").join(name)).unwrap();
        text.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
    };
    assert_eq!(lines("tasks.jsonl")[2], serde_json::json!({"task_index": 2, "task": "Something else"}));
    assert_eq!(lines("episodes.jsonl")[1], serde_json::json!({"episode_index": 1, "tasks": ["Begin"], "length": 2}));
    let stats = &lines("episodes_stats.jsonl")[0]["stats"];
    assert_eq!(stats["action"]["max"], serde_json::json!([2.0, 1.0, -2.5]));
    assert!(stats["note"].is_null() && stats["action"]["q01"].is_null());
    let info: Json = serde_json::from_str(&fs::read_to_string(folder.path().join("meta/info.json")).unwrap()).unwrap();
    assert_eq!((&info["codebase_version"], &info["total_videos"], &info["total_chunks"]), (&"v2.1".into(), &3.into(), &1.into()));
    let wrong = DatasetWriter::resume(folder.path(), &DatasetSchema::new(10, features()), RecorderOptions::default());
    assert!(wrong.err().unwrap().to_string().contains("the format's version is v2.1 there, expected v3.0"));
}

#[test]
fn values_that_do_not_fit_are_named_and_the_episode_goes_on() {
    let folder = tempfile::tempdir().unwrap();
    let features = vec![Feature::numbers("action", Dtype::F32, &[3]), Feature::text("note")];
    let mut writer = DatasetWriter::create(folder.path(), &DatasetSchema::new(10, features), RecorderOptions::default()).unwrap();
    writer.begin_episode(Map::new()).unwrap();
    let mut add = |action: Value<'_>, task: &str| writer.add_row(&Row { task, values: &[action, Value::Text("a")], side: &[] });
    add(Value::from(&[1f32, 2.0, 3.0][..]), "Go").unwrap();
    for (value, expected) in [
        (Value::from(&[1f32, 2.0][..]), "feature action: it has 2 values, expected 3"),
        (Value::from(&[1f64, 2.0, 3.0][..]), "feature action: its values are float64, expected float32"),
        (Value::from(&[1f32, f32::NAN, 3.0][..]), "feature action: value 1 is NaN"),
        (Value::Text("1"), "feature action: its value is of the kind text, expected numbers"),
    ] {
        let error = chain(&add(value, "Go").unwrap_err());
        assert!(error.contains(expected) && error.contains("frame 1 of episode 0"), "{error}");
    }
    assert!(add(Value::from(&[1f32, 2.0, 3.0][..]), "").unwrap_err().to_string().contains("it has no task"));
    add(Value::from(&[4f32, 5.0, 6.0][..]), "Go").unwrap();
    writer.save_episode(Map::new()).unwrap();
    assert_eq!(writer.totals().frames, 2);
    drop(writer);
    assert_whole(folder.path());
}

#[test]
fn features_that_make_no_dataset_are_refused() {
    let refused = |feature: Feature| {
        let folder = tempfile::tempdir().unwrap();
        let schema = DatasetSchema::new(10, vec![Feature::text("a"), feature]);
        DatasetWriter::create(folder.path(), &schema, RecorderOptions::default()).err().unwrap().to_string()
    };
    assert!(refused(Feature::text("a")).contains("there are two features called a"));
    assert!(refused(Feature::text("b/c")).contains("its name makes no path"));
    assert!(refused(Feature::text("timestamp")).contains("LeRobot gives every dataset one of this name"));
    assert!(refused(Feature::numbers("b", Dtype::F32, &[])).contains("has shape []"));
    assert!(refused(Feature::numbers("b", Dtype::F32, &[1 << 40])).contains("1 to 5 dimensions"));
    assert!(refused(Feature::video("b", 0, 0)).contains("camera b is 0x0"));
}

#[test]
fn an_encoder_that_is_not_there_is_named() {
    let folder = tempfile::tempdir().unwrap();
    let video = VideoOptions::of_encoder("no_such_encoder");
    let options = RecorderOptions { video, ..RecorderOptions::default() };
    let schema = DatasetSchema::new(10, vec![Feature::video("observation.images.film", 64, 32)]);
    let mut writer = DatasetWriter::create(folder.path(), &schema, options).unwrap();
    let film = grey(1, 64 * 32);
    // Without ffmpeg it can't begin; with it, ffmpeg says what it lacks.
    let error = writer.begin_episode(Map::new()).and_then(|()| {
        writer.add_row(&Row { task: "Go", values: &[Value::Rgb(&film)], side: &[] })?;
        writer.save_episode(Map::new()).map(|_| ())
    });
    let error = chain(&error.unwrap_err());
    assert!(error.contains("encoding observation.images.film with ffmpeg's no_such_encoder"), "{error}");
    writer.discard_unfinished().unwrap();
    drop(writer);
    assert_whole(folder.path());
}

/// Only where ffmpeg is installed; without it what is refused is tested above.
#[test]
fn depth_and_other_codecs_are_encoded_by_an_installed_ffmpeg() {
    if !has_ffmpeg() {
        return;
    }
    for encoder in ["libx265", "libsvtav1", "libx264"] {
        let folder = tempfile::tempdir().unwrap();
        let (width, height) = (64, 64);
        let features = vec![Feature::video("observation.images.film", width, height), Feature::depth("observation.images.depth", 64, 32)];
        let options = RecorderOptions { video: VideoOptions::of_encoder(encoder), ..RecorderOptions::default() };
        let mut writer = DatasetWriter::create(folder.path(), &DatasetSchema::new(10, features), options).unwrap();
        for episode in 0..2 {
            writer.begin_episode(Map::new()).unwrap();
            for row in 0..5 {
                let film = grey(row * 8 + episode, (width * height) as usize);
                let depth = (0..64 * 32).flat_map(|at| (500 + at + 10 * row as u16).to_le_bytes()).collect::<Vec<_>>().into();
                writer.add_row(&Row { task: "Look", values: &[Value::Rgb(&film), Value::DepthMm(&depth)], side: &[] }).unwrap();
            }
            writer.save_episode(Map::new()).unwrap();
        }
        drop(writer);
        assert_whole(folder.path());
        let reader = DatasetReader::open(folder.path()).unwrap();
        assert_eq!(reader.total_frames(), 10);
        let faults = crate::verify_with(folder.path(), true, &mut |_| std::ops::ControlFlow::Continue(()));
        assert_eq!(faults.unwrap(), [], "{encoder}");
    }
}
