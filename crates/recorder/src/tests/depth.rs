//! A robot with a depth camera. Where no ffmpeg is installed only what is refused is tested.

use sinew_core::{Frame, FrameSink, RobotDescription};

use super::reading::has_ffmpeg;
use super::{assert_whole, chain, finish, frame, robot, start};
use crate::{DatasetReader, DatasetRecorder, DepthRange, RecorderOptions};

const KEY: &str = "observation.images.wrist_depth";

/// Its wrist sees distances.
pub(crate) fn robot_with_depth() -> RobotDescription {
    let mut robot = robot();
    let wrist = robot.cameras.last_mut().unwrap();
    (wrist.name, wrist.depth) = ("wrist_depth".to_owned(), true);
    robot
}

/// Unknown, nearer and farther than what is kept, and all between; another picture at each tick.
pub(crate) fn distances(pixels: usize, tick: u64) -> Vec<u16> {
    let edges = [0, 1, 9, 10, 11, 9_999, 10_000, 10_001, u16::MAX];
    edges.into_iter().chain((0..).map(|at: u32| ((at * 37 + tick as u32 * 101) % 10_000) as u16)).take(pixels).collect()
}

pub(crate) fn seen(robot: &RobotDescription, episode: u64, tick: u64) -> Frame {
    let mut frame = frame(robot, episode, tick);
    let image = frame.observation.images.last_mut().unwrap();
    let pixels = image.width as usize * image.height as usize;
    image.depth_mm = distances(pixels, tick).into_iter().flat_map(u16::to_le_bytes).collect::<Vec<_>>().into();
    frame
}

fn record(recorder: &mut DatasetRecorder, episode: u64, frames: u64) {
    recorder.begin(&start(episode, "Look")).unwrap();
    (0..frames).for_each(|tick| recorder.frame(&seen(&robot_with_depth(), episode, tick)).unwrap());
}

/// Codes are even steps of the logarithm of depth + 3.5 m, 4095 from 0.01 to 10 m; LeRobot gives whole millimetres.
fn most_off_mm(mm: f64) -> f64 {
    0.5 + (mm + 3500.0) * (13.5_f64 / 3.51).ln() / 4095.0 / 2.0 * 1.001
}

#[test]
fn a_depth_camera_is_lerobots_depth_feature_and_comes_back_in_millimetres() {
    if !has_ffmpeg() {
        return;
    }
    let (folder, robot) = (tempfile::tempdir().unwrap(), robot_with_depth());
    let mut recorder = DatasetRecorder::create(folder.path(), &robot, 30, RecorderOptions::default()).unwrap();
    record(&mut recorder, 0, 5);
    recorder.end(&finish(true)).unwrap();
    // Killed within an episode, and gone on.
    record(&mut recorder, 1, 4);
    drop(recorder);
    let mut recorder = DatasetRecorder::resume(folder.path(), &robot, 30, RecorderOptions::default()).unwrap();
    assert_eq!(recorder.unfinished().map(|unfinished| unfinished.rows), Some(4));
    recorder.recover_unfinished().unwrap();
    record(&mut recorder, 2, 3);
    recorder.end(&finish(true)).unwrap();
    drop(recorder);
    assert_whole(folder.path());

    let reader = DatasetReader::open(folder.path()).unwrap();
    let feature = &reader.features()[KEY];
    assert_eq!((feature["dtype"].as_str(), feature["shape"].to_string()), (Some("video"), "[76,100,1]".to_owned()));
    let info = &feature["info"];
    assert_eq!((info["is_depth_map"].as_bool(), info["depth_unit"].as_str()), (Some(true), Some("mm")), "{info}");
    assert_eq!((info["video.pix_fmt"].as_str(), info["video.use_log"].as_bool()), (Some("gray12le"), Some(true)), "{info}");
    for (episode, frames) in [(0, 5), (1, 4), (2, 3)] {
        assert_eq!(reader.episode(episode).unwrap().length, frames);
        for tick in 0..frames {
            let found = reader.depth(episode, KEY, tick).unwrap();
            assert_eq!((found.width, found.height), (100, 76));
            for (known, found) in distances(7600, tick).into_iter().zip(found.millimetres) {
                // What is not known, or nearer or farther than what is kept, becomes its edge.
                let expected = f64::from(known).clamp(10.0, 10_000.0);
                assert!((f64::from(found) - expected).abs() <= most_off_mm(expected), "{known} mm came back as {found}");
            }
        }
    }
    // Codes of another meaning would be other distances.
    let depth = DepthRange { max_m: 4.0, ..DepthRange::default() };
    let nearer = RecorderOptions { depth, ..RecorderOptions::default() };
    let refused = DatasetRecorder::resume(folder.path(), &robot, 30, nearer).err().unwrap();
    let both = ["0.01 to 10 m in logarithmic steps with shift 3.5 m, statistics in mm", "0.01 to 4 m in logarithmic steps"];
    assert!(both.iter().all(|side| chain(&refused).contains(side)), "{}", chain(&refused));
    let other = DatasetRecorder::resume(folder.path(), &super::robot(), 30, RecorderOptions::default()).err().unwrap();
    assert!(chain(&other).contains("wrist"), "{}", chain(&other));
}

#[test]
fn distances_are_no_colours_and_colours_no_distances() {
    let robot = robot_with_depth();
    let [colours, depth] = &robot.cameras[..] else { panic!("expected two cameras") };
    let frame = seen(&robot, 0, 0);
    let [rgb, mm] = &frame.observation.images[..] else { panic!("expected two images") };
    assert_eq!((colours.image_fault(rgb), depth.image_fault(mm)), (None, None));
    assert_eq!((depth.blank().rgb.len(), depth.blank().depth_mm.len(), colours.blank().depth_mm.len()), (0, 2 * 7600, 0));
    let expected = "is 128x96 in 36864 bytes of colours and 0 of depth, expected 100x76 in 15200 of depth";
    assert!(depth.image_fault(rgb).unwrap().contains(expected), "{:?}", depth.image_fault(rgb));
    assert!(colours.image_fault(mm).is_some());
    let both = sinew_core::Image { rgb: vec![0; 3 * 7600].into(), ..mm.clone() };
    assert!(depth.image_fault(&both).is_some());
    let short = sinew_core::Image { depth_mm: vec![0; 2 * 7600 - 2].into(), ..mm.clone() };
    assert!(depth.image_fault(&short).is_some());
}
