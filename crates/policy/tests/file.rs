//! A loaded policy and the file of its weights.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "what fails here fails the test")]

mod common;

use std::error::Error as _;

use common::{copy, golden};
use sinew_policy::{Checkpoint, CheckpointError, Device, InferError, Inputs, OpenOptions};

const MODEL: &str = "model.safetensors";

/// What is mapped counts as the process's memory, is locked with it for realtime, and ends the process
/// when its disk is gone.
#[test]
#[cfg(target_os = "linux")]
fn no_policy_maps_its_file() {
    for case in common::cases() {
        let checkpoint = Checkpoint::open(golden(&case)).unwrap();
        checkpoint.infer(&checkpoint.blank_inputs()).unwrap();
        let maps = std::fs::read_to_string("/proc/self/maps").unwrap();
        let mapped: Vec<&str> = maps.lines().filter(|line| line.ends_with(".safetensors")).collect();
        assert_eq!(mapped, [""; 0], "{case}");
    }
}

fn cut(dir: &tempfile::TempDir, len: u64) {
    std::fs::OpenOptions::new().write(true).open(dir.path().join(MODEL)).unwrap().set_len(len).unwrap();
}

/// Rows of tables of words stay in the file.
#[test]
fn a_file_that_is_cut_short_below_a_running_policy_is_an_error() {
    for case in ["pi05/two_cameras", "smolvla/cross_attention", "pi0_fast/two_cameras"] {
        let dir = copy(case);
        let inputs = Inputs::read(&golden(case).join("inputs.safetensors")).unwrap();
        let checkpoint = Checkpoint::open(dir.path()).unwrap();
        let before = checkpoint.infer(&inputs).unwrap();
        let whole = std::fs::metadata(dir.path().join(MODEL)).unwrap().len();
        // Behind the header, so that what is read again is gone.
        cut(&dir, 4096);
        let error = checkpoint.infer(&inputs).unwrap_err();
        let InferError::Compute(compute) = &error else { panic!("{case}: {error}") };
        let text = format!("{compute} {:?}", compute.source());
        assert!(text.contains("the file ends early") && text.contains(&whole.to_string()), "{case}: {text}");
        // What is in memory is whole.
        std::fs::copy(golden(case).join(MODEL), dir.path().join("again")).unwrap();
        std::fs::rename(dir.path().join("again"), dir.path().join(MODEL)).unwrap();
        assert_eq!(Checkpoint::open(dir.path()).unwrap().infer(&inputs).unwrap(), before, "{case}");
    }
}

/// A policy without such tables has no use for its file once it is loaded.
#[test]
fn a_file_that_is_cut_short_before_it_is_read_is_an_error() {
    let dir = copy("act/two_cameras_vae");
    let inputs = Inputs::read(&dir.path().join("inputs.safetensors")).unwrap();
    let [loaded, opened] = [0, 1].map(|_| Checkpoint::open(dir.path()).unwrap());
    let before = loaded.infer(&inputs).unwrap();
    cut(&dir, 100);
    assert_eq!(loaded.infer(&inputs).unwrap(), before);
    let error = opened.load().unwrap_err();
    assert!(matches!(error, CheckpointError::Truncated { found: 100, .. }), "{error}");
}

#[cfg(not(feature = "cuda"))]
#[test]
fn a_device_that_this_build_has_not_is_an_error() {
    let error = OpenOptions::new().device(Device::Cuda(0)).open(golden("act/no_camera")).unwrap_err();
    assert!(matches!(error, CheckpointError::Device { device: Device::Cuda(0), .. }) && error.to_string().contains("cuda:0"), "{error}");
}
