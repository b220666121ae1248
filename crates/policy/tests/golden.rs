//! This crate answers what LeRobot answers.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "what fails here fails the test")]

mod common;

use std::sync::Arc;

use common::{cases, copy, edit_json, golden, max_delta, read_bytes, read_floats};
use sinew_policy::{ActionSelector, Actions, Checkpoint, Chunk, Guidance, Inputs, TemporalEnsembler};

/// How far an answer may be from LeRobot's, as a part of the range that the answer spans: with `f32`
/// weights, and with `bf16` weights, with which LeRobot also computes in `bf16`.
const TOLERANCE: f32 = 1e-4;
const BF16_TOLERANCE: f32 = 2e-2;

#[test]
fn answers_agree_with_lerobot() {
    for case in cases() {
        let dir = golden(&case);
        let folder = tempfile::tempdir().unwrap();
        let out = folder.path().join("out.safetensors");
        let checkpoint = Checkpoint::open(&dir).unwrap_or_else(|error| panic!("{case}: {error}"));
        let report = checkpoint.infer_file(&dir.join("inputs.safetensors"), &out, 1).unwrap_or_else(|error| panic!("{case}: {error}"));
        let (shape, ours) = read_floats(&out, "action");
        let (expected_shape, theirs) = read_floats(&dir.join("expected.safetensors"), "action");
        assert_eq!(shape, expected_shape, "{case}");
        assert_eq!(shape, [report.rows, report.width], "{case}");
        assert!(report.unused_inputs.is_empty(), "{case}: {report:?}");
        let range = theirs.iter().copied().fold(f32::MIN, f32::max) - theirs.iter().copied().fold(f32::MAX, f32::min);
        let delta = max_delta(&ours, &theirs) / range;
        let dtype = &checkpoint.info().dtype;
        println!("{case}: max |delta| {delta:.2e} of a range of {range:.3} ({dtype}, {:.1} ms)", report.timing.quantile_milliseconds(0.5));
        let tolerance = if dtype.contains("BF16") { BF16_TOLERANCE } else { TOLERANCE };
        assert!(delta < tolerance, "{case}: {delta}");
    }
}

/// The cases with a `guided.safetensors` hold a chunk that continues `previous`, too: pulled towards it,
/// made relative to another state, or given its first rows.
#[test]
fn chunks_continue_others_as_in_lerobot() {
    let guided = |case: &String| golden(case).join("guided.safetensors").exists();
    let cases: Vec<String> = cases().into_iter().filter(guided).collect();
    for kind in ["smolvla/", "pi0/guided", "pi05/guided", "pi05/relative_guided", "pi05/trained"] {
        assert!(cases.iter().any(|case| case.starts_with(kind)), "{kind}: {cases:?}");
    }
    for case in cases {
        let dir = golden(&case);
        let file = dir.join("guided.safetensors");
        let checkpoint = Checkpoint::open(&dir).unwrap();
        let (shape, values) = read_floats(&file, "previous");
        let actions = Actions { rows: shape[0], width: shape[1], values };
        // As the postprocessor gave it where actions are relative, as the model gave it elsewhere.
        let previous = Chunk { normalized: actions.clone(), actions };
        let guidance = Guidance { previous, inference_delay: 2, settings: checkpoint.info().guidance.unwrap() };
        let chunk = checkpoint.infer_chunk(&Inputs::read(&dir.join("inputs.safetensors")).unwrap(), Some(&guidance)).unwrap();
        for (ours, what) in [(&chunk.normalized.values, "normalized"), (&chunk.actions.values, "action")] {
            let (_, theirs) = read_floats(&file, what);
            let range = theirs.iter().copied().fold(f32::MIN, f32::max) - theirs.iter().copied().fold(f32::MAX, f32::min);
            let delta = max_delta(ours, &theirs) / range;
            println!("{case} guided, {what}: max |delta| {delta:.2e} of a range of {range:.3}");
            assert!(delta < TOLERANCE, "{case}, {what}: {delta}");
        }
        let (_, free) = read_floats(&dir.join("expected.safetensors"), "action");
        assert!(max_delta(&free, &chunk.actions.values) > 0.1, "{case}: guidance hardly matters");
    }
}

/// The same with every instruction set of this CPU, and with candle's own operations. Each needs a
/// process: what a process uses is chosen once. Sets that this CPU lacks fall back to the best.
#[test]
fn answers_agree_with_every_instruction_set_and_without_kernels() {
    for set in ["avx2", "portable", "candle"] {
        let program = std::env::current_exe().unwrap();
        let run =
            std::process::Command::new(program).args(["--exact", "answers_agree_with_lerobot"]).env("SINEW_SIMD", set).output().unwrap();
        let said = String::from_utf8_lossy(&run.stdout);
        assert!(run.status.success() && said.contains("1 passed"), "{set}: {said}{}", String::from_utf8_lossy(&run.stderr));
    }
}

#[test]
fn the_ensembler_agrees_with_lerobots() {
    let file = golden("parts/ensemble.safetensors");
    for label in ["old", "even", "new"] {
        let read = |what: &str| read_floats(&file, &format!("{label}.{what}"));
        let (shape, chunks) = read("chunks");
        let (_, expected) = read("rows");
        let mut ensembler = TemporalEnsembler::new(f64::from(read("coeff").1[0]), shape[1], shape[2]);
        let chunks = chunks.chunks_exact(shape[1] * shape[2]);
        let rows: Vec<f32> = (100..).zip(chunks).flat_map(|(tick, chunk)| ensembler.update(tick, chunk)[..shape[2]].to_vec()).collect();
        let delta = max_delta(&rows, &expected);
        assert!(delta < 1e-6, "{label}: {delta}");
    }
}

/// Workers of an evaluation share one checkpoint; whatever runs beside them, they get the same bytes.
#[test]
fn the_same_inputs_give_the_same_bytes_on_every_thread() {
    let dir = golden("act/two_cameras_vae");
    let checkpoint = Arc::new(Checkpoint::open(&dir).unwrap());
    let inputs = Inputs::read(&dir.join("inputs.safetensors")).unwrap();
    let first = checkpoint.infer(&inputs).unwrap();
    let worker = || {
        let (checkpoint, inputs) = (Arc::clone(&checkpoint), inputs.clone());
        std::thread::spawn(move || (0..5).map(|_| checkpoint.infer(&inputs).unwrap()).collect::<Vec<_>>())
    };
    for worker in [worker(), worker(), worker(), worker()] {
        for answer in worker.join().unwrap() {
            assert!(answer.values.iter().zip(&first.values).all(|(a, b)| a.to_bits() == b.to_bits()));
        }
    }
}

#[test]
fn info_tells_what_the_checkpoint_is() {
    let checkpoint = Checkpoint::open(golden("act/two_cameras_vae")).unwrap();
    let info = checkpoint.info();
    assert_eq!((info.family.as_str(), info.chunk_size, info.n_action_steps), ("act", 20, 20));
    assert_eq!(
        info.cameras.iter().map(|c| (c.name.as_str(), c.width, c.height)).collect::<Vec<_>>(),
        [("wrist", 128, 96), ("front", 128, 96)]
    );
    assert_eq!(info.inputs[0].normalization, "MEAN_STD");
    assert_eq!(info.preprocessor, ["rename_observations_processor", "to_batch_processor", "device_processor", "normalizer_processor"]);
    assert_eq!(info.licence.as_deref(), Some("apache-2.0"));
    assert_eq!(info.dtype, "F32");
    // The file also holds what only training uses.
    assert!(info.parameters > 10_000 && info.parameters * 4 < info.file_bytes, "{info:?}");
    assert_eq!(Checkpoint::open(golden("act/resnet50_dilated_f16")).unwrap().info().dtype, "F16");
    assert_eq!(Checkpoint::open(golden("act/no_camera")).unwrap().info().temporal_ensemble_coeff, Some(0.01));
    assert_eq!(serde_json::to_value(info).unwrap()["inputs"][0]["type"], "STATE");
}

#[test]
fn blank_inputs_are_taken() {
    for case in cases() {
        let checkpoint = Checkpoint::open(golden(&case)).unwrap();
        let actions = checkpoint.infer(&checkpoint.blank_inputs()).unwrap();
        assert_eq!(actions.rows, checkpoint.info().chunk_size, "{case}");
    }
}

/// 15 ticks of a policy that looks at three observations and acts for eight ticks.
#[test]
fn single_actions_are_selected_as_by_lerobot() {
    let file = golden("parts/selected.safetensors");
    let read = |name: &str| read_floats(&file, name);
    let ((shape, states), (noise_shape, noise), (_, rows)) = (read("states"), read("noise"), read("rows"));
    let colours = read_bytes(&file, "colours");
    let checkpoint = Arc::new(Checkpoint::open(golden("diffusion/compiled_whole_horizon")).unwrap());
    let mut policy = ActionSelector::new(Arc::clone(&checkpoint));
    // What came before a reset plays no part.
    policy.select_action(&checkpoint.blank_inputs()).unwrap();
    policy.reset();
    let mut ours = Vec::new();
    for (state, colour) in states.chunks(shape[1]).zip(colours.chunks(3)) {
        let inputs =
            Inputs::new().vector("observation.state", state.to_vec()).image("observation.images.front", 64, 64, colour.repeat(64 * 64));
        ours.extend(policy.select_action(&inputs.noise([noise_shape[0], noise_shape[1]], noise.clone())).unwrap());
    }
    let range = rows.iter().copied().fold(f32::MIN, f32::max) - rows.iter().copied().fold(f32::MAX, f32::min);
    let delta = max_delta(&ours, &rows) / range;
    println!("max |delta| {delta:.2e} of a range of {range:.3}");
    assert!(delta < TOLERANCE, "{delta}");
}

/// As in LeRobot, which draws on; a policy that begins anew draws the same.
#[test]
fn episodes_have_noise_of_their_own() {
    for case in ["diffusion/compiled_whole_horizon", "smolvla/cross_attention"] {
        let checkpoint = Arc::new(Checkpoint::open(golden(case)).unwrap());
        let inputs = checkpoint.blank_inputs();
        let episodes = || {
            let mut policy = ActionSelector::new(Arc::clone(&checkpoint));
            [0, 1, 2].map(|_| {
                policy.reset();
                policy.select_action(&inputs).unwrap()
            })
        };
        let [a, b, c] = episodes();
        assert!(a != b && b != c && a != c, "{case}: {a:?}");
        assert_eq!(episodes(), [a, b, c], "{case}");
    }
}

/// 30 ticks; inputs that are refused count for nothing.
#[test]
fn an_ensemble_is_selected_from_as_lerobot_does() {
    let file = golden("parts/ensembled.safetensors");
    let ((_, states), (_, rows)) = (read_floats(&file, "states"), read_floats(&file, "rows"));
    let colours = read_bytes(&file, "colours");
    let dir = copy("act/two_cameras_vae");
    edit_json(&dir.path().join("config.json"), |config| {
        config["temporal_ensemble_coeff"] = 0.01.into();
        config["n_action_steps"] = 1.into();
    });
    let mut policy = ActionSelector::new(Arc::new(Checkpoint::open(dir.path()).unwrap()));
    let mut ours = Vec::new();
    for (state, colours) in states.chunks(6).zip(colours.chunks(6)) {
        let image = |colour: &[u8]| colour.repeat(96 * 128);
        let inputs = Inputs::new()
            .vector("observation.state", state.to_vec())
            .image("observation.images.front", 96, 128, image(&colours[..3]))
            .image("observation.images.wrist", 96, 128, image(&colours[3..]));
        assert!(policy.select_action(&inputs.clone().vector("observation.state", vec![f32::NAN; 6])).is_err());
        ours.extend(policy.select_action(&inputs).unwrap());
    }
    let delta = max_delta(&ours, &rows);
    assert!(delta < 1e-3, "{delta}");
}
