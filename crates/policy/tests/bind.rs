//! A checkpoint drives only the robot it fits.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "what fails here fails the test")]

mod common;

use std::fmt::Write as _;
use std::sync::Arc;

use common::{copy, edit_json, golden};
use serde_json::json;
use sinew_core::{Continuation, Observation, Policy, RobotDescription, Samples, Timestamp, Units};
use sinew_policy::{
    BindError, BoundPolicy, Checkpoint, CheckpointError, Fit, Guidance, GuidanceMode, GuidanceSettings, Inputs, OpenOptions, Together,
};

/// Joints in degrees, the last one in 0..100.
fn robot(joints: &[&str], cameras: &[(&str, u32, u32)]) -> RobotDescription {
    let mut toml =
        "schema = 2\nname = 'arm'\ntitle = 'Arm'\ncontrol_rate_hz = 30\nlerobot = { class = 'arm' }\nstop = { behaviour = 'hold' }\n\
                    bus = [{ name = 'arm', protocol = 'feetech' }]\n"
            .to_owned();
    for (i, name) in joints.iter().enumerate() {
        let unit = if i + 1 == joints.len() { "unit = 'range_0_100'\nrange = [-0.5, 1.5]" } else { "unit = 'degrees'" };
        write!(
            toml,
            "[[part]]\nname = '{name}'\ncommand = 'position'\nmotor = {{ bus = 'arm', model = 'sts3215', id = {i} }}\n{unit}\n\
             limits = {{ position = [-0.5, 1.5], velocity = 1.0, step = 0.1 }}\n"
        )
        .unwrap();
    }
    for (name, width, height) in cameras {
        write!(toml, "[[camera]]\nname = '{name}'\nwidth = {width}\nheight = {height}\n").unwrap();
    }
    RobotDescription::from_toml("arm", &toml).unwrap()
}

const SIX: [&str; 6] = ["pan", "lift", "elbow", "flex", "roll", "gripper"];
const CAMERAS: [(&str, u32, u32); 2] = [("front", 128, 96), ("wrist", 128, 96)];

fn seen(values: &[f64]) -> Samples {
    Samples::measured(values, Timestamp::ZERO)
}

fn checkpoint() -> Arc<Checkpoint> {
    Arc::new(Checkpoint::open(golden("act/two_cameras_vae")).unwrap())
}

fn mismatch(checkpoint: &Arc<Checkpoint>, robot: &RobotDescription) -> (Fit, String) {
    let error = BoundPolicy::bind(checkpoint, robot).unwrap_err();
    let text = error.to_string();
    let BindError::Mismatch { fit } = error else { panic!("{text}") };
    (fit, text)
}

/// The robot's cameras are in another order than the model's, and its units are radians: a bound
/// policy gives the same answer as the raw checkpoint.
#[test]
fn a_bound_policy_answers_in_radians_for_the_tick_it_was_asked() {
    let (checkpoint, robot) = (checkpoint(), robot(&SIX, &CAMERAS));
    let mut observation = Observation::for_robot(&robot);
    observation.tick = 41;
    observation.state = seen(&[0.1, -0.2, 0.3, 0.0, -0.4, 0.7]);
    for (i, image) in observation.images.iter_mut().enumerate() {
        let shade = |(n, value): (usize, &mut u8)| *value = ((n / 384 * (3 + i * 4)) % 256) as u8;
        image.rgb.iter_mut().enumerate().for_each(shade);
    }
    let mut policy = BoundPolicy::bind(&checkpoint, &robot).unwrap();
    let chunk = policy.infer(std::slice::from_ref(&observation), "").unwrap();
    assert_eq!((chunk.first_tick(), chunk.len(), chunk.width()), (41, 20, 6));
    assert_eq!(policy.info().n_action_steps, 20);

    let units = Units::of(&robot.state_channels());
    let mut state = vec![0.0; 6];
    units.to_dataset(observation.state.values(), &mut state);
    let [front, wrist] = &observation.images[..] else { panic!() };
    let inputs = Inputs::new().vector("observation.state", state).image("observation.images.wrist", 96, 128, wrist.rgb.to_vec()).image(
        "observation.images.front",
        96,
        128,
        front.rgb.to_vec(),
    );
    let actions = checkpoint.infer(&inputs).unwrap();
    for (goals, row) in chunk.rows().zip(actions.values.chunks(6)) {
        let degrees = goals[0].to_degrees();
        assert!((degrees - f64::from(row[0])).abs() < 1e-4, "{degrees} {}", row[0]);
        // 0..100 over −0.5..1.5 rad.
        let percent = (goals[5] + 0.5) * 50.0;
        assert!((percent - f64::from(row[5])).abs() < 1e-4, "{percent} {}", row[5]);
    }
    // Threads don't change a bit of it.
    for count in [1, 2, 3] {
        assert_eq!(policy.clone().with_threads(count).unwrap().infer(std::slice::from_ref(&observation), "").unwrap(), chunk);
    }
    // Which camera is which matters to the answer, so the test above can tell them apart.
    observation.images.swap(0, 1);
    assert_ne!(policy.infer(std::slice::from_ref(&observation), "").unwrap(), chunk);
}

/// As the control loop asks: the second answer follows what is left of the first.
#[test]
fn a_bound_policy_continues_its_own_chunk() {
    let checkpoint = Arc::new(Checkpoint::open(golden("smolvla/bfloat16")).unwrap());
    let robot = robot(&SIX, &[("front", 64, 48)]);
    let mut policy = BoundPolicy::bind(&checkpoint, &robot).unwrap();
    assert!(policy.can_continue());
    let settings = GuidanceSettings { execution_horizon: 4, ..GuidanceSettings::default() };
    policy.set_guidance(settings).unwrap();
    let mut observation = Observation::for_robot(&robot);
    observation.images[0].rgb.iter_mut().enumerate().for_each(|(i, value)| *value = (i % 251) as u8);
    let mut seen = observation.clone();
    seen.tick = 3;
    let inputs = |seed| {
        let mut state = vec![0.0; 6];
        Units::of(&robot.state_channels()).to_dataset(observation.state.values(), &mut state);
        let image = observation.images[0].rgb.to_vec();
        Inputs::new().vector("observation.state", state).image("observation.images.front", 48, 64, image).task("go").seed(seed)
    };
    let continuing = Continuation { rows_left: 5, delay_rows: 2, newest_is_unused: false };

    let first = checkpoint.infer_chunk(&inputs(0), None).unwrap();
    let previous = first.rest(5);
    assert_eq!((first.actions.rows, &previous.normalized.values[..]), (8, &first.normalized.values[3 * 6..]));
    let guidance = Guidance { previous, inference_delay: 2, settings };
    let expected = checkpoint.infer_chunk(&inputs(1), Some(&guidance)).unwrap().actions;

    policy.infer(std::slice::from_ref(&observation), "go").unwrap();
    let mut fresh = policy.clone();
    let chunk = policy.infer_continuing(std::slice::from_ref(&seen), "go", continuing).unwrap();
    assert_eq!((chunk.first_tick(), chunk.len()), (3, expected.rows));
    for (goals, row) in chunk.rows().zip(expected.values.chunks(6)) {
        assert!((goals[0].to_degrees() - f64::from(row[0])).abs() < 1e-4, "{} {}", goals[0].to_degrees(), row[0]);
    }
    assert_ne!(fresh.infer(std::slice::from_ref(&seen), "go").unwrap(), chunk, "the guidance must matter");
    // Where an answer was not used, the next continues the one before it.
    let instead = Continuation { newest_is_unused: true, ..continuing };
    let third = checkpoint.infer_chunk(&inputs(2), Some(&guidance)).unwrap().actions;
    let chunk = policy.infer_continuing(std::slice::from_ref(&seen), "go", instead).unwrap();
    for (goals, row) in chunk.rows().zip(third.values.chunks(6)) {
        assert!((goals[0].to_degrees() - f64::from(row[0])).abs() < 1e-4, "{} {}", goals[0].to_degrees(), row[0]);
    }
    // After a reset there is nothing to continue.
    policy.reset(7);
    let alone = policy.infer_continuing(std::slice::from_ref(&seen), "go", continuing).unwrap();
    fresh.reset(7);
    assert_eq!(fresh.infer(std::slice::from_ref(&seen), "go").unwrap(), alone);
    // Episodes draw noise of their own, each time the same.
    let mut of_episode = |seed| {
        fresh.reset(seed);
        [0, 1].map(|_| fresh.infer(std::slice::from_ref(&seen), "go").unwrap())
    };
    let episodes = [0, 1, 2, 7].map(&mut of_episode);
    let all: Vec<_> = episodes.iter().flatten().collect();
    assert!((0..8).all(|i| (0..i).all(|j| all[i] != all[j])), "noise that two answers share");
    assert_eq!(of_episode(7), episodes[3]);
    assert_eq!(episodes[3][0], alone);

    assert!(!Checkpoint::open(golden("act/two_cameras_vae")).unwrap().can_continue());

    // One that is given what is executed meanwhile says how much that may be, another that it can't be.
    let mode = |mode| GuidanceSettings { mode, ..GuidanceSettings::default() };
    let mut trained = BoundPolicy::bind(&Arc::new(Checkpoint::open(golden("pi05/trained")).unwrap()), &robot).unwrap();
    assert_eq!((trained.guidance().unwrap().mode, trained.most_delay_rows()), (GuidanceMode::Trained, Some(3)));
    trained.set_guidance(mode(GuidanceMode::Guided)).unwrap();
    assert_eq!(trained.most_delay_rows(), None);
    let error = policy.set_guidance(mode(GuidanceMode::Trained)).unwrap_err().to_string();
    assert!(error.contains("the smolvla policy") && error.contains("rtc_training_max_delay 0"), "{error}");
}

/// Of actions that are relative to the state what is left is the places to go to, wherever the arm is by then.
#[test]
fn what_a_bound_policy_continues_is_made_relative_to_where_the_arm_is_now() {
    let checkpoint = Arc::new(Checkpoint::open(golden("pi0/relative_actions")).unwrap());
    let robot = robot(&["pan", "lift", "wrist", "Gripper"], &[("front", 40, 40)]);
    let mut policy = BoundPolicy::bind(&checkpoint, &robot).unwrap();
    let settings = GuidanceSettings { execution_horizon: 4, ..GuidanceSettings::default() };
    policy.set_guidance(settings).unwrap();
    let at = |tick, state: [f64; 4]| {
        let mut observation = Observation::for_robot(&robot);
        (observation.tick, observation.state) = (tick, seen(&state));
        observation
    };
    let (before, now) = (at(0, [0.1, -0.2, 0.3, 0.5]), at(2, [0.2, -0.1, 0.15, 0.6]));
    let inputs = |observation: &Observation, seed| {
        let mut state = vec![0.0; 4];
        Units::of(&robot.state_channels()).to_dataset(observation.state.values(), &mut state);
        Inputs::new().vector("observation.state", state).image("observation.images.front", 40, 40, vec![0; 4800]).task("go").seed(seed)
    };
    let first = checkpoint.infer_chunk(&inputs(&before, 0), None).unwrap();
    let guidance = |previous| Guidance { previous, inference_delay: 2, settings };
    let expected = checkpoint.infer_chunk(&inputs(&now, 1), Some(&guidance(first.rest(4)))).unwrap().actions;
    // What the model gave is of no account, the places are.
    let mut other = first.rest(4);
    other.normalized.values.fill(0.0);
    assert_eq!(checkpoint.infer_chunk(&inputs(&now, 1), Some(&guidance(other.clone()))).unwrap().actions, expected);
    other.actions.values.iter_mut().for_each(|value| *value += 5.0);
    assert_ne!(checkpoint.infer_chunk(&inputs(&now, 1), Some(&guidance(other))).unwrap().actions, expected);

    policy.infer(std::slice::from_ref(&before), "go").unwrap();
    let continuing = Continuation { rows_left: 4, delay_rows: 2, newest_is_unused: false };
    let chunk = policy.infer_continuing(std::slice::from_ref(&now), "go", continuing).unwrap();
    for (goals, row) in chunk.rows().zip(expected.values.chunks(4)) {
        assert!((goals[0].to_degrees() - f64::from(row[0])).abs() < 1e-4, "{} {}", goals[0].to_degrees(), row[0]);
    }
}

#[test]
fn a_robot_that_does_not_fit_is_shown_beside_the_checkpoint() {
    let checkpoint = checkpoint();
    let (fit, text) = mismatch(&checkpoint, &robot(&SIX[..5], &CAMERAS));
    let bad: Vec<&str> = fit.rows.iter().filter(|row| !row.fits).map(|row| row.feature.as_str()).collect();
    assert_eq!(bad, ["observation.state", "action"]);
    assert!(text.contains("6 values") && text.contains("5 values: pan.pos, lift.pos"), "{text}");

    let (_, text) = mismatch(&checkpoint, &robot(&SIX, &[("front", 128, 96), ("top", 128, 96)]));
    assert!(text.contains("! observation.images.wrist  a 128x96 image  no such camera"), "{text}");
    assert!(text.contains("observation.images.top") && text.contains("not used"), "{text}");

    let (_, text) = mismatch(&checkpoint, &robot(&SIX, &[("front", 128, 96), ("wrist", 96, 128)]));
    assert!(text.contains("! observation.images.wrist  a 128x96 image  a 96x128 image"), "{text}");

    let environment = Arc::new(Checkpoint::open(golden("act/no_camera")).unwrap());
    let (_, text) = mismatch(&environment, &robot(&SIX[..3], &CAMERAS));
    assert!(text.contains("! observation.environment_state"), "{text}");
}

#[test]
fn known_joint_names_must_be_the_robots_in_order() {
    let dir = copy("act/two_cameras_vae");
    let set = |names: &[&str]| {
        let names: Vec<String> = names.iter().map(|name| format!("{name}.pos")).collect();
        edit_json(&dir.path().join("config.json"), |config| config["action_feature_names"] = json!(names));
        Arc::new(Checkpoint::open(dir.path()).unwrap())
    };
    let robot = robot(&SIX, &CAMERAS);
    BoundPolicy::bind(&set(&SIX), &robot).unwrap();
    let mut swapped = SIX;
    swapped.swap(0, 1);
    let (_, text) = mismatch(&set(&swapped), &robot);
    assert!(text.contains("lift.pos, pan.pos") && text.contains("pan.pos, lift.pos"), "{text}");
}

#[test]
fn the_checkpoints_renames_apply_to_the_robots_cameras() {
    // Its preprocessor renames camera1 to front.
    let checkpoint = Arc::new(Checkpoint::open(golden("act/resnet50_dilated_f16")).unwrap());
    BoundPolicy::bind(&checkpoint, &robot(&SIX, &[("camera1", 90, 70)])).unwrap();
    let (_, text) = mismatch(&checkpoint, &robot(&SIX, &[("camera2", 90, 70)]));
    assert!(text.contains("no such camera"), "{text}");
    // Its own name passes through the renaming too, so this robot has two candidates.
    let (_, text) = mismatch(&checkpoint, &robot(&SIX, &[("camera1", 90, 70), ("front", 90, 70)]));
    assert!(text.contains("two cameras for it: camera1, front"), "{text}");
    let both = checkpoint.blank_inputs().image("observation.images.camera1", 70, 90, vec![0; 70 * 90 * 3]);
    assert!(checkpoint.infer(&both).unwrap_err().to_string().contains("given by 2 inputs"));
}

#[test]
fn a_depth_camera_is_no_image_for_a_policy() {
    let checkpoint = checkpoint();
    let mut robot = robot(&SIX, &[CAMERAS[0], CAMERAS[1], ("wrist_depth", 128, 96)]);
    robot.cameras[2].depth = true;
    // Beside the cameras that it wants it is of no use to it, and no harm.
    assert!(Fit::of(&checkpoint, &robot).is_fit());
    let mut policy = BoundPolicy::bind(&checkpoint, &robot).unwrap();
    policy.infer(&[Observation::for_robot(&robot)], "").unwrap();
    robot.cameras[1].depth = true;
    let (fit, text) = mismatch(&checkpoint, &robot);
    assert!(text.contains("a 128x96 depth image (distances, no colours)"), "{text}");
    let refused: Vec<&str> = fit.rows.iter().filter(|row| !row.fits).map(|row| row.feature.as_str()).collect();
    assert_eq!(refused, ["observation.images.wrist"]);
    // Whoever asks all the same gets no answer: there are no colours.
    assert!(policy.infer(&[Observation::for_robot(&robot)], "").is_err());
}

#[test]
fn an_observation_of_another_robot_is_an_error_not_a_panic() {
    let (checkpoint, robot) = (checkpoint(), robot(&SIX, &CAMERAS));
    let mut policy = BoundPolicy::bind(&checkpoint, &robot).unwrap();
    for break_it in [
        (|o: &mut Observation| o.state = seen(&[0.0; 5])) as fn(&mut Observation),
        |o| o.images.truncate(1),
        |o| o.images[0].rgb.truncate(5),
        |o| o.images[1].height = 95,
        |o| o.state = seen(&[0.0, 0.0, 1e300, 0.0, 0.0, 0.0]),
    ] {
        let mut observation = Observation::for_robot(&robot);
        break_it(&mut observation);
        assert!(policy.infer(std::slice::from_ref(&observation), "").is_err());
    }
}

#[test]
fn a_checkpoint_with_ensembling_averages_what_was_said_before_until_it_is_reset() {
    let dir = copy("act/two_cameras_vae");
    edit_json(&dir.path().join("config.json"), |config| {
        config["temporal_ensemble_coeff"] = json!(0.01);
        config["n_action_steps"] = json!(1);
    });
    let checkpoint = Arc::new(Checkpoint::open(dir.path()).unwrap());
    let robot = robot(&SIX, &CAMERAS);
    let mut policy = BoundPolicy::bind(&checkpoint, &robot).unwrap();
    let mut observation = Observation::for_robot(&robot);
    let first = policy.infer(std::slice::from_ref(&observation), "").unwrap();
    observation.tick = 1;
    observation.state = seen(&[1.0, 0.0, 0.0, 0.0, 0.0, 0.0]);
    let mixed = policy.infer(std::slice::from_ref(&observation), "").unwrap();
    policy.reset(7);
    let alone = policy.infer(std::slice::from_ref(&observation), "").unwrap();
    let [old, new, mean] = [first.rows().nth(1), alone.rows().next(), mixed.rows().next()].map(|row| row.unwrap()[0]);
    let weight = (-0.01f64).exp();
    assert!((mean - (old + new * weight) / (1.0 + weight)).abs() < 1e-6, "{old} {new} {mean}");
    assert!((old - new).abs() > 1e-4);
}

/// A policy that takes several observation steps is shown them oldest first, and at the start of an
/// episode the only one as often as it takes.
#[test]
fn a_policy_with_a_history_gets_its_observations_oldest_first() {
    let checkpoint = Arc::new(Checkpoint::open(golden("diffusion/two_encoders")).unwrap());
    let robot = robot(&SIX, &[("wrist", 64, 48), ("front", 64, 48)]);
    let mut policy = BoundPolicy::bind(&checkpoint, &robot).unwrap();
    assert_eq!((policy.info().n_obs_steps, policy.info().chunk_size), (2, 4));
    let observation = |tick: u64| {
        let mut observation = Observation::for_robot(&robot);
        observation.tick = tick;
        observation.state = seen(&[0, 1, 2, 3, 4, 5].map(|joint| 0.1 * (f64::from(joint) - tick as f64)));
        for (i, image) in observation.images.iter_mut().enumerate() {
            let shade = |(n, value): (usize, &mut u8)| *value = ((n / 192 * (3 + i * 4) + tick as usize * 40) % 256) as u8;
            image.rgb.iter_mut().enumerate().for_each(shade);
        }
        observation
    };
    let steps = [observation(7), observation(8)];
    let chunk = policy.infer(&steps, "").unwrap();
    assert_eq!(chunk.first_tick(), 8);

    let units = Units::of(&robot.state_channels());
    let state = |observation: &Observation| {
        let mut state = vec![0.0; 6];
        units.to_dataset(observation.state.values(), &mut state);
        state
    };
    let images = |index: usize| steps.iter().map(|observation| observation.images[index].rgb.to_vec()).collect::<Vec<_>>();
    let inputs = Inputs::new()
        .vectors("observation.state", steps.iter().map(state).collect())
        .images("observation.images.wrist", 48, 64, images(0))
        .images("observation.images.front", 48, 64, images(1));
    let actions = checkpoint.infer(&inputs).unwrap();
    for (goals, row) in chunk.rows().zip(actions.values.chunks(6)) {
        assert!((goals[0].to_degrees() - f64::from(row[0])).abs() < 1e-4);
    }

    // The noise is the same after each reset with a seed, so only the observations tell the answers apart.
    let mut answer = |observations: &[Observation]| {
        policy.reset(7);
        policy.infer(observations, "").unwrap().rows().flatten().copied().collect::<Vec<_>>()
    };
    let [old, new] = steps;
    assert_ne!(answer(&[old.clone(), new.clone()]), answer(&[new.clone(), old]));
    assert_eq!(answer(std::slice::from_ref(&new)), answer(&[new.clone(), new.clone()]));

    // Workers who ask together get what each would get alone.
    let together = Arc::new(Together::new(&checkpoint, 4).unwrap());
    std::thread::scope(|scope| {
        for seed in 0..6 {
            let (mut alone, mut shared, new) = (policy.clone(), policy.clone().with_others(&together), &new);
            scope.spawn(move || {
                alone.reset(seed);
                shared.reset(seed);
                for _ in 0..3 {
                    let ask = |policy: &mut BoundPolicy| policy.infer(std::slice::from_ref(new), "").unwrap();
                    assert_eq!(ask(&mut shared).rows().collect::<Vec<_>>(), ask(&mut alone).rows().collect::<Vec<_>>(), "seed {seed}");
                }
            });
        }
    });
}

/// SmolVLA resizes what it is given and does without some cameras, though not without all.
#[test]
fn cameras_may_stay_away_and_have_any_size_where_the_model_says_so() {
    let checkpoint = Arc::new(Checkpoint::open(golden("smolvla/cross_attention")).unwrap());
    let seeing = robot(&SIX, &[("front", 640, 480)]);
    let fit = Fit::of(&checkpoint, &seeing);
    assert!(fit.is_fit(), "{fit}");
    let wrist = fit.rows.iter().find(|row| row.feature == "observation.images.wrist").unwrap();
    assert_eq!(wrist.robot, "no such camera, it may stay away");
    let chunk = BoundPolicy::bind(&checkpoint, &seeing).unwrap().infer(&[Observation::for_robot(&seeing)], "go").unwrap();
    assert_eq!(chunk.len(), 8);

    let (fit, text) = mismatch(&checkpoint, &robot(&SIX, &[("other", 640, 480)]));
    assert_eq!(fit.rows.iter().filter(|row| !row.fits).count(), 2, "{text}");
}

/// A base with a battery: a value more in the state than in the action.
#[test]
fn a_robot_whose_state_and_action_differ_is_compared_and_driven_in_the_units_of_each() {
    let checkpoint = Arc::new(Checkpoint::open(golden("vqbet/codes_at_once")).unwrap());
    let toml = "schema = 2\nname = 'rover'\ntitle = 'Rover'\ncontrol_rate_hz = 30\nlerobot = { class = 'rover' }\nstop = { behaviour = 'hold' }\n\
                camera = [{ name = 'front', width = 64, height = 60 }]\n\
                sensor = [{ name = 'battery', kind = 'battery', features = ['battery.voltage'] }]\n\
                part = [{ name = 'a', kind = 'wheel' }, { name = 'b', kind = 'wheel' }, { name = 'c', kind = 'wheel' }]\n\
                [base]\nkind = 'omni'\nwheel_radius_m = 0.05\nwheel_velocity_rad_per_s = 10\nstale_ms = 200\n\
                linear = { velocity = 0.4 }\nangular = { velocity = 2.0 }\n\
                wheel = [{ part = 'a', rim_m_per_s = [0.866, -0.5, 0.125] }, { part = 'b', rim_m_per_s = [0, 1, 0.125] }, \
                { part = 'c', rim_m_per_s = [-0.866, -0.5, 0.125] }]\n";
    let robot = RobotDescription::from_toml("rover", toml).unwrap();
    let fit = Fit::of(&checkpoint, &robot);
    let row = |feature: &str| fit.rows.iter().find(|row| row.feature == feature).unwrap().robot.clone();
    assert_eq!(row("observation.state"), "4 values: x.vel, y.vel, theta.vel, battery.voltage");
    assert_eq!(row("action"), "3 values: x.vel, y.vel, theta.vel");

    let mut policy = BoundPolicy::bind(&checkpoint, &robot).unwrap();
    let mut observation = Observation::for_robot(&robot);
    observation.state = seen(&[0.1, -0.2, 0.5, 12.0]);
    let chunk = policy.infer(std::slice::from_ref(&observation), "").unwrap();
    let state = vec![0.1, -0.2, 0.5f64.to_degrees() as f32, 12.0];
    let inputs = Inputs::new().vector("observation.state", state).image("observation.images.front", 60, 64, vec![0; 60 * 64 * 3]);
    let actions = checkpoint.infer(&inputs).unwrap();
    assert_eq!((chunk.width(), chunk.len()), (3, actions.rows));
    for (goals, row) in chunk.rows().zip(actions.values.chunks(3)) {
        let found = [goals[0], goals[1], goals[2].to_degrees()];
        assert!(found.iter().zip(row).all(|(found, row)| (found - f64::from(*row)).abs() < 1e-4), "{found:?} {row:?}");
    }
    // Without the battery only the state does not fit.
    let bare = RobotDescription::from_toml("rover", &toml.replace("features = ['battery.voltage']", "features = []")).unwrap();
    let (fit, text) = mismatch(&checkpoint, &bare);
    let bad: Vec<&str> = fit.rows.iter().filter(|row| !row.fits).map(|row| row.feature.as_str()).collect();
    assert_eq!(bad, ["observation.state"], "{text}");
}

/// A robot calls its cameras otherwise: LeRobot's rename map, given when the checkpoint is opened.
#[test]
fn cameras_are_renamed_as_the_user_says() {
    let open = |renames: &[(&str, &str)]| {
        let renames: Vec<_> = renames.iter().map(|(camera, key)| ((*camera).to_owned(), (*key).to_owned())).collect();
        OpenOptions::new().rename(&renames).open(golden("act/two_cameras_vae"))
    };
    let robot = robot(&SIX, &[("top", 128, 96), ("wrist", 128, 96)]);
    let (fit, _) = mismatch(&checkpoint(), &robot);
    assert_eq!(fit.rows.iter().filter(|row| !row.fits).count(), 1);

    let renamed = Arc::new(open(&[("top", "observation.images.front")]).unwrap());
    let fit = Fit::of(&renamed, &robot);
    assert!(fit.is_fit(), "{fit}");
    let front = fit.rows.iter().find(|row| row.feature == "observation.images.front").unwrap();
    assert_eq!(front.robot, "a 128x96 image of the camera top");
    let mut observation = Observation::for_robot(&robot);
    observation.images[0].rgb = vec![200; 128 * 96 * 3].into();
    let chunk = BoundPolicy::bind(&renamed, &robot).unwrap().infer(std::slice::from_ref(&observation), "").unwrap();
    let inputs = |front: &str| {
        let state: Vec<f32> = vec![0.0; 5].into_iter().chain([25.0]).collect();
        let image = |value: u8| vec![value; 128 * 96 * 3];
        Inputs::new().vector("observation.state", state).image(front, 96, 128, image(200)).image(
            "observation.images.wrist",
            96,
            128,
            image(0),
        )
    };
    let direct = checkpoint().infer(&inputs("observation.images.front")).unwrap();
    for (goals, row) in chunk.rows().zip(direct.values.chunks(6)) {
        assert!((goals[0].to_degrees() - f64::from(row[0])).abs() < 1e-4);
    }
    // The same for inputs that are given by name, and both ways round.
    assert_eq!(renamed.infer(&inputs("observation.images.top")).unwrap(), direct);
    let swapped = open(&[("front", "wrist"), ("wrist", "front")]).unwrap();
    let swap = |a: u8, b: u8, checkpoint: &Checkpoint| {
        let image = |value: u8| vec![value; 128 * 96 * 3];
        let inputs = Inputs::new().vector("observation.state", vec![0.0; 6]);
        checkpoint
            .infer(&inputs.image("observation.images.front", 96, 128, image(a)).image("observation.images.wrist", 96, 128, image(b)))
            .unwrap()
    };
    assert_eq!(swap(10, 250, &swapped), swap(250, 10, &checkpoint()));

    // A camera that the robot lacks is in the table.
    let absent = Arc::new(open(&[("top", "front"), ("hand", "wrist")]).unwrap());
    let (fit, text) = mismatch(&absent, &robot);
    let row = fit.rows.iter().find(|row| row.feature == "observation.images.hand").unwrap();
    assert_eq!(
        (row.checkpoint.as_str(), row.robot.as_str(), row.fits),
        ("renamed to observation.images.wrist", "no such camera", false),
        "{text}"
    );

    for (renames, why) in [
        (&[("top", "side")][..], "no camera side, expected one of observation.images.wrist, observation.images.front"),
        (&[("top", "observation.state")], "no camera observation.state"),
        (&[("top", "front"), ("hand", "front")], "expected each key once"),
        (&[("top", "front"), ("observation.images.top", "wrist")], "expected each camera once"),
    ] {
        let error = open(renames).unwrap_err();
        assert!(matches!(error, CheckpointError::Rename { .. }) && error.to_string().contains(why), "{error}");
    }
}
