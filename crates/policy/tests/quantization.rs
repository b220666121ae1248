//! Weights in 8 bits.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "what fails here fails the test")]

mod common;

use std::path::{Path, PathBuf};

use common::{golden, max_delta};
use sinew_policy::{Checkpoint, CheckpointError, Device, Inputs, OpenOptions, Quantization};

/// The one checkpoint of the repository whose layers are large enough.
fn demonstration() -> PathBuf {
    Path::new(&std::env::var("CARGO_MANIFEST_DIR").unwrap()).join("../../policies/act_so101_pick_place")
}

fn quantized(dir: impl AsRef<Path>, how: Quantization) -> Checkpoint {
    OpenOptions::new().quantize(Some(how)).open(dir).unwrap()
}

/// An observation that is not blank.
fn inputs() -> Inputs {
    let image = |step: usize| (0..96 * 128 * 3).map(|i| (i / 3 % 128 * step + i / 384 + i % 3 * 40) as u8).collect();
    Inputs::new()
        .vector("observation.state", vec![10.0, -60.0, 50.0, 40.0, -5.0, 30.0])
        .image("observation.images.front", 96, 128, image(1))
        .image("observation.images.wrist", 96, 128, image(2))
}

#[test]
fn quantized_weights_take_less_memory_and_cost_little_accuracy() {
    let full = Checkpoint::open(demonstration()).unwrap();
    // All but the convolutions and small layers: the feed-forward ones of four layers, and the projection of
    // what the cameras see; each of 65,536 weights, which take 2 bytes in the file.
    assert_eq!((full.info().dtype.as_str(), full.info().quantization), ("F16+F32", None));
    // By `Int8` each output, of which the layers have 512 or 128, takes 8 bytes more than its weights.
    let outputs = 4 * (512 + 128) + 128;
    let theirs = full.infer(&inputs()).unwrap();
    for (how, saved) in [(Quantization::Q8, 9 * 65_536 * 7 / 8), (Quantization::Int8, 9 * 65_536 - outputs * 8)] {
        let small = quantized(demonstration(), how);
        assert_eq!((full.info().parameters, small.info().quantization), (small.info().parameters, Some(how)));
        assert_eq!(full.info().memory_bytes - small.info().memory_bytes, saved, "{how}");

        let loss = small.quantization_loss(&inputs()).unwrap().unwrap();
        println!("{how}: {loss}");
        assert!(loss.share() > 0.0 && loss.share() < 0.02, "{how}: {loss}");
        let ours = small.infer(&inputs()).unwrap();
        assert_eq!(loss.max_delta, max_delta(&ours.values, &theirs.values));
        assert!(loss.rms_delta < loss.max_delta);
    }
    assert_eq!(full.quantization_loss(&inputs()).unwrap(), None);
}

#[test]
fn small_layers_stay_as_they_are() {
    for case in ["act/two_cameras_vae", "smolvla/cross_attention", "pi0/two_cameras"] {
        let small = quantized(golden(case), Quantization::Q8);
        let loss = small.quantization_loss(&small.blank_inputs()).unwrap().unwrap();
        assert_eq!((loss.max_delta, loss.share()), (0.0, 0.0), "{case}");
        assert_eq!(small.info().memory_bytes, Checkpoint::open(golden(case)).unwrap().info().memory_bytes, "{case}");
    }
}

/// Only the kernels can; a build without the device says so first.
#[test]
fn what_cannot_be_quantized_is_refused() {
    let open = |device| OpenOptions::new().quantize(Some(Quantization::Q8)).device(device).open(demonstration());
    assert!(matches!(open(Device::Cuda(0)), Err(CheckpointError::Device { .. } | CheckpointError::Quantize { .. })));
    // A process chooses its kernels once.
    if std::env::var("SINEW_SIMD").as_deref() == Ok("candle") {
        assert!(matches!(open(Device::Cpu), Err(CheckpointError::Quantize { .. })));
    } else {
        let run = std::process::Command::new(std::env::current_exe().unwrap())
            .args(["--exact", "what_cannot_be_quantized_is_refused"])
            .env("SINEW_SIMD", "candle")
            .output()
            .unwrap();
        let said = String::from_utf8_lossy(&run.stdout);
        assert!(run.status.success() && said.contains("1 passed"), "{said}");
    }
}
