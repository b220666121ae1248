//! What goes to Rerun.

use std::collections::BTreeSet;
use std::net::TcpListener;

use rerun::log::{Chunk, LogMsg};
use sinew_core::FrameSink;

use super::{chain, finish, frame, robot, start};
use crate::{RerunView, ViewError};

#[test]
fn an_rrd_file_holds_cameras_joints_arm_and_outcome_on_running_timelines() {
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
        "/joints/shoulder",
        "/joints/gripper",
        "/world/arm/observed",
        "/world/arm/wanted",
        "/world/arm/tool",
        "/runtime/inference_ms",
        "/runtime/success",
        "/events",
    ] {
        assert!(entities.contains(expected), "{expected} is not among {entities:?}");
    }
    assert_eq!((front, wrist, last_tick), (4, 8, 7));
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
