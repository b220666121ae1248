//! Datasets that LeRobot 0.6.1 wrote (golden/make_datasets.py), and what it reads of them.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};

use serde_json::Value;
use sinew_core::Image;

use super::model::{go_on, record};
use super::{assert_whole, create};
use crate::{Conversion, DatasetReader, Fetch, Loader, Output, Values, Version, Windows, plan_convert, verify_with};

pub(crate) fn golden(name: &str) -> PathBuf {
    Path::new(&std::env::var("CARGO_MANIFEST_DIR").unwrap()).join("golden/datasets").join(name)
}

fn expected(name: &str) -> Vec<Value> {
    let text = std::fs::read_to_string(golden(&format!("{name}.json"))).unwrap();
    serde_json::from_str::<Value>(&text).unwrap()["rows"].as_array().unwrap().clone()
}

pub(crate) fn has_ffmpeg() -> bool {
    let found = crate::media::ffmpeg::command().arg("-version").output().is_ok();
    if !found {
        eprintln!("skipped: there is no ffmpeg, which encodes and decodes AV1, HEVC and reordered H.264");
    }
    found
}

fn flat(value: &Value) -> Vec<f64> {
    match value {
        Value::Array(list) => list.iter().flat_map(flat).collect(),
        Value::Bool(value) => vec![f64::from(u8::from(*value))],
        value => vec![value.as_f64().unwrap()],
    }
}

/// Colours of `image` against what LeRobot sees, in levels of 255.
fn assert_image(image: &Image, expected: &Value, what: &str, tolerance: f64) {
    let [height, width, _] = flat(&expected["shape"])[..] else { panic!() };
    assert_eq!((f64::from(image.width), f64::from(image.height)), (width, height), "{what}");
    for channel in 0..3 {
        let values = image.rgb.iter().skip(channel).step_by(3);
        let mean = values.map(|value| f64::from(*value)).sum::<f64>() / (width * height);
        let wanted = expected["mean"][channel].as_f64().unwrap() * 255.0;
        assert!((mean - wanted).abs() <= tolerance, "{what}: channel {channel} has the mean {mean}, LeRobot sees {wanted}");
        for (at, (y, x)) in [(0.1, 0.1), (0.5, 0.5), (0.9, 0.3)].into_iter().enumerate() {
            let pixel = (height * y).floor() as usize * width as usize + (width * x).floor() as usize;
            let wanted = expected["pixels"][at][channel].as_f64().unwrap() * 255.0;
            let found = f64::from(image.rgb[pixel * 3 + channel]);
            assert!((found - wanted).abs() <= tolerance + 1.0, "{what}: pixel {at} has {found}, LeRobot sees {wanted}");
        }
    }
}

fn assert_reads_like_lerobot(name: &str) {
    let reader = DatasetReader::open(&golden(name)).unwrap();
    let expected = expected(name);
    assert_eq!((reader.version(), reader.total_frames()), (Version::V30, expected.len() as u64));
    let mut loader = Loader::new(&reader, &Windows::default()).unwrap();
    // Backwards, too: no frame may depend on what was read before it.
    let order: Vec<usize> = (0..expected.len()).chain((0..expected.len()).rev()).collect();
    for index in order {
        let item = loader.item(index as u64).unwrap();
        let row = &expected[index];
        assert_eq!(item.task, row["task"].as_str().unwrap());
        assert_eq!(item.timestamp_s, row["timestamp"].as_f64().unwrap());
        for (key, values) in &item.values {
            match values {
                Values::Text(lines) => assert_eq!(lines.as_slice(), [row[key].as_str().unwrap()]),
                // LeRobot hands out f64 as f32.
                Values::Numbers { values, .. } => {
                    let wanted = flat(&row[key]);
                    let same = values.len() == wanted.len() && values.iter().zip(&wanted).all(|(a, b)| (a - b).abs() <= 1e-7 * b.abs());
                    assert!(same, "{key} of row {index} is {values:?}, LeRobot reads {wanted:?}");
                }
            }
        }
        for (key, images) in &item.images {
            let tolerance = if reader.features()[key]["dtype"] == "image" { 0.01 } else { 2.0 };
            assert_image(&images[0], &row[key], &format!("{name}: {key} of row {index}"), tolerance);
        }
        assert_eq!(item.values.len() + item.images.len(), row.as_object().unwrap().len() - if name == "mixed" { 2 } else { 1 });
    }
}

#[test]
fn h264_with_reordered_frames_is_read_like_lerobot() {
    if has_ffmpeg() {
        assert_reads_like_lerobot("h264");
    }
}

#[test]
fn av1_images_text_flags_and_matrices_are_read_like_lerobot() {
    if has_ffmpeg() {
        assert_reads_like_lerobot("mixed");
    }
}

#[test]
fn depth_is_read_like_lerobot() {
    if !has_ffmpeg() {
        return;
    }
    let reader = DatasetReader::open(&golden("mixed")).unwrap();
    let key = "observation.images.depth";
    for (index, row) in expected("mixed").iter().enumerate() {
        let episode = reader.episode_of(index as u64).unwrap();
        let depth = reader.depth(episode.episode_index, key, index as u64 - episode.first_index).unwrap();
        let mean = depth.millimetres.iter().map(|value| f64::from(*value)).sum::<f64>() / depth.millimetres.len() as f64;
        assert!((mean - flat(&row[key]["mean"])[0]).abs() < 0.5, "row {index}: the mean is {mean} mm, LeRobot sees {}", row[key]["mean"]);
        for (at, (y, x)) in [(0.1, 0.1), (0.5, 0.5), (0.9, 0.3)].into_iter().enumerate() {
            let pixel = (f64::from(depth.height) * y) as usize * depth.width as usize + (f64::from(depth.width) * x) as usize;
            let wanted = flat(&row[key]["pixels"][at])[0];
            assert!(
                (f64::from(depth.millimetres[pixel]) - wanted).abs() <= 1.0,
                "row {index}, pixel {at}: {}, LeRobot sees {wanted}",
                depth.millimetres[pixel]
            );
        }
    }
}

#[test]
fn what_lerobot_wrote_is_whole() {
    for name in ["h264", "mixed"] {
        let deep = has_ffmpeg();
        assert_eq!(verify_with(&golden(name), deep, &mut |_| std::ops::ControlFlow::Continue(())).unwrap(), [], "{name}");
    }
}

#[test]
fn windows_are_clamped_to_the_episode_and_say_so() {
    let folder = tempfile::tempdir().unwrap();
    let mut recorder = create(folder.path());
    for (number, frames) in [(0, 6), (1, 4)] {
        super::attempt(&mut recorder, number, frames, true).unwrap();
    }
    drop(recorder);
    assert_whole(folder.path());
    let reader = DatasetReader::open(folder.path()).unwrap();
    let front = "observation.images.front".to_owned();
    let deltas_s = BTreeMap::from([("action".to_owned(), vec![-0.1, 0.0, 1.0 / 30.0, 0.2]), (front.clone(), vec![-1.0 / 30.0, 0.0])]);
    let windows = Windows { deltas_s, cameras: Some(vec![front.clone()]) };
    let mut loader = Loader::new(&reader, &windows).unwrap();
    let alone = |index: u64| Loader::new(&reader, &Windows::default()).unwrap().item(index).unwrap();
    for (index, rows, pads) in [
        (0, [0, 0, 1, 5], [true, false, false, true]),
        (5, [2, 5, 5, 5], [false, false, true, true]),
        (6, [6, 6, 7, 9], [true, false, false, true]),
    ] {
        let item = loader.item(index).unwrap();
        assert_eq!(item.is_pad["action"], pads, "row {index}");
        let Values::Numbers { values, width: 2 } = &item.values["action"] else { panic!() };
        let expected: Vec<f64> = rows.into_iter().flat_map(|row| numbers(&alone(row), "action")).collect();
        assert_eq!(*values, expected, "row {index}");
        assert_eq!(item.images[&front].len(), 2);
        assert!(item.images[&front][1] == alone(index).images[&front][0]);
        assert_eq!(item.images.len(), 1);
    }
    let wrong = |key: &str, delta: f64| {
        Loader::new(&reader, &Windows { deltas_s: BTreeMap::from([(key.to_owned(), vec![delta])]), cameras: None }).err().unwrap()
    };
    assert!(wrong("action", 0.02).to_string().contains("no multiple of 1/30 s"));
    assert!(wrong("observation.speed", 0.0).to_string().contains("observation.speed"));
    assert!(loader.item(10).is_err());
}

fn numbers(item: &crate::Item, key: &str) -> Vec<f64> {
    let Values::Numbers { values, .. } = &item.values[key] else { panic!() };
    values.clone()
}

#[test]
fn frames_come_in_any_order_and_are_the_ones_recorded() {
    let folder = tempfile::tempdir().unwrap();
    let mut recorder = create(folder.path());
    for number in 0..3 {
        super::attempt(&mut recorder, number, 11, true).unwrap();
    }
    drop(recorder);
    let reader = DatasetReader::open(folder.path()).unwrap();
    let mut loader = Loader::new(&reader, &Windows::default()).unwrap();
    let order: Vec<u64> = (0..66).map(|at| at * 23 % 33).collect();
    let items: Vec<_> = loader.items(order.clone()).map(Result::unwrap).collect();
    for (index, item) in order.into_iter().zip(items) {
        let (episode, frame) = (index / 11, index % 11);
        assert_eq!((item.episode_index, item.frame_index), (episode, frame));
        let recorded = super::frame(&super::robot(), episode, frame).observation.images;
        for (key, recorded) in ["observation.images.front", "observation.images.wrist"].iter().zip(&recorded) {
            let found = &item.images[*key][0];
            let off: u64 = found.rgb.iter().zip(recorded.rgb.iter()).map(|(a, b)| u64::from(a.abs_diff(*b))).sum();
            let off = off as f64 / recorded.rgb.len() as f64;
            // A neighbouring frame is 3 levels away in two channels wherever nothing wraps around.
            assert!(off < 12.0, "row {index}: {key} is {off} levels off");
        }
    }
    let sequential: Vec<_> = reader.images(2, "observation.images.front", 0..11).unwrap().map(Result::unwrap).collect();
    assert!(sequential[7] == reader.image(2, "observation.images.front", 7).unwrap());
    assert!(reader.image(2, "observation.images.front", 11).is_err());
    assert!(reader.rows(1, 3..12).is_err());
}

#[test]
fn a_hostile_info_is_refused() {
    let edit = |change: &dyn Fn(&mut Value)| {
        let folder = tempfile::tempdir().unwrap();
        let mut recorder = create(folder.path());
        super::attempt(&mut recorder, 0, 3, true).unwrap();
        drop(recorder);
        let path = folder.path().join("meta/info.json");
        let mut info: Value = serde_json::from_str(&std::fs::read_to_string(&path).unwrap()).unwrap();
        change(&mut info);
        std::fs::write(&path, info.to_string()).unwrap();
        match DatasetReader::open(folder.path()) {
            Err(error) => super::chain(&error),
            Ok(_) => "was opened".to_owned(),
        }
    };
    for (change, expected) in [
        (&(|info: &mut Value| info["data_path"] = "../../{file_index}".into()) as &dyn Fn(&mut Value), "leads out of the dataset"),
        (&|info: &mut Value| info["video_path"] = "/etc/{video_key}".into(), "leads out of the dataset"),
        (
            &|info: &mut Value| info["features"]["action"]["shape"] = serde_json::json!([1u64 << 40, 1u64 << 40]),
            "expected sizes of at most",
        ),
        (
            &|info: &mut Value| info["features"]["../up"] = serde_json::json!({"dtype": "float32", "shape": [1]}),
            "makes no column or folder",
        ),
        (&|info: &mut Value| info["total_frames"] = (1u64 << 60).into(), "expected at most"),
        (&|info: &mut Value| info["fps"] = 0.into(), "fps is 0"),
        (&|info: &mut Value| info["chunks_size"] = 0.into(), "chunks_size is 0"),
        (
            &|info: &mut Value| {
                for number in 0..5000 {
                    info["features"][format!("f{number}")] = serde_json::json!({"dtype": "float32", "shape": [1]});
                }
            },
            "expected at most 4096",
        ),
        (&|info: &mut Value| info["fps"] = serde_json::json!(30.0), "was opened"),
    ] {
        let found = edit(change);
        assert!(found.contains(expected), "expected {expected:?}, found {found:?}");
    }
}

/// A dataset elsewhere, and what was fetched of it.
struct Elsewhere {
    from: PathBuf,
    to: PathBuf,
    fetched: Arc<Mutex<Vec<String>>>,
}

impl Fetch for Elsewhere {
    fn fetch(&self, relative: &str) -> Result<bool, Box<dyn std::error::Error + Send + Sync>> {
        let (from, to) = (self.from.join(relative), self.to.join(relative));
        if from.exists() && !to.exists() {
            std::fs::create_dir_all(to.parent().unwrap())?;
            std::fs::copy(from, to)?;
            self.fetched.lock().unwrap().push(relative.to_owned());
        }
        Ok(self.to.join(relative).exists())
    }
}

#[test]
fn only_the_files_that_are_read_are_fetched() {
    let folder = tempfile::tempdir().unwrap();
    let [whole, older] = ["whole", "older"].map(|name| folder.path().join(name));
    record(&whole, 5, &[3, 4, 2]);
    let conversion = Conversion { version: Some(Version::V21), cameras: None };
    plan_convert(&whole, &conversion).unwrap().run(&Output::Folder(older.clone()), &mut go_on).unwrap();
    for (from, rows, videos) in [(&whole, "data/chunk-000/file-000", 1), (&older, "data/chunk-000/episode_000001", 1)] {
        let to = tempfile::tempdir().unwrap();
        let fetched = Arc::default();
        let source = Elsewhere { from: from.clone(), to: to.path().to_owned(), fetched: Arc::clone(&fetched) };
        let reader = DatasetReader::open_fetching(to.path(), Box::new(source)).unwrap();
        let here = DatasetReader::open(from).unwrap();
        assert_eq!(reader.episodes(), here.episodes());
        let tables = std::mem::take(&mut *fetched.lock().unwrap());
        assert!(tables.iter().all(|file| file.starts_with("meta/")) && tables.len() >= 4, "{tables:?}");
        let camera = here.cameras().next().unwrap().to_owned();
        assert!(reader.rows(1, 0..4).unwrap() == here.rows(1, 0..4).unwrap());
        assert!(reader.image(1, &camera, 2).unwrap() == here.image(1, &camera, 2).unwrap());
        let files = fetched.lock().unwrap().clone();
        assert!(files[0].starts_with(rows) && files.len() == 1 + videos && files[1].ends_with(".mp4"), "{files:?}");
        let (mut ours, mut theirs) = (Loader::new(&reader, &Windows::default()).unwrap(), Loader::new(&here, &Windows::default()).unwrap());
        for index in 0..9 {
            assert!(ours.item(index).unwrap() == theirs.item(index).unwrap(), "row {index}");
        }
    }
}
