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

pub(crate) use config::{plan_fast, plan_pi0, plan_pi05};
