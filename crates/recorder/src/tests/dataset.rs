//! What a dataset holds, and what is refused.

use std::fs;
use std::path::Path;

use arrow::array::{AsArray, RecordBatch};
use arrow::datatypes::{ArrowPrimitiveType, Float32Type, Int8Type, Int64Type};
use sinew_core::{FrameSink, Samples, Timestamp};

use super::{assert_whole, attempt, chain, contents, create, finish, frame, robot, start};
use crate::format::arrays::integers;
use crate::format::parquet_read::read_parquet;
use crate::media::mp4_read::read_video;
use crate::{DatasetInfo, DatasetRecorder, Layout, ReadError, RecordError, RecorderOptions, VideoOptions, recover, verify};

const FRONT: &str = "videos/observation.images.front/chunk-000/file-000.mp4";

fn record(root: &Path, attempts: &[(u64, bool)]) {
    let mut recorder = create(root);
    for (number, (frames, keep)) in attempts.iter().enumerate() {
        attempt(&mut recorder, number as u64, *frames, *keep).unwrap();
    }
}

#[test]
fn episodes_share_files_and_everything_agrees() {
    let folder = tempfile::tempdir().unwrap();
    record(folder.path(), &[(9, true), (12, false), (7, true), (20, true)]);
    assert_whole(folder.path());
    let info = DatasetInfo::open(folder.path()).unwrap();
    assert_eq!((info.total_episodes, info.total_frames, info.total_tasks), (3, 36, 2));
    assert_eq!(info.tasks, ["Push the cube", "Touch the marker"]);
    assert_eq!(info.robot_type.as_deref(), Some("two_joint_arm"));
    assert_eq!(info.episodes.iter().map(|episode| episode.length).collect::<Vec<_>>(), [9, 7, 20]);
    assert_eq!(info.episodes[2].tasks, ["Touch the marker"]);
    assert_eq!((info.cameras[1].width, info.cameras[1].height, info.cameras[1].codec.as_deref()), (100, 76, Some("h264")));
    assert!(!info.unfinished);
    let files = contents(folder.path());
    assert_eq!(info.size_on_disk_bytes, files.values().map(|bytes| bytes.len() as u64).sum::<u64>());
    let names: Vec<_> = files.keys().map(|path| path.to_str().unwrap()).collect();
    let expected = [
        "README.md",
        "data/chunk-000/file-000.parquet",
        "meta/episodes/chunk-000/file-000.parquet",
        "meta/info.json",
        "meta/sinew.json",
        "meta/sinew_episodes.jsonl",
        "meta/stats.json",
        "meta/tasks.parquet",
        "sinew/ticks/chunk-000/file-000.parquet",
        FRONT,
        "videos/observation.images.wrist/chunk-000/file-000.mp4",
    ];
    assert_eq!(names, expected);
}

#[test]
fn a_video_has_its_index_first_even_times_and_a_key_frame_at_each_episode() {
    let folder = tempfile::tempdir().unwrap();
    record(folder.path(), &[(5, true), (4, true)]);
    let video = read_video(&folder.path().join(FRONT)).unwrap();
    assert_eq!((video.codec.as_str(), video.width, video.height, video.frames()), ("avc1", 128, 96, 9));
    assert!(video.shown.iter().copied().eq(0..video.frames() as u32));
    assert!(video.samples.iter().enumerate().all(|(at, sample)| (sample.shown_at, sample.duration) == (at as i64 * 512, 512)));
    assert_eq!(video.timescale, 15360);
    let key_frames: Vec<usize> = video.samples.iter().enumerate().filter(|(_, sample)| sample.is_key).map(|(at, _)| at).collect();
    assert_eq!(key_frames, [0, 2, 4, 5, 7]);
    assert!(video.index_first);
}

#[test]
fn appending_leaves_the_pictures_before_as_they_were() {
    let folder = tempfile::tempdir().unwrap();
    let mut recorder = create(folder.path());
    // So many that the index outgrows its first place, and the one after it.
    let mut before: Vec<u8> = Vec::new();
    for number in 0..30 {
        attempt(&mut recorder, number, if number == 20 { 4000 } else { 6 }, true).unwrap();
        let after = fs::read(folder.path().join(FRONT)).unwrap();
        let changed = before.iter().zip(&after).enumerate().filter(|(_, (before, after))| before != after).map(|(at, _)| at as u64);
        let file = read_video(&folder.path().join(FRONT)).unwrap();
        let index_places = skipped_or_index(&before);
        for at in changed {
            assert!(index_places.iter().any(|place| place.contains(&at)), "episode {number} changed byte {at}");
        }
        assert!(file.frames() > 0);
        before = after;
    }
    drop(recorder);
    assert_whole(folder.path());
    // An index is written to the place that is free: the file does not grow by all of them.
    let index = skipped_or_index(&before).iter().map(|place| place.end - place.start).sum::<u64>();
    assert!(index < 200_000, "indices take {index} bytes");
}

/// Where in an mp4 file an index is, or nothing that a reader looks at.
fn skipped_or_index(file: &[u8]) -> Vec<std::ops::Range<u64>> {
    let mut at = 0;
    let mut places = Vec::new();
    while at + 16 <= file.len() {
        let size = match u32::from_be_bytes(file[at..at + 4].try_into().unwrap()) {
            1 => u64::from_be_bytes(file[at + 8..at + 16].try_into().unwrap()) as usize,
            size => size as usize,
        };
        if matches!(&file[at + 4..at + 8], b"moov" | b"free") {
            places.push(at as u64..(at + size) as u64);
        }
        at += size;
    }
    places
}

#[test]
fn files_are_begun_anew_at_the_limit() {
    let folder = tempfile::tempdir().unwrap();
    let options = RecorderOptions { video_file_bytes: 30_000, data_file_bytes: 6_000, ..RecorderOptions::default() };
    let mut recorder = DatasetRecorder::create(folder.path(), &robot(), 30, options).unwrap();
    for number in 0..5 {
        attempt(&mut recorder, number, 25, true).unwrap();
    }
    let videos = contents(folder.path()).keys().filter(|path| path.extension().is_some_and(|extension| extension == "mp4")).count();
    assert!(videos > 2, "{videos} videos");
    assert!(folder.path().join("data/chunk-000/file-001.parquet").exists());
    assert_whole(folder.path());
}

#[test]
fn files_with_enough_episodes_are_closed_and_stay_as_they_are() {
    let folder = tempfile::tempdir().unwrap();
    for layout in [Layout::V30, Layout::V21] {
        let root = folder.path().join(format!("{layout:?}"));
        let options = RecorderOptions { file_episodes: Some(2), layout, ..RecorderOptions::default() };
        let mut recorder = DatasetRecorder::create(&root, &robot(), 30, options).unwrap();
        let mut closed = std::collections::BTreeMap::new();
        for number in 0..7 {
            attempt(&mut recorder, number, 8, number != 3).unwrap();
            let now = contents(&root);
            for path in crate::closed_files(&root) {
                let content = now[Path::new(&path)].clone();
                assert!(*closed.entry(path.clone()).or_insert_with(|| content.clone()) == content, "{path} changed after episode {number}");
            }
        }
        drop(recorder);
        let in_data = closed.keys().filter(|path| path.starts_with("data/")).count();
        let in_videos = closed.keys().filter(|path| path.starts_with("videos/")).count();
        // Six episodes: three files of two each, or six, of which the last is open.
        let expected = if layout == Layout::V30 { 2 } else { 5 };
        assert_eq!(in_data, expected, "{:?}", closed.keys());
        assert!(in_videos >= expected && in_videos % expected == 0, "{in_videos} videos");
        assert_whole(&root);
    }
}

#[test]
fn the_same_session_gives_the_same_bytes() {
    let [one, two] = [0, 1].map(|_| {
        let folder = tempfile::tempdir().unwrap();
        record(folder.path(), &[(9, true), (3, false), (8, true)]);
        contents(folder.path())
    });
    assert!(one == two);
}

#[test]
fn a_dropped_attempt_leaves_no_trace() {
    let folder = tempfile::tempdir().unwrap();
    let mut recorder = create(folder.path());
    attempt(&mut recorder, 0, 6, true).unwrap();
    let before = dataset_of(folder.path());
    attempt(&mut recorder, 1, 50, false).unwrap();
    assert!(dataset_of(folder.path()) == before);
    drop(recorder);
    assert!(contents(folder.path()) == before);
}

/// The files of a dataset whose recorder still lives.
fn dataset_of(root: &Path) -> std::collections::BTreeMap<std::path::PathBuf, Vec<u8>> {
    contents(root).into_iter().filter(|(path, _)| !path.starts_with(".sinew")).collect()
}

#[test]
fn a_folder_that_holds_something_is_refused_and_left_alone() {
    let folder = tempfile::tempdir().unwrap();
    fs::write(folder.path().join("holiday.jpg"), "precious").unwrap();
    let error = DatasetRecorder::create(folder.path(), &robot(), 30, RecorderOptions::default()).err().unwrap();
    assert!(matches!(&error, RecordError::NotEmpty { found, .. } if found == "holiday.jpg"), "{error}");
    assert_eq!(contents(folder.path()).len(), 1);
}

#[test]
fn one_process_at_a_time_writes() {
    let folder = tempfile::tempdir().unwrap();
    let mut recorder = create(folder.path());
    attempt(&mut recorder, 0, 3, true).unwrap();
    assert!(DatasetInfo::open(folder.path()).unwrap().unfinished);
    let second = DatasetRecorder::resume(folder.path(), &robot(), 30, RecorderOptions::default());
    assert!(matches!(second.err().unwrap(), RecordError::Busy { .. }));
    assert!(matches!(recover(folder.path()), Err(RecordError::Busy { .. })));
    attempt(&mut recorder, 1, 3, true).unwrap();
    drop(recorder);
    assert!(!recover(folder.path()).unwrap());
    assert_whole(folder.path());
}

#[test]
fn a_dataset_is_resumed_in_new_files_by_the_same_robot_only() {
    let folder = tempfile::tempdir().unwrap();
    record(folder.path(), &[(9, true), (8, true)]);
    let mut recorder = DatasetRecorder::resume(folder.path(), &robot(), 30, RecorderOptions::default()).unwrap();
    attempt(&mut recorder, 2, 11, true).unwrap();
    attempt(&mut recorder, 3, 12, true).unwrap();
    assert_eq!((recorder.totals().episodes, recorder.totals().frames, recorder.totals().tasks), (4, 40, 2));
    drop(recorder);
    assert_whole(folder.path());
    let log = fs::read_to_string(folder.path().join("meta/sinew_episodes.jsonl")).unwrap();
    assert_eq!(log.lines().count(), 4);
    // What one session would have counted.
    let whole = tempfile::tempdir().unwrap();
    record(whole.path(), &[(9, true), (8, true), (11, true), (12, true)]);
    let stats = |root: &Path| fs::read_to_string(root.join("meta/stats.json")).unwrap();
    let [resumed, whole] = [folder.path(), whole.path()].map(|root| serde_json::from_str::<serde_json::Value>(&stats(root)).unwrap());
    for key in ["mean", "std", "q50"] {
        let [a, b] = [&resumed, &whole].map(|stats| stats["observation.state"][key][0].as_f64().unwrap());
        assert!((a - b).abs() < 1e-4, "{key}: {a} and {b}");
    }

    let mut other = robot();
    other.cameras[0].width = 64;
    let resume = |robot: &_, fps| DatasetRecorder::resume(folder.path(), robot, fps, RecorderOptions::default()).err().unwrap();
    assert!(matches!(resume(&other, 30), RecordError::Mismatch { .. }));
    assert!(matches!(resume(&robot(), 25), RecordError::Mismatch { what, .. } if what == "fps"));
    let nothing = tempfile::tempdir().unwrap();
    let error = DatasetRecorder::resume(nothing.path(), &robot(), 30, RecorderOptions::default()).err().unwrap();
    assert!(matches!(error, RecordError::Read(ReadError::NotADataset { .. })));
    assert_eq!(contents(nothing.path()).len(), 0);
}

#[test]
fn another_calibration_is_refused_and_telemetry_can_be_left_out() {
    let folder = tempfile::tempdir().unwrap();
    let with =
        |calibration: &str| RecorderOptions { calibration: Some(calibration.to_owned()), telemetry: false, ..RecorderOptions::default() };
    let mut recorder = DatasetRecorder::create(folder.path(), &robot(), 30, with("in spring")).unwrap();
    attempt(&mut recorder, 0, 3, true).unwrap();
    drop(recorder);
    assert!(!folder.path().join("sinew").exists());
    let error = DatasetRecorder::resume(folder.path(), &robot(), 30, with("in autumn")).err().unwrap().to_string();
    assert!(error.contains("calibration is in spring there, expected in autumn"), "{error}");
    let mut recorder = DatasetRecorder::resume(folder.path(), &robot(), 30, with("in spring")).unwrap();
    attempt(&mut recorder, 1, 3, true).unwrap();
    drop(recorder);
    assert_whole(folder.path());
    let mut other = robot();
    other.parts[1].name = "claw".to_owned();
    let error = DatasetRecorder::resume(folder.path(), &other, 30, with("in spring")).err().unwrap().to_string();
    assert!(error.contains("feature action is") && error.contains("claw.pos"), "{error}");
}

#[test]
fn robots_that_make_no_dataset_are_refused() {
    let refused = |change: fn(&mut sinew_core::RobotDescription), fps, quality| {
        let folder = tempfile::tempdir().unwrap();
        let mut robot = robot();
        change(&mut robot);
        let video = VideoOptions { quality, ..VideoOptions::default() };
        let options = RecorderOptions { video, ..RecorderOptions::default() };
        let error = DatasetRecorder::create(folder.path(), &robot, fps, options).err().unwrap();
        assert!(matches!(error, RecordError::Setup { .. }), "{error}");
        error.to_string()
    };
    let odd = refused(|robot| robot.cameras[0].width = 127, 30, 24);
    assert!(odd.contains("camera observation.images.front is 127x96, expected even"), "{odd}");
    refused(|robot| robot.cameras[0].height = 8, 30, 24);
    refused(|robot| robot.cameras[0].name = "../up".to_owned(), 30, 24);
    refused(|_| (), 0, 24);
    refused(|_| (), 30, 0);
}

#[test]
fn a_frame_that_does_not_fit_costs_its_episode_and_no_other() {
    let folder = tempfile::tempdir().unwrap();
    let mut recorder = create(folder.path());
    attempt(&mut recorder, 0, 5, true).unwrap();
    let bad: [(&str, fn(&mut sinew_core::Frame)); 8] = [
        ("the sent action has 0 values, expected 2", |frame| frame.sent.clear()),
        ("the wanted action of the channel gripper.pos is NaN", |frame| frame.wanted[1] = f64::NAN),
        ("the sent action of the channel shoulder.pos is inf", |frame| frame.sent[0] = f64::INFINITY),
        ("the observed state has 1 values, expected 2", |frame| frame.observation.state = Samples::measured(&[0.0], Timestamp::ZERO)),
        ("the channel gripper.pos of the observed state was never measured", |frame| {
            frame.observation.state = Samples::new(2);
            frame.observation.state.set(0, 0.1, Timestamp::ZERO);
        }),
        ("expected 128x96", |frame| frame.observation.images[0].width = 64),
        ("it has 1 images, expected 2", |frame| frame.observation.images.truncate(1)),
        ("its tick is 1, after 1", |frame| frame.tick = 1),
    ];
    for (expected, spoil) in bad {
        recorder.begin(&start(1, "Push the cube")).unwrap();
        for tick in 0..2 {
            recorder.frame(&frame(&robot(), 1, tick)).unwrap();
        }
        let mut spoilt = frame(&robot(), 1, 2);
        spoil(&mut spoilt);
        let error = chain(&recorder.frame(&spoilt).unwrap_err());
        assert!(error.contains("frame 2 of episode 1") && error.contains(expected), "{error}");
        assert!(recorder.frame(&frame(&robot(), 1, 3)).is_err());
        let error = chain(&recorder.end(&finish(true)).unwrap_err());
        assert!(error.contains("one of its frames could not be recorded"), "{error}");
        // What there is of it waits, and nothing else is recorded until it is decided upon.
        assert_eq!(recorder.unfinished().unwrap().rows, 2);
        let error = chain(&recorder.begin(&start(1, "Push the cube")).unwrap_err());
        assert!(error.contains("episode 1 was not finished and has 2 rows"), "{error}");
        recorder.end(&finish(false)).unwrap();
    }
    assert!(recorder.end(&finish(true)).is_err());
    recorder.begin(&start(1, "Push the cube")).unwrap();
    assert!(chain(&recorder.end(&finish(true)).unwrap_err()).contains("it has no frame"));
    attempt(&mut recorder, 2, 5, true).unwrap();
    assert_eq!(recorder.totals().episodes, 2);
    assert_whole(folder.path());
}

#[test]
fn missing_ticks_and_lost_frames_are_written_down() {
    let folder = tempfile::tempdir().unwrap();
    let mut recorder = create(folder.path());
    recorder.begin(&start(4, "Push the cube")).unwrap();
    for tick in [0, 1, 4, 5] {
        let mut frame = frame(&robot(), 0, tick);
        frame.starved = tick == 5;
        frame.interventions.velocity = 2;
        recorder.frame(&frame).unwrap();
    }
    recorder.end(&sinew_core::EpisodeEnd { lost_frames: 2, ..finish(true) }).unwrap();
    let log = fs::read_to_string(folder.path().join("meta/sinew_episodes.jsonl")).unwrap();
    let line: serde_json::Value = serde_json::from_str(log.trim()).unwrap();
    let expected = serde_json::json!({
        "episode_index": 0, "attempt": 4, "seed": 104, "outcome": "success", "failure": null, "frames": 4, "missing_ticks": 2,
        "lost_frames": 2, "starved_ticks": 1, "limited_non_finite": 0, "limited_unknown": 0, "limited_stale": 0, "limited_position": 0, "limited_velocity": 8,
        "limited_acceleration": 0, "limited_jerk": 0, "limited_step": 0, "limited_effort": 0, "limited_temperature": 0,
        "limited_torque": 0, "limited_workspace": 0,
        "dropped_ticks": 0, "kept_every": 1,
    });
    assert_eq!(line, expected);
}

#[test]
fn what_was_sent_is_kept_beside_what_was_wanted() {
    let folder = tempfile::tempdir().unwrap();
    let mut recorder = create(folder.path());
    for episode in 0..2 {
        recorder.begin(&start(episode, "Push the cube")).unwrap();
        for tick in [0, 2, 3] {
            let mut frame = frame(&robot(), episode, tick);
            frame.wanted = vec![1.0, 1.8];
            frame.sent = vec![0.5, 0.8];
            frame.lateness_ns = 100 + tick as i64;
            frame.observation.bus_retries = tick as u32 % 2;
            frame.observation.time = Timestamp::from_nanos(5_000 + tick as i64);
            // The shoulder answers all the time, the gripper with an alarm, then not, and then stands from before.
            let state = &mut frame.observation.state;
            state.set(0, 0.1, Timestamp::from_nanos(4_990));
            state.set_with_alert(1, 0.2, Timestamp::from_nanos(3_000), 0b100);
            match tick {
                2 => state.miss(1),
                3 => {
                    state.age();
                    state.set(0, 0.1, Timestamp::from_nanos(5_100));
                }
                _ => {}
            }
            frame.observation.images[1].captured_at = Timestamp::from_nanos(4_000);
            frame.observation.images[1].sequence = tick * 10;
            frame.interventions.velocity = 2;
            recorder.frame(&frame).unwrap();
        }
        recorder.end(&finish(true)).unwrap();
    }
    let read = |path: &str, columns: &[&str]| {
        let batches = read_parquet(&folder.path().join(path), columns).unwrap();
        arrow::compute::concat_batches(&batches[0].schema(), &batches).unwrap()
    };
    fn channels<T: ArrowPrimitiveType>(batch: &RecordBatch, name: &str) -> Vec<T::Native> {
        let lists = batch.column_by_name(name).unwrap().as_list::<i32>().clone();
        assert_eq!(lists.value_length(0), 2, "{name}");
        lists.values().as_primitive::<T>().values().to_vec()
    }
    let rows = read("data/chunk-000/file-000.parquet", &["action", "observation.state", "index"]);
    let columns = [
        "index",
        "tick",
        "lateness_ns",
        "bus_retries",
        "state_validity",
        "state_age_ns",
        "sent_action",
        "limited_channels",
        "age_ns.wrist",
        "captured_ns.wrist",
        "sequence.wrist",
    ];
    let ticks = read("sinew/ticks/chunk-000/file-000.parquet", &columns);
    assert_eq!(integers(&ticks, "age_ns.wrist").unwrap(), [1000, 1002, 1003, 1000, 1002, 1003]);
    assert_eq!(integers(&ticks, "captured_ns.wrist").unwrap(), [4000; 6]);
    assert_eq!(integers(&ticks, "sequence.wrist").unwrap(), [0, 20, 30, 0, 20, 30]);
    assert_eq!(integers(&ticks, "index"), integers(&rows, "index"));
    assert_eq!(integers(&ticks, "tick").unwrap(), [0, 2, 3, 0, 2, 3]);
    assert_eq!(integers(&ticks, "lateness_ns").unwrap(), [100, 102, 103, 100, 102, 103]);
    assert_eq!(integers(&ticks, "bus_retries").unwrap(), [0, 0, 1, 0, 0, 1]);
    assert_eq!(integers(&ticks, "limited_channels").unwrap(), [2; 6]);
    // Degrees, and percent of the gripper's range of 2 rad from -0.2.
    let [wanted, sent] = [(&rows, "action"), (&ticks, "sent_action")].map(|(batch, name)| channels::<Float32Type>(batch, name));
    assert!((wanted[0] - 57.29578).abs() < 1e-4 && (wanted[1] - 100.0).abs() < 1e-4, "{wanted:?}");
    assert!((sent[0] - 28.64789).abs() < 1e-4 && (sent[1] - 50.0).abs() < 1e-4, "{sent:?}");
    assert_eq!(channels::<Int8Type>(&ticks, "state_validity"), [1, 3, 1, 0, 1, 2].repeat(2));
    // What came after the tick's own time is as new as can be.
    assert_eq!(channels::<Int64Type>(&ticks, "state_age_ns"), [10, 2000, 12, 2002, 0, 2003].repeat(2));
    let state = channels::<Float32Type>(&rows, "observation.state");
    assert!(state.chunks(2).all(|row| (row[0] - 5.729578).abs() < 1e-5 && (row[1] - 20.0).abs() < 1e-4), "{state:?}");
}

#[test]
fn what_is_no_dataset_is_named() {
    let folder = tempfile::tempdir().unwrap();
    assert!(matches!(DatasetInfo::open(folder.path()), Err(ReadError::NotADataset { .. })));
    let info = folder.path().join("meta/info.json");
    fs::create_dir(folder.path().join("meta")).unwrap();
    fs::write(&info, "{").unwrap();
    assert!(matches!(DatasetInfo::open(folder.path()), Err(ReadError::Json { .. })));
    fs::write(&info, r#"{"codebase_version": "v4.0", "fps": 30, "features": {}}"#).unwrap();
    assert!(matches!(DatasetInfo::open(folder.path()), Err(ReadError::Version { found, .. }) if found == "v4.0"));
    fs::write(&info, r#"{"codebase_version": "v3.0", "fps": 30, "features": {}, "total_episodes": 1}"#).unwrap();
    assert!(matches!(DatasetInfo::open(folder.path()), Err(ReadError::Io { .. })));
}

#[test]
fn damage_is_found() {
    let damaged = |damage: &dyn Fn(&Path)| {
        let folder = tempfile::tempdir().unwrap();
        record(folder.path(), &[(9, true), (8, true)]);
        damage(folder.path());
        match verify(folder.path()) {
            Ok(faults) => {
                faults.into_iter().map(|fault| format!("{}: {}", fault.path.display(), fault.what)).collect::<Vec<_>>().join("; ")
            }
            Err(error) => chain(&error),
        }
    };
    let edit = |root: &Path, from: &str, to: &str| {
        let path = root.join("meta/info.json");
        let text = fs::read_to_string(&path).unwrap();
        assert!(text.contains(from));
        fs::write(path, text.replacen(from, to, 1)).unwrap();
    };
    for (damage, expected) in [
        (&(|root: &Path| fs::remove_file(root.join(FRONT)).unwrap()) as &dyn Fn(&Path), "file-000.mp4: it cannot be read"),
        (
            &|root: &Path| {
                let file = fs::File::options().write(true).open(root.join(FRONT)).unwrap();
                file.set_len(file.metadata().unwrap().len() - 100).unwrap();
            },
            "but the file ends at",
        ),
        (
            &|root: &Path| {
                let other = tempfile::tempdir().unwrap();
                record(other.path(), &[(9, true)]);
                fs::copy(other.path().join(FRONT), root.join(FRONT)).unwrap();
            },
            "it has 9 frames, but its episodes have 17 rows",
        ),
        (&|root: &Path| edit(root, "\"total_frames\": 17", "\"total_frames\": 18"), "total_frames is 18, but the episodes have 17"),
        (&|root: &Path| edit(root, "\"total_episodes\": 2", "\"total_episodes\": 3"), "the episodes table has 2 rows"),
        (&|root: &Path| edit(root, "\"fps\": 30", "\"fps\": 60"), "has timestamp"),
        (&|root: &Path| fs::write(root.join("data/chunk-000/file-000.parquet"), "PAR1").unwrap(), "as parquet"),
        (
            &|root: &Path| {
                let data = root.join("data/chunk-000");
                fs::copy(data.join("file-000.parquet"), data.join("file-001.parquet")).unwrap();
            },
            "there are more rows than total_frames",
        ),
    ] {
        let found = damaged(damage);
        assert!(found.contains(expected), "expected {expected:?}, found {found:?}");
    }
}
