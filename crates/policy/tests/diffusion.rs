//! Diffusion Policy: what makes no network is refused, and noise is drawn from the seed alone.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "what fails here fails the test")]

mod common;

use std::sync::Arc;

use common::{copy, edit_json, golden, refuses_values, superfluous_tensors};
use serde_json::{Value, json};
use sinew_policy::{Checkpoint, InferError, Inputs, Together};

const CASE: &str = "diffusion/two_encoders";

#[test]
fn values_that_make_no_network_are_refused_by_name() {
    let values = [
        ("n_obs_steps", json!(0)),
        ("horizon", json!(6)),
        ("horizon", json!(1_u64 << 62)),
        ("n_action_steps", json!(0)),
        ("down_dims", json!([10, 16])),
        ("down_dims", json!([4, 16])),
        ("kernel_size", json!(4)),
        ("diffusion_step_embed_dim", json!(2)),
        ("diffusion_step_embed_dim", json!(9)),
        ("vision_backbone", json!("resnext50_32x4d")),
        ("noise_scheduler_type", json!("PNDM")),
        ("beta_schedule", json!("exponential")),
        ("prediction_type", json!("v_prediction")),
        ("clip_sample_range", json!(-1.0)),
        ("num_inference_steps", json!(101)),
        ("num_inference_steps", json!(0)),
        ("crop_ratio", json!(1.5)),
        ("crop_shape", json!([49, 10])),
        ("crop_shape", json!([0, 10])),
        ("resize_shape", json!([10, 1_000_000])),
    ];
    refuses_values(CASE, "config.json", values);
    // Only DDPM has this schedule.
    let dir = copy("diffusion/environment_sigmoid");
    edit_json(&dir.path().join("config.json"), |config| config["noise_scheduler_type"] = json!("DDIM"));
    assert!(Checkpoint::open(dir.path()).unwrap_err().to_string().contains("sigmoid with DDIM"));
}

#[test]
fn features_that_do_not_fit_are_refused() {
    let refused = |name: &str, feature: Value| {
        let dir = copy(CASE);
        edit_json(&dir.path().join("config.json"), |config| config["input_features"][name] = feature);
        Checkpoint::open(dir.path()).unwrap_err().to_string()
    };
    let other_size = refused("observation.images.third", json!({"type": "VISUAL", "shape": [3, 48, 65]}));
    assert!(other_size.contains("all of one size") && other_size.contains("65"), "{other_size}");
    let no_encoder = refused("observation.images.third", json!({"type": "VISUAL", "shape": [3, 48, 64]}));
    assert!(no_encoder.contains("rgb_encoder.2"), "{no_encoder}");
    let dir = copy(CASE);
    edit_json(&dir.path().join("config.json"), |config| {
        drop(config["input_features"].as_object_mut().unwrap().remove("observation.state"))
    });
    assert!(Checkpoint::open(dir.path()).unwrap_err().to_string().contains("observation.state"));
}

#[test]
fn every_tensor_is_needed_but_the_batch_norms_counts() {
    for case in [CASE, "diffusion/pusht"] {
        let (count, unused) = superfluous_tensors(case);
        assert!(count > 100);
        assert!(unused.iter().all(|name| name.ends_with(".num_batches_tracked")), "{case}: {unused:?}");
    }
}

#[test]
fn noise_is_drawn_from_the_seed_alone_unless_it_is_given() {
    let checkpoint = Checkpoint::open(golden("diffusion/environment_sigmoid")).unwrap();
    let inputs = || Inputs::new().vector("observation.state", vec![1.0; 3]).vector("observation.environment_state", vec![2.0; 5]);
    let answer = |inputs: &Inputs| checkpoint.infer(inputs).unwrap().values;
    assert_eq!(answer(&inputs().seed(1)), answer(&inputs().seed(1)));
    assert_ne!(answer(&inputs().seed(1)), answer(&inputs().seed(2)));
    let error = checkpoint.infer(&inputs().noise([3, 2], vec![0.0; 6])).unwrap_err();
    let text = format!("{error} {:?}", std::error::Error::source(&error).map(ToString::to_string));
    assert!(text.contains("[3, 2]") && text.contains("[6, 2]"), "{text}");
}

#[test]
fn resized_images_may_have_any_size_and_others_not() {
    let image =
        |inputs: Inputs, name: &str, h: usize, w: usize| inputs.image(name, h, w, (0..h * w * 3).map(|i| (i % 251) as u8).collect());
    let resizing = Checkpoint::open(golden("diffusion/enlarged_one_step")).unwrap();
    let state = || Inputs::new().vector("observation.state", vec![1.0; 3]);
    let front = "observation.images.front";
    assert_eq!(resizing.infer(&image(state(), front, 90, 31)).unwrap().width, 4);
    let fixed = Checkpoint::open(golden("diffusion/compiled_whole_horizon")).unwrap();
    assert!(fixed.infer(&image(state(), front, 64, 64)).is_ok());
    assert!(fixed.infer(&image(state(), front, 64, 65)).unwrap_err().to_string().contains("65x64"));
}

/// Inputs that differ in all their values and in their noise.
fn observation(checkpoint: &Checkpoint, number: u8) -> Inputs {
    let info = checkpoint.info();
    let inputs = info.inputs.iter().fold(Inputs::new().seed(u64::from(number)), |inputs, feature| match feature.shape[..] {
        [3, height, width] => {
            let pixels = (0..height * width * 3).map(|i| (i as u8).wrapping_mul(7).wrapping_add(number.wrapping_mul(31))).collect();
            inputs.image(&feature.name, height, width, pixels)
        }
        _ => inputs.vector(&feature.name, (0..feature.shape[0]).map(|i| (i as f32 + f32::from(number)).sin()).collect()),
    });
    assert_eq!(inputs.image_names().count(), info.cameras.len());
    inputs
}

#[test]
fn several_at_once_are_answered_as_each_alone() {
    for case in [CASE, "diffusion/pusht", "diffusion/environment_sigmoid", "act/two_cameras_vae"] {
        let checkpoint = Checkpoint::open(golden(case)).unwrap();
        let inputs: Vec<Inputs> = (0..5).map(|number| observation(&checkpoint, number)).collect();
        let alone: Vec<_> = inputs.iter().map(|inputs| checkpoint.infer(inputs).unwrap()).collect();
        assert!(alone.windows(2).all(|pair| pair[0] != pair[1]), "{case}");
        let together: Vec<_> = checkpoint.infer_many(&inputs).into_iter().map(Result::unwrap).collect();
        assert_eq!(together, alone, "{case}");
        assert!(checkpoint.infer_many(&[]).is_empty());
    }
}

#[test]
fn one_at_fault_does_not_fail_the_others() {
    let checkpoint = Checkpoint::open(golden(CASE)).unwrap();
    let good = observation(&checkpoint, 1);
    let alone = checkpoint.infer(&good).unwrap();
    // The first is missed before the network runs, the second while it does.
    for bad in [Inputs::new(), observation(&checkpoint, 2).noise([3, 1], vec![0.0; 3])] {
        let answers = checkpoint.infer_many(&[good.clone(), bad, good.clone()]);
        let [Ok(first), Err(InferError::MissingInput { .. } | InferError::Compute(_)), Ok(last)] = &answers[..] else {
            panic!("{answers:?}")
        };
        assert_eq!([first, last], [&alone; 2]);
    }
}

#[test]
fn threads_that_ask_one_policy_get_their_own_answers() {
    let checkpoint = Arc::new(Checkpoint::open(golden(CASE)).unwrap());
    let together = Together::new(&checkpoint, 3).unwrap();
    assert!(together.is_used());
    std::thread::scope(|scope| {
        for thread in 0..7 {
            let (together, checkpoint) = (&together, &checkpoint);
            scope.spawn(move || {
                for question in 0..4 {
                    let inputs = observation(checkpoint, thread * 4 + question);
                    let (answer, _) = together.infer(inputs.clone()).unwrap();
                    assert_eq!(answer, checkpoint.infer(&inputs).unwrap(), "thread {thread}, question {question}");
                    assert!(together.infer(Inputs::new()).is_err());
                }
            });
        }
    });
    assert!(!Together::new(&Arc::new(Checkpoint::open(golden("act/two_cameras_vae")).unwrap()), 3).unwrap().is_used());
}
