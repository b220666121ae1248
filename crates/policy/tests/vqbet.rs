//! VQ-BeT: what makes no network is refused, and codes are drawn from the seed alone.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "what fails here fails the test")]

mod common;

use common::{copy, edit_json, golden, refuses_values, superfluous_tensors};
use serde_json::json;
use sinew_policy::{Checkpoint, Inputs};

const CASE: &str = "vqbet/codes_at_once";

#[test]
fn values_that_make_no_network_are_refused_by_name() {
    let values = [
        ("n_obs_steps", json!(0)),
        ("n_obs_steps", json!(100_000)),
        ("action_chunk_size", json!(0)),
        ("n_action_pred_token", json!(0)),
        ("gpt_block_size", json!(10)),
        ("gpt_hidden_dim", json!(17)),
        ("gpt_n_head", json!(0)),
        ("bet_softmax_temperature", json!(0.0)),
        ("vision_backbone", json!("vgg")),
        ("crop_shape", json!([61, 10])),
    ];
    refuses_values(CASE, "config.json", values);
    let dir = copy(CASE);
    edit_json(&dir.path().join("config.json"), |config| {
        config["input_features"]["observation.images.second"] = json!({"type": "VISUAL", "shape": [3, 60, 64]});
    });
    assert!(Checkpoint::open(dir.path()).unwrap_err().to_string().contains("one VISUAL"));
}

#[test]
fn every_tensor_is_needed_but_those_of_training() {
    for case in [CASE, "vqbet/codes_in_turn"] {
        let (_, mut unused) = superfluous_tensors(case);
        unused.retain(|name| !name.ends_with(".num_batches_tracked"));
        // Two masks, three tensors of each of two codebooks, the action encoder's three layers, two flags
        // and the indices.
        assert_eq!(unused.len(), 2 + 6 + 6 + 2 + 1, "{unused:?}");
    }
}

#[test]
fn codes_are_drawn_from_the_seed_alone_unless_their_numbers_are_given() {
    let dir = golden("vqbet/codes_in_turn");
    let checkpoint = Checkpoint::open(&dir).unwrap();
    let inputs = || {
        let image = (0..64 * 48 * 3).map(|i| (i % 251) as u8).collect();
        Inputs::new().vector("observation.state", vec![1.0; 2]).image("observation.images.camera1", 64, 48, image)
    };
    let answer = |inputs: &Inputs| checkpoint.infer(inputs).unwrap().values;
    assert_eq!(answer(&inputs().seed(1)), answer(&inputs().seed(1)));
    let different = (0..50).map(|seed| answer(&inputs().seed(seed))).fold(Vec::new(), |mut all, answer| {
        if !all.contains(&answer) {
            all.push(answer);
        }
        all
    });
    assert!((4..=25).contains(&different.len()), "{} of the 25 pairs of codes", different.len());
    assert!(checkpoint.infer(&inputs().noise([2, 1], vec![0.5, 1.0])).is_err());
    assert!(checkpoint.infer(&inputs().noise([1, 2], vec![0.5, 0.5])).is_err());
}
