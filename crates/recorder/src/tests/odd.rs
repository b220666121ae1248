//! Datasets that LeRobot opens, though it would not write them so itself.

use std::fs;
use std::path::Path;

use serde_json::Value;

use super::{assert_whole, attempt, create, robot};
use crate::{
    CameraForm, Conversion, DatasetInfo, DatasetReader, DatasetRecorder, DatasetSchema, DatasetWriter, Feature, Output, Rate,
    RecorderOptions, Row, VideoOptions, plan_convert, plan_delete, write_mcap,
};

/// A dataset of two episodes of the robot.
fn recorded(root: &Path) {
    let mut recorder = create(root);
    attempt(&mut recorder, 0, 9, true).unwrap();
    attempt(&mut recorder, 1, 8, true).unwrap();
}

fn edit_json(path: &Path, change: impl FnOnce(&mut Value)) {
    let mut value: Value = serde_json::from_slice(&fs::read(path).unwrap()).unwrap();
    change(&mut value);
    fs::write(path, value.to_string()).unwrap();
}

fn in_place(plan: &crate::Plan) {
    plan.run(&Output::InPlace, &mut |_| std::ops::ControlFlow::Continue(())).unwrap();
}

#[test]
fn a_rate_written_as_a_float_is_resumed() {
    let folder = tempfile::tempdir().unwrap();
    recorded(folder.path());
    edit_json(&folder.path().join("meta/info.json"), |info| info["fps"] = 30.0.into());
    assert_whole(folder.path());
    let mut recorder = DatasetRecorder::resume(folder.path(), &robot(), 30, RecorderOptions::default()).unwrap();
    attempt(&mut recorder, 2, 7, true).unwrap();
    drop(recorder);
    assert_whole(folder.path());
    assert!(fs::read_to_string(folder.path().join("meta/info.json")).unwrap().contains("\"fps\": 30,"));
}

#[test]
fn rates_that_are_no_whole_numbers_are_recorded_verified_edited_and_exported() {
    for hz in [29.97, 12.5, 30000.0 / 1001.0, 0.5] {
        let folder = tempfile::tempdir().unwrap();
        let root = folder.path().join("dataset");
        let features = vec![Feature::video("observation.images.front", 64, 48)];
        let schema = DatasetSchema { fps: Rate::from_hz(hz).unwrap(), ..DatasetSchema::new(1, features) };
        let picture = vec![90; 64 * 48 * 3];
        for resumed in [false, true] {
            let mut writer = match resumed {
                false => DatasetWriter::create(&root, &schema, RecorderOptions::default()).unwrap(),
                true => DatasetWriter::resume(&root, &schema, RecorderOptions::default()).unwrap(),
            };
            for length in [7, 40] {
                writer.begin_episode(Default::default()).unwrap();
                for _ in 0..length {
                    writer.add_row(&Row { task: "wait", values: &[crate::Value::Rgb(&picture)], side: &[] }).unwrap();
                }
                writer.save_episode(Default::default()).unwrap();
            }
        }
        assert_whole(&root);
        assert_eq!(DatasetInfo::open(&root).unwrap().fps.hz(), hz);
        in_place(&plan_delete(&root, &[0]).unwrap());
        let video = VideoOptions::default();
        in_place(&plan_convert(&root, &Conversion { cameras: Some(CameraForm::Video(video)), ..Conversion::default() }).unwrap());
        assert_whole(&root);
        let reader = DatasetReader::open(&root).unwrap();
        assert_eq!(
            reader.images(1, "observation.images.front", 0..7).unwrap().map(|image| image.unwrap().width).collect::<Vec<_>>(),
            [64; 7]
        );
        write_mcap(&reader, &[0, 1], &folder.path().join("a.mcap"), &mut |_| std::ops::ControlFlow::Continue(())).unwrap();
    }
}
