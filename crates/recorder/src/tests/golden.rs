//! Statistics against LeRobot's own (golden/make_stats.py).

use serde_json::Value;

use crate::format::stats::{FeatureStats, KEYS, PictureCounts, PictureStats, sampled_frames};

fn golden() -> Value {
    serde_json::from_str(include_str!("../../golden/stats.json")).unwrap()
}

/// The formula of make_stats.py.
fn picture(frame: usize, width: usize, height: usize) -> Vec<u8> {
    let pixels = (0..width * height).flat_map(|at| (0..3).map(move |c| (at % width, at / width, c)));
    pixels.map(|(x, y, c)| ((x * 7 + y * 3 + c * 50 + frame * 11) % 251) as u8).collect()
}

fn image_stats(frames: usize, width: usize, height: usize) -> FeatureStats {
    let mut stats = PictureStats::new();
    for frame in sampled_frames(frames as u64) {
        let counts = PictureCounts::of_rgb(&picture(frame as usize, width, height), width, height);
        let read = PictureCounts::from_bytes(&counts.to_bytes(), 3).unwrap();
        assert_eq!(read, counts);
        stats.add(&read);
    }
    stats.finish().unwrap()
}

fn flat(value: &Value) -> Vec<f64> {
    value.as_array().map_or_else(|| vec![value.as_f64().unwrap()], |list| list.iter().flat_map(flat).collect())
}

fn assert_close(found: &FeatureStats, expected: &Value, tolerance: f64, what: &str) {
    let json = found.to_json();
    for key in KEYS {
        let (found, expected) = (flat(&json[key]), flat(&expected[key]));
        assert_eq!(found.len(), expected.len(), "{what}/{key}");
        for (found, expected) in found.iter().zip(&expected) {
            assert!((found - expected).abs() <= tolerance * expected.abs().max(1.0), "{what}/{key} is {found}, LeRobot says {expected}");
        }
    }
}

fn episodes() -> Vec<Vec<(&'static str, FeatureStats, f64)>> {
    let joints = golden()["joints"].clone();
    let episodes = joints.as_array().unwrap().iter().map(|rows| {
        let rows: Vec<f32> = flat(rows).into_iter().map(|value| value as f32).collect();
        let frames = rows.len() / 3;
        let times: Vec<f64> = (0..frames).map(|frame| frame as f64 / 30.0).collect();
        vec![
            ("joints", FeatureStats::of_f32(&rows, 3, frames as u64), 1e-12),
            ("time", FeatureStats::of_f64(&times, 1, frames as u64), 1e-9),
            ("image", image_stats(frames, 40, 30), 1e-7),
            ("large_image", image_stats(frames, 322, 200), 1e-7),
        ]
    });
    episodes.collect()
}

#[test]
fn an_episodes_statistics_are_lerobots() {
    let golden = golden();
    for (at, episode) in episodes().iter().enumerate() {
        for (name, stats, tolerance) in episode {
            assert_close(stats, &golden["episodes"][at][*name], *tolerance, &format!("episode {at}: {name}"));
        }
    }
}

#[test]
fn the_datasets_statistics_are_lerobots() {
    let golden = golden();
    let mut episodes = episodes().into_iter();
    let mut total = episodes.next().unwrap();
    for episode in episodes {
        for ((_, all, _), (_, one, _)) in total.iter_mut().zip(&episode) {
            *all = all.merge(one);
        }
    }
    for (name, stats, tolerance) in &total {
        assert_close(stats, &golden["total"][*name], *tolerance, name);
    }
}

#[test]
fn the_sampled_frames_are_lerobots() {
    for (length, frames) in golden()["sampled_frames"].as_object().unwrap() {
        let expected: Vec<u64> = frames.as_array().unwrap().iter().map(|frame| frame.as_u64().unwrap()).collect();
        assert_eq!(sampled_frames(length.parse().unwrap()), expected, "of {length}");
    }
}

#[test]
fn statistics_survive_json() {
    for (name, stats, _) in &episodes()[0] {
        let read = FeatureStats::from_json(&stats.to_json()).unwrap();
        assert_close(&read, &stats.to_json(), 0.0, name);
        assert_eq!(read.is_image, stats.is_image);
    }
    assert!(FeatureStats::from_json(&serde_json::json!({"mean": [1.0]})).is_none());
}
