//! Tasks, their judges and those who show how they are done.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "what fails here fails the test")]

mod common;

use sinew_core::{Environment, Interventions, Outcome, ToolGoal};
use sinew_sim::{PropPhysics, SharedWorld, SimEnvironment, SimError, World, robots, tasks};

#[test]
fn each_task_is_done_by_its_teleoperator_within_the_robots_limits() {
    for task in tasks::list() {
        for seed in 1000..1006 {
            let episode = common::run(*task, seed, false);
            assert_eq!(episode.outcome, Outcome::Success, "{} with seed {seed} after {} ticks", task.name(), episode.ticks);
            assert!(episode.done, "{} with seed {seed}", task.name());
            assert_eq!(episode.interventions, Interventions::default(), "{} with seed {seed}", task.name());
        }
    }
}

/// Whoever copies it begins with something that works.
#[test]
fn the_example_touches_the_marker() {
    let model = robots::get("example").unwrap();
    for seed in 0..20 {
        let world = SharedWorld::new(World::new(&model).unwrap());
        let episode = common::run_in(world, tasks::get("reach").unwrap(), seed, false);
        assert_eq!(episode.outcome, Outcome::Success, "seed {seed} after {} ticks", episode.ticks);
        assert_eq!(episode.interventions, Interventions::default(), "seed {seed}");
    }
}

#[test]
fn a_session_with_the_same_seed_goes_the_same_way_bit_by_bit() {
    for task in tasks::list() {
        let (first, second) = (common::run(*task, 7, false), common::run(*task, 7, false));
        assert_eq!(first.hashes, second.hashes, "{}", task.name());
        assert_ne!(first.hashes, common::run(*task, 8, false).hashes, "{}", task.name());
    }
}

#[test]
fn looking_changes_nothing_and_shows_the_same_pixels_every_time() {
    let task = tasks::get("reach").unwrap();
    let (blind, first, second) = (common::run(task, 3, false), common::run(task, 3, true), common::run(task, 3, true));
    assert_eq!(blind.hashes, first.hashes);
    assert_eq!(first.observation.images, second.observation.images);
    for image in &first.observation.images {
        let (low, high) = (image.rgb.iter().min().unwrap(), image.rgb.iter().max().unwrap());
        assert!(high - low > 60, "a picture of something, not {low}..{high}");
    }
}

#[test]
fn no_task_is_done_before_anyone_moved_and_none_is_lost() {
    for task in tasks::list() {
        let world = common::world();
        let mut environment = SimEnvironment::new(world.clone(), *task);
        for seed in 0..200 {
            let setup = environment.reset(seed).unwrap();
            assert!(setup.max_ticks > 0 && setup.task.ends_with('.'));
            for _ in 0..20 {
                assert_eq!(environment.outcome(), Outcome::Running, "{} with seed {seed}", task.name());
            }
        }
    }
}

#[test]
fn whatever_is_to_be_moved_can_be_reached_from_above() {
    for task in tasks::list() {
        let world = common::world();
        let mut environment = SimEnvironment::new(world.clone(), *task);
        for seed in 0..200 {
            environment.reset(seed).unwrap();
            let seen = world.newest();
            let robot = &seen.robot;
            let rest: Vec<f64> = robot.parts.iter().map(|part| part.rest.unwrap()).collect();
            for (i, prop) in seen.scene.props.iter().enumerate() {
                if !matches!(prop.physics, PropPhysics::Moving { .. }) {
                    continue;
                }
                let position_m = seen.world_from_props[i].translation.vector;
                let goal = ToolGoal { position_m, approach: Some(-nalgebra::Vector3::z_axis()), across: None };
                let found = robot.inverse_kinematics(0, &goal, &rest).unwrap();
                assert!(found.position_error_m < 0.003 && found.direction_error_rad < 0.15, "{} with seed {seed}: {found:?}", task.name());
            }
        }
    }
}

#[test]
fn the_sort_task_asks_for_either_cube() {
    let world = common::world();
    let mut environment = SimEnvironment::new(world, tasks::get("sort").unwrap());
    let mut asked: Vec<String> = (0..20).map(|seed| environment.reset(seed).unwrap().task).collect();
    asked.sort();
    asked.dedup();
    assert_eq!(asked, ["Put the blue cube into the green bin.", "Put the red cube into the green bin."]);
}

#[test]
fn an_unknown_task_is_an_error_that_lists_the_known_ones() {
    let Err(error) = tasks::get("juggle") else { panic!("there is a task called juggle") };
    assert!(matches!(&error, SimError::UnknownTask { known, .. } if known.len() == tasks::list().len()));
    let text = error.to_string();
    for word in ["juggle", "reach", "push", "pick-place", "sort"] {
        assert!(text.contains(word), "{text}");
    }
}

/// Who has an instruction finds its task, and no other one.
#[test]
fn every_instruction_of_a_scene_is_listed_and_names_its_task() {
    let model = robots::get("so101").unwrap();
    for task in tasks::list() {
        let mut told = std::collections::BTreeSet::new();
        for seed in 0..40 {
            let mut rng = fastrand::Rng::with_seed(seed);
            told.insert(task.scene(&model.description, seed, &mut rng).unwrap().1);
        }
        assert_eq!(told, task.instructions().into_iter().collect(), "{}", task.name());
        for text in told {
            assert_eq!(tasks::of_instruction(&text).map(|found| found.name()), Some(task.name()), "{text}");
        }
    }
    assert!(tasks::of_instruction("Dance.").is_none());
}
