//! Robots that are not one serial arm run the loop, and what is recorded of them is theirs.

#![allow(clippy::unwrap_used, clippy::panic, reason = "what fails here fails the test")]

#[path = "common/fakes.rs"]
mod fakes;

use std::ops::ControlFlow;

use sinew_core::Units;
use sinew_recorder::{DatasetReader, Loader, Values, Windows, verify_with};

const TICKS: u64 = 150;

fn names(reader: &DatasetReader, feature: &str) -> Vec<String> {
    reader.features()[feature]["names"].as_array().unwrap().iter().map(|name| name.as_str().unwrap().to_owned()).collect()
}

/// The values of a feature in one row, by its number in the whole dataset.
fn row(reader: &DatasetReader, index: u64, feature: &str) -> Vec<f64> {
    let item = Loader::new(reader, &Windows { cameras: Some(Vec::new()), ..Windows::default() }).unwrap().item(index).unwrap();
    match &item.values[feature] {
        Values::Numbers { values, .. } => values.clone(),
        other => panic!("{feature} is {other:?}"),
    }
}

#[test]
fn two_arms_and_a_rover_are_driven_and_recorded() {
    for (name, toml, driver) in fakes::ROBOTS {
        let folder = tempfile::tempdir().unwrap();
        let root = folder.path().join(name);
        let robot = fakes::robot(name, toml).unwrap();
        let reports = fakes::record(&robot, driver, &root, 2, TICKS).unwrap();
        assert!(reports.iter().all(|report| report.kept && report.ticks == TICKS && report.starved_ticks == 0), "{reports:?}");

        assert!(verify_with(&root, true, &mut |_| ControlFlow::Continue(())).unwrap().is_empty());
        let reader = DatasetReader::open(&root).unwrap();
        assert_eq!((reader.total_frames(), reader.robot_type()), (2 * TICKS, Some(robot.lerobot.class.as_str())));
        assert_eq!((names(&reader, "action"), names(&reader, "observation.state")), (robot.action_names(), robot.state_names()));

        // What was wanted is what the driver said, once the robot had come to it, in the dataset's units.
        let (actions, units) = (robot.action_channels(), Units::of(&robot.action_channels()));
        let action = row(&reader, TICKS + 100, "action");
        let (mut goals, mut expected) = (vec![0.0; actions.len()], vec![0.0; actions.len()]);
        fakes::wave(100, &mut goals);
        units.to_dataset(&goals, &mut expected);
        for ((found, expected), channel) in action.iter().zip(&expected).zip(&actions) {
            assert!((found - f64::from(*expected)).abs() < 1e-3, "{name}: {} is {found}, expected {expected}", channel.name);
        }
        // And the robot followed: its state is near, by name.
        let state = row(&reader, TICKS + 100, "observation.state");
        for (at, channel) in robot.state_channels().iter().enumerate() {
            let Some(wanted) = actions.iter().position(|other| other.name == channel.name) else { continue };
            let near = 0.3 * channel.scale_offset.0.abs();
            assert!((state[at] - action[wanted]).abs() < near, "{name}: {} is at {}", channel.name, state[at]);
        }
    }
}
