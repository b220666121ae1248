//! Those who look at a world never keep its robot waiting.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "what fails here fails the test")]

mod common;

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use sinew_core::{Armed, Cameras, Clock, DriveError, Environment, Image, MockClock, Observation, Tick, Timestamp, Unwatched, Wanted};
use sinew_sim::{SimCameras, SimEnvironment, SimRobot, tasks};

const PERIOD: Duration = Duration::from_millis(10);

fn tick_at(index: u64) -> Tick {
    Tick { turn: index, due: Timestamp::from_nanos(1_000_000_000 + index as i64 * 10_000_000), period: PERIOD, wants_images: true }
}

fn turn(armed: &mut Armed<'_>, clock: &MockClock, index: u64, observation: &mut Observation) -> Result<(), DriveError> {
    let tick = tick_at(index);
    clock.sleep_until(tick.due);
    armed.read(&tick, observation)?;
    let mut wanted = Wanted::for_robot(armed.description());
    wanted.goals.copy_from_slice(observation.state.values());
    wanted.goals[0] += 0.02;
    wanted.time = clock.now();
    armed.drive(Some(&wanted), observation, PERIOD.as_secs_f64()).map(|_| ())
}

#[test]
fn a_robot_goes_past_all_who_look_and_fails_for_once_while_its_world_is_changed() {
    let world = common::world();
    let mut arm = SimRobot::new(world.clone());
    let clock = MockClock::new();
    clock.sleep_until(tick_at(0).due);
    let mut observation = Observation::for_robot(world.robot());
    let mut armed = Armed::new(&mut arm, &Unwatched, &clock, &tick_at(0), &mut observation).unwrap();
    // On the same thread whoever waited would wait forever. Each of the glances is at another moment.
    let looks: Vec<_> = (0..4)
        .map(|index| {
            turn(&mut armed, &clock, index, &mut observation).unwrap();
            world.newest()
        })
        .collect();
    for index in 4..40 {
        turn(&mut armed, &clock, index, &mut observation).unwrap();
        assert_eq!(world.newest().due, Some(tick_at(index).due), "what happens is shown");
    }
    for (index, look) in looks.iter().enumerate() {
        assert_eq!(look.due, Some(tick_at(index as u64).due), "what is looked at stands still");
    }
    drop(looks);
    let held = world.lock();
    let error = turn(&mut armed, &clock, 40, &mut observation).unwrap_err();
    assert!(error.is_transient() && error.to_string().contains("somebody else"), "{error}");
    let wanted = Wanted::for_robot(world.robot());
    assert!(armed.drive(Some(&wanted), &observation, 0.01).unwrap_err().is_transient());
    drop(held);
    turn(&mut armed, &clock, 41, &mut observation).unwrap();
    armed.disarm().unwrap();
}

#[test]
fn readers_that_look_for_long_slow_nobody() {
    let world = common::world();
    let mut arm = SimRobot::new(world.clone());
    let clock = MockClock::new();
    clock.sleep_until(tick_at(0).due);
    let mut observation = Observation::for_robot(world.robot());
    let turns = AtomicU64::new(0);
    std::thread::scope(|scope| {
        let readers: Vec<_> = (0..3)
            .map(|_| {
                scope.spawn(|| {
                    let look = || {
                        let look = world.newest();
                        let before = turns.load(Ordering::Acquire);
                        std::thread::sleep(Duration::from_millis(50));
                        let during = turns.load(Ordering::Acquire) - before;
                        drop(look);
                        during
                    };
                    (0..4).map(|_| look()).max().unwrap()
                })
            })
            .collect();
        let mut armed = Armed::new(&mut arm, &Unwatched, &clock, &tick_at(0), &mut observation).unwrap();
        let mut index = 0;
        while !readers.iter().all(std::thread::ScopedJoinHandle::is_finished) {
            index += 1;
            turn(&mut armed, &clock, index, &mut observation).unwrap();
            turns.store(index, Ordering::Release);
        }
        for reader in readers {
            let most = reader.join().unwrap();
            // Twice as many as there are slots: one who waited for those who look would have come to a halt.
            assert!(most > 12, "{most} turns while somebody looked for 50 ms");
        }
    });
}

#[test]
fn a_new_scene_is_shown_in_every_slot() {
    let world = common::world();
    let task = tasks::get("sort").unwrap();
    let mut environment = SimEnvironment::new(world.clone(), task);
    for seed in 0..20 {
        environment.reset(seed).unwrap();
        let state_hash = environment.state_hash();
        let look = world.newest();
        assert_eq!((look.scene_number, look.due, look.time_s), (seed + 1, None, 0.0));
        assert_eq!(look.world_from_props.len(), look.scene.props.len());
        assert_eq!(look.state_hash, state_hash);
    }
}

/// Turns until the cameras have handed over an image that is newer than `sequence`.
fn next_image(armed: &mut Armed<'_>, clock: &MockClock, cameras: &mut SimCameras, index: &mut u64, images: &mut [Image]) {
    let mut observation = Observation::for_robot(armed.description());
    let sequence = images[0].sequence;
    for _ in 0..2000 {
        *index += 1;
        turn(armed, clock, *index, &mut observation).unwrap();
        cameras.newest(&tick_at(*index), images).unwrap();
        if images[0].sequence != sequence {
            return;
        }
        std::thread::sleep(Duration::from_millis(1));
    }
    panic!("no image came");
}

#[test]
fn cameras_beside_show_the_world_as_it_was_at_the_time_that_they_say() {
    let world = common::world();
    let mut environment = SimEnvironment::new(world.clone(), tasks::get("push").unwrap());
    environment.reset(1).unwrap();
    let mut arm = SimRobot::new(world.clone());
    let clock = MockClock::new();
    clock.sleep_until(tick_at(0).due);
    let mut observation = Observation::for_robot(world.robot());
    let mut beside = SimCameras::beside(world.clone()).unwrap();
    let mut in_step = SimCameras::in_step(world.clone());
    let mut images = observation.images.clone();
    let mut index = 0;
    let mut armed = Armed::new(&mut arm, &Unwatched, &clock, &tick_at(0), &mut observation).unwrap();
    let mut expected: Vec<(Timestamp, Vec<Image>)> = Vec::new();
    for _ in 0..5 {
        next_image(&mut armed, &clock, &mut beside, &mut index, &mut images);
        let captured_at = images[0].captured_at;
        assert!(images.iter().all(|image| (image.captured_at, image.sequence) == (captured_at, images[0].sequence)), "one moment");
        assert!(captured_at <= tick_at(index).due);
        // Until the next one comes the world stands still: that is what it must show.
        let mut same = observation.images.clone();
        in_step.newest(&tick_at(index), &mut same).unwrap();
        expected.push((tick_at(index).due, same));
        for _ in 0..200 {
            beside.newest(&tick_at(index), &mut images).unwrap();
            if images[0].captured_at == tick_at(index).due {
                break;
            }
            std::thread::sleep(Duration::from_millis(2));
        }
        let (due, same) = expected.last().unwrap();
        assert_eq!(images[0].captured_at, *due);
        assert!(images.iter().zip(same).all(|(a, b)| a.rgb == b.rgb), "the same pixels as in step");
    }
    // Images of a scene that is gone are not handed over.
    armed.disarm().unwrap();
    beside.newest(&tick_at(index), &mut images).unwrap();
    environment.reset(2).unwrap();
    let last = images.clone();
    for _ in 0..20 {
        beside.newest(&tick_at(index), &mut images).unwrap();
        std::thread::sleep(Duration::from_millis(2));
    }
    assert_eq!(images, last, "nobody has read the new scene yet");
}
