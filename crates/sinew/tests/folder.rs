//! A policy from a folder, in three lines.

#![allow(clippy::unwrap_used, reason = "what fails here fails the test")]

use sinew::{Policy, PretrainedError};

#[test]
fn a_folder_becomes_a_policy_that_answers() {
    let folder = "../policy/tests/golden/act/two_cameras_vae";
    let policy = Policy::from_pretrained(folder).unwrap();
    let actions = policy.infer(&policy.checkpoint().blank_inputs()).unwrap();
    assert_eq!((actions.rows, actions.width), (policy.info().chunk_size, 6));
}

#[test]
fn what_is_no_policy_is_told_apart() {
    assert!(matches!(Policy::from_pretrained(""), Err(PretrainedError::Name(_))));
    assert!(matches!(Policy::from_pretrained("./nothing_there"), Err(PretrainedError::Hub(_))));
    let empty = tempfile::tempdir().unwrap();
    assert!(matches!(Policy::from_pretrained(empty.path().to_str().unwrap()), Err(PretrainedError::Checkpoint(_))));
}
