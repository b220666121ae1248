//! Many inferences on the threads of one pool.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "what fails here fails the test")]

mod common;

use std::sync::mpsc::channel;
use std::time::Duration;

use common::golden;
use sinew_policy::{Checkpoint, Inputs};

/// While a thread of a pool waits for the others, it takes on what else there is to do, also another
/// inference of the same policy. So nothing may be locked meanwhile that it needs: not the model while it is
/// loaded, nor what convolutions make when images first come.
#[test]
fn inferences_of_one_policy_share_a_pool() {
    let (done, is_done) = channel();
    let run = move || {
        let pool = rayon::ThreadPoolBuilder::new().num_threads(3).build().unwrap();
        for case in ["act/two_cameras_vae", "diffusion/resize_and_crop", "smolvla/cross_attention", "pi05/two_cameras"] {
            let inputs = Inputs::read(&golden(case).join("inputs.safetensors")).unwrap();
            let expected = Checkpoint::open(golden(case)).unwrap().infer(&inputs).unwrap();
            for _ in 0..20 {
                let checkpoint = Checkpoint::open(golden(case)).unwrap();
                let one = || {
                    let answer = checkpoint.infer(&inputs).unwrap();
                    assert!(answer.values.iter().zip(&expected.values).all(|(a, b)| a.to_bits() == b.to_bits()), "{case}");
                };
                pool.scope(|scope| (0..12).for_each(|_| scope.spawn(|_| one())));
            }
        }
        done.send(()).unwrap();
    };
    let running = std::thread::spawn(run);
    if is_done.recv_timeout(Duration::from_secs(300)).is_err() {
        assert!(running.is_finished(), "inferences wait for each other");
        running.join().unwrap();
    }
}

/// Candle's own threads spin beside a control loop, also in a program that knows nothing of them.
#[test]
#[cfg(target_os = "linux")]
fn candle_starts_no_threads_of_its_own() {
    const THREADS: &str = "CANDLE_NUM_THREADS";
    if std::env::var(THREADS).as_deref() != Ok("3") {
        // As many as there are processors, elsewhere.
        let run = std::process::Command::new(std::env::current_exe().unwrap())
            .args(["--exact", "candle_starts_no_threads_of_its_own"])
            .env(THREADS, "3")
            .env_remove("SINEW_SIMD")
            .output()
            .unwrap();
        let said = String::from_utf8_lossy(&run.stdout);
        assert!(run.status.success() && said.contains("1 passed"), "{said}");
        return;
    }
    // Long enough for candle to share them out: more than 65,536 values in the rows of an encoder.
    let dir = common::copy("act/two_cameras_vae");
    common::edit_json(&dir.path().join("config.json"), |config| {
        config["input_features"]["observation.images.front"]["shape"] = serde_json::json!([3, 2048, 2048]);
    });
    let large = Checkpoint::open(dir.path()).unwrap();
    large.infer(&large.blank_inputs()).unwrap();
    for case in common::cases() {
        let checkpoint = Checkpoint::open(golden(&case)).unwrap();
        checkpoint.infer(&checkpoint.blank_inputs()).unwrap();
    }
    let names = std::fs::read_dir("/proc/self/task").unwrap();
    let names = names.map(|task| std::fs::read_to_string(task.unwrap().path().join("comm")).unwrap_or_default());
    let candles: Vec<String> = names.filter(|name| name.starts_with("candle-bp")).collect();
    assert_eq!(candles, [""; 0]);
}
