//! The π policies as LeRobot runs them: π0 (Black et al. 2024, arXiv 2410.24164), π0.5 (arXiv
//! 2504.16054) and π0-FAST (arXiv 2501.09747). A PaliGemma reads the images and the prompt; for π0
//! and π0.5 a smaller Gemma of as many layers, the action expert, looks at its keys and values and
//! carries noise to a chunk of actions; for π0-FAST the language model itself writes the actions as
//! tokens.

mod config;
mod expert;
mod fast;
mod gemma;
mod paligemma;
mod tokens;

use config::{FastConfig, Kind, PiConfig, TimeInput};

use crate::config::{ConfigFile, OPTIMIZER_KEYS};
use crate::family::{Family, Plan};
use crate::nn::Built;
use crate::processor::{Prompt, StateText, Step};

/// π0
pub(crate) const PI0: Family = Family {
    name: "pi0",
    plan: |file| plan(file, Kind::Flow(TimeInput::Mixed)),
    unused_keys: &[OPTIMIZER_KEYS, TRAINING_KEYS, FLOW_TRAINING_KEYS],
    steps: &[("pi0_new_line_processor", Step::newline)],
    prompt: Prompt::Line,
};

/// π0.5
pub(crate) const PI05: Family = Family {
    name: "pi05",
    plan: |file| plan(file, Kind::Flow(TimeInput::Adaptive)),
    unused_keys: &[
        OPTIMIZER_KEYS,
        TRAINING_KEYS,
        FLOW_TRAINING_KEYS,
        &["memory_frames", "memory_stride", "memory_temporal_attention_every"],
    ],
    steps: &[(STATE_AND_ACTION.step, |source| Step::write_state(source, &STATE_AND_ACTION))],
    prompt: Prompt::State(&STATE_AND_ACTION),
};

/// π0-FAST
pub(crate) const PI0_FAST: Family = Family {
    name: "pi0_fast",
    plan: |file| plan(file, Kind::Fast(FastConfig::new(file)?)),
    unused_keys: &[OPTIMIZER_KEYS, TRAINING_KEYS, &["max_action_tokens", "use_kv_cache"]],
    steps: &[(STATE_ONLY.step, |source| Step::write_state(source, &STATE_ONLY)), ("action_tokenizer_processor", tokens::training_step)],
    prompt: Prompt::State(&STATE_ONLY),
};

/// What π0.5 reads.
const STATE_AND_ACTION: StateText = StateText { step: "pi05_prepare_state_tokenizer_processor_step", ending: ";\nAction: " };

/// What π0-FAST reads.
const STATE_ONLY: StateText = StateText { step: "pi0_fast_prepare_state_tokenizer_processor_step", ending: ";\n" };

/// The keys that all three have and that inference has no use for.
const TRAINING_KEYS: &[&str] = &[
    "use_relative_actions",
    "relative_exclude_joints",
    "empty_cameras",
    "gradient_checkpointing",
    "compile_model",
    "compile_mode",
    "optimizer_grad_clip_norm",
    "scheduler_warmup_steps",
    "scheduler_decay_steps",
    "scheduler_decay_lr",
];

/// The same of π0 and π0.5.
const FLOW_TRAINING_KEYS: &[&str] = &[
    "time_sampling_beta_alpha",
    "time_sampling_beta_beta",
    "time_sampling_scale",
    "time_sampling_offset",
    "freeze_vision_encoder",
    "train_expert_only",
];

fn plan(file: &ConfigFile, kind: Kind) -> Built<Box<dyn Plan>> {
    Ok(Box::new(PiConfig::new(file, kind)?))
}
