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

const CASE: &str = "act/two_cameras_vae";

#[test]
fn an_answer_is_written_into_what_is_there() {
    use std::os::unix::fs::PermissionsExt as _;
    let folder = tempfile::tempdir().unwrap();
    let at = |name: &str| folder.path().join(name);
    let checkpoint = Checkpoint::open(golden(CASE)).unwrap();
    let inputs = golden(CASE).join("inputs.safetensors");
    let write = |out: &std::path::Path| checkpoint.infer_file(&inputs, out, 1).map(drop);
    std::fs::write(at("fresh"), "").unwrap();
    write(&at("out")).unwrap();
    let mode = |name: &str| std::fs::metadata(at(name)).unwrap().permissions().mode();
    assert_eq!(mode("out"), mode("fresh"), "the umask holds");
    let answer = std::fs::read(at("out")).unwrap();

    std::os::unix::fs::symlink("fresh", at("link")).unwrap();
    write(&at("link")).unwrap();
    assert!(std::fs::symlink_metadata(at("link")).unwrap().is_symlink());
    assert_eq!(std::fs::read(at("fresh")).unwrap(), answer);

    assert!(std::process::Command::new("mkfifo").arg(at("pipe")).status().unwrap().success());
    let read = std::thread::spawn({
        let pipe = at("pipe");
        move || std::fs::read(pipe).unwrap()
    });
    write(&at("pipe")).unwrap();
    assert_eq!(read.join().unwrap(), answer);

    write(std::path::Path::new("/dev/null")).unwrap();
    assert!(!std::fs::metadata("/dev/null").unwrap().is_file());

    let _socket = std::os::unix::net::UnixListener::bind(at("socket")).unwrap();
    for name in ["socket", ""] {
        let error = write(&at(name)).unwrap_err().to_string();
        assert!(error.contains("name another path"), "{error}");
    }
}

#[test]
fn an_answer_never_replaces_what_it_was_made_of() {
    let dir = copy("act/adapter");
    let checkpoint = Checkpoint::open(dir.path()).unwrap();
    let inputs = dir.path().join("inputs.safetensors");
    let other = tempfile::tempdir().unwrap();
    let link = other.path().join("link");
    std::os::unix::fs::symlink(dir.path().join("config.json"), &link).unwrap();
    let file = |name: &str| dir.path().join(name);
    for out in [file("config.json"), file("adapter_model.safetensors"), file("base/model.safetensors"), inputs.clone(), link] {
        let before = std::fs::read(&out).unwrap();
        let error = checkpoint.infer_file(&inputs, &out, 1).unwrap_err();
        assert!(matches!(error, InferError::Write { .. }) && error.to_string().contains("another file"), "{error}");
        assert_eq!(std::fs::read(&out).unwrap(), before);
    }
}
