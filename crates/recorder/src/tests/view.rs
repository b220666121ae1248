//! What goes to Rerun.

use std::collections::{BTreeMap, BTreeSet};
use std::net::TcpListener;
use std::path::Path;

use arrow::array::AsArray;
use arrow::datatypes::{Float32Type, Float64Type, UInt8Type};
use rerun::log::{Chunk, LogMsg};
use sinew_core::{FrameSink, OnFailure, Timestamp};

use super::depth::{distances, robot_with_depth, seen};
use super::robots::{moving, robot_of};
use super::{chain, finish, frame, robot, start};
use crate::{RerunView, ViewError};

#[test]
fn an_rrd_file_holds_cameras_channels_robot_and_outcome_on_running_timelines() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("session.rrd");
    let robot = robot();
    let mut view = RerunView::to_file(&path, &robot).unwrap();
    for episode in 0..2 {
        view.begin(&start(episode, "Push the cube")).unwrap();
        for tick in 0..4 {
            let mut frame = frame(&robot, episode, tick);
            // The front camera is slower than control: each image is seen twice.
            frame.observation.images[0].sequence = 1 + tick / 2;
            frame.observation.images[1].sequence = 1 + tick;
            view.frame(&frame).unwrap();
        }
        view.end(&finish(episode == 0)).unwrap();
    }
    drop(view);

    let file = std::io::BufReader::new(std::fs::File::open(&path).unwrap());
    let mut entities = BTreeSet::new();
    let (mut front, mut wrist, mut last_tick) = (0, 0, 0);
    for message in rerun::external::re_log_encoding::Decoder::<LogMsg>::decode_eager(file).unwrap() {
        let LogMsg::ArrowMsg(store, message) = message.unwrap() else { continue };
        if store.kind() != rerun::StoreKind::Recording {
            continue;
        }
        let chunk = Chunk::from_arrow_msg(&message).unwrap();
        let entity = chunk.entity_path().to_string();
        front += if entity == "/cameras/front" { chunk.num_rows() } else { 0 };
        wrist += if entity == "/cameras/wrist" { chunk.num_rows() } else { 0 };
        if let Some(ticks) = chunk.timelines().iter().find(|(name, _)| name.as_str() == "tick") {
            last_tick = last_tick.max(ticks.1.time_range().max().as_i64());
        }
        entities.insert(entity);
    }
    for expected in [
        "/cameras/front",
        "/channels/shoulder.pos",
        "/channels/gripper.pos",
        "/world/robot/observed",
        "/world/robot/wanted",
        "/world/tools/gripper",
        "/runtime/inference_ms",
        "/runtime/success",
        "/events",
    ] {
        assert!(entities.contains(expected), "{expected} is not among {entities:?}");
    }
    assert_eq!((front, wrist, last_tick), (4, 8, 7));
}

/// Of each row of each channel the numbers that are shown, by channel.
fn channels(path: &Path) -> BTreeMap<String, Vec<Vec<f64>>> {
    let file = std::io::BufReader::new(std::fs::File::open(path).unwrap());
    let mut channels: BTreeMap<String, Vec<Vec<f64>>> = BTreeMap::new();
    for message in rerun::external::re_log_encoding::Decoder::<LogMsg>::decode_eager(file).unwrap() {
        let LogMsg::ArrowMsg(_, message) = message.unwrap() else { continue };
        let chunk = Chunk::from_arrow_msg(&message).unwrap();
        let Some(name) = chunk.entity_path().to_string().strip_prefix("/channels/").map(str::to_owned) else { continue };
        for column in chunk.components().list_arrays() {
            let rows = column.iter().flatten().filter_map(|row| Some(row.as_primitive_opt::<Float64Type>()?.values().to_vec()));
            channels.entry(name.clone()).or_default().extend(rows);
        }
    }
    channels
}

#[test]
fn a_robot_shows_each_channel_in_the_datasets_unit_and_no_command_for_what_is_only_measured() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("rover.rrd");
    let robot = robot_of("rover.toml");
    let mut view = RerunView::to_file(&path, &robot).unwrap();
    assert_eq!((view.name(), view.on_failure()), ("Rerun", OnFailure::Detach));
    view.begin(&start(0, "Go there")).unwrap();
    let mut frame = moving(&robot, 0);
    view.frame(&frame).unwrap();
    // The mast does not answer: there is a gap, not an old value.
    frame.tick = 1;
    frame.observation.state.miss(1);
    frame.observation.state.set(6, 11.5, Timestamp::ZERO);
    view.frame(&frame).unwrap();
    view.end(&finish(true)).unwrap();
    drop(view);

    let found = channels(&path);
    let row = |name: &str, tick: usize| found[name][tick].iter().map(|value| (value * 1e3).round() / 1e3).collect::<Vec<f64>>();
    assert_eq!(row("shoulder.pos", 0), [28.648, 22.918, 5.73]);
    assert_eq!(row("gripper.pos", 0), [60.0, 50.0, 25.0]);
    assert_eq!(row("y.vel", 0), [-0.2, -0.1, 0.05]);
    assert_eq!(row("theta.vel", 0), [57.296, 28.648, 11.459]);
    assert_eq!((row("mast.pos", 0), row("battery.voltage", 0)), (vec![-17.189], vec![12.0]));
    assert!(row("mast.pos", 1)[..].iter().all(|value| value.is_nan()) && row("mast.pos", 1).len() == 1);
    assert_eq!(row("battery.voltage", 1), [11.5]);
    assert_eq!(found.len(), 7);
}

#[test]
fn a_file_that_exists_is_not_written_over() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("session.rrd");
    std::fs::write(&path, "precious").unwrap();
    assert!(matches!(RerunView::to_file(&path, &robot()), Err(ViewError::Exists { .. })));
    assert_eq!(std::fs::read(&path).unwrap(), b"precious");
}

#[test]
fn a_viewer_that_is_not_there_is_an_error_at_once() {
    // A port that was free a moment ago.
    let port = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
    let error = RerunView::connect(&format!("127.0.0.1:{port}"), &robot()).err().unwrap();
    assert!(chain(&error).contains("refused"), "{}", chain(&error));
    assert!(matches!(RerunView::connect("nonsense", &robot()), Err(ViewError::Connect { .. })));
}

#[test]
fn a_depth_camera_is_shown_as_distances() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("depth.rrd");
    let robot = robot_with_depth();
    let mut view = RerunView::to_file(&path, &robot).unwrap();
    view.begin(&start(0, "Look")).unwrap();
    view.frame(&seen(&robot, 0, 3)).unwrap();
    // One of colours in its place is an error, no garbage.
    let mut wrong = seen(&robot, 0, 4);
    wrong.observation.images[1] = wrong.observation.images[0].clone();
    let error = chain(&view.frame(&wrong).unwrap_err());
    assert!(error.contains("the image of camera wrist_depth is 128x96"), "{error}");
    drop(view);

    let file = std::io::BufReader::new(std::fs::File::open(&path).unwrap());
    let (mut buffers, mut meters) = (Vec::new(), Vec::new());
    for message in rerun::external::re_log_encoding::Decoder::<LogMsg>::decode_eager(file).unwrap() {
        let LogMsg::ArrowMsg(_, message) = message.unwrap() else { continue };
        let chunk = Chunk::from_arrow_msg(&message).unwrap();
        if chunk.entity_path().to_string() != "/cameras/wrist_depth" {
            continue;
        }
        for (name, column) in chunk.components().iter() {
            let rows = column.list_array.iter().flatten();
            match name.as_str() {
                "DepthImage:buffer" => {
                    buffers.extend(rows.map(|row| row.as_list::<i32>().value(0).as_primitive::<UInt8Type>().values().to_vec()))
                }
                "DepthImage:meter" => meters.extend(rows.map(|row| row.as_primitive::<Float32Type>().value(0))),
                _ => {}
            }
        }
    }
    let known: Vec<u8> = distances(7600, 3).into_iter().flat_map(u16::to_le_bytes).collect();
    assert_eq!((buffers, meters), (vec![known], vec![1000.0]));
}
