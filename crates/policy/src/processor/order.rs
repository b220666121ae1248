//! Which orders of steps make sense. LeRobot runs any, some of them to no or to the wrong effect.

use std::path::Path;

use super::step::Step;
use super::text;
use crate::CheckpointError;

type Steps = [(String, Step)];
type Kind = fn(&Step) -> bool;

/// Pairs of steps of which the first, where there are both, must come before the second. A step paired
/// with itself must not come twice.
const ORDER: [(Kind, Kind); 13] = [
    (renames, uses_features),
    (batches, writes_state),
    (|step| matches!(step, Step::Relative(_)), normalizes),
    (normalizes, writes_state),
    (writes_state, tokenizes),
    (|step| matches!(step, Step::Newline), tokenizes),
    (unnormalizes, makes_absolute),
    (normalizes, normalizes),
    (tokenizes, tokenizes),
    (batches, batches),
    (writes_state, writes_state),
    (unnormalizes, unnormalizes),
    (makes_absolute, makes_absolute),
];

fn renames(step: &Step) -> bool {
    matches!(step, Step::Rename(map) if !map.is_empty())
}

fn batches(step: &Step) -> bool {
    matches!(step, Step::ToBatch)
}

fn writes_state(step: &Step) -> bool {
    matches!(step, Step::WriteState(_))
}

fn unnormalizes(step: &Step) -> bool {
    matches!(step, Step::Unnormalize(_))
}

fn makes_absolute(step: &Step) -> bool {
    matches!(step, Step::Absolute(_))
}

fn normalizes(step: &Step) -> bool {
    matches!(step, Step::Normalize(_))
}

fn tokenizes(step: &Step) -> bool {
    matches!(step, Step::Tokenize(_))
}

fn uses_features(step: &Step) -> bool {
    matches!(step, Step::Normalize(_) | Step::Unnormalize(_) | Step::Relative(_) | Step::WriteState(_))
}

/// # Errors
/// When two steps stand the wrong way round or twice, or the preprocessor `before` makes actions
/// relative that no step makes absolute again.
pub(crate) fn check(path: &Path, steps: &Steps, before: Option<&Steps>) -> Result<(), CheckpointError> {
    for (second, (late_name, late)) in steps.iter().enumerate() {
        for (first, (early_name, early)) in steps.iter().enumerate().take(second) {
            if ORDER.iter().any(|(before, after)| after(early) && before(late)) {
                let words = |index: usize, name: &str| format!("step {index} ({name})");
                return Err(CheckpointError::StepOrder {
                    path: path.to_owned(),
                    first: words(first, early_name),
                    second: words(second, late_name),
                });
            }
        }
    }
    let is_relative = before.unwrap_or_default().iter().any(|(_, step)| matches!(step, Step::Relative(relative) if relative.enabled));
    if is_relative && !steps.iter().any(|(_, step)| matches!(step, Step::Absolute(_))) {
        let expected = "an absolute_actions_processor among them, as the preprocessor's actions are relative".into();
        let found = steps.iter().map(|(name, _)| name.as_str()).collect::<Vec<_>>().join(", ");
        return Err(CheckpointError::Config { path: path.to_owned(), key: "steps".into(), found, expected });
    }
    Ok(())
}

/// What a preprocessor makes of the instruction, as a family's models were trained with it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Prompt {
    /// Nothing, or nothing that the model reads.
    None,
    /// Tokens of the bare sentence.
    Plain,
    /// Tokens of the sentence and a line feed.
    Line,
    /// Tokens of the sentence, the state, and what follows it.
    State(&'static str),
}

pub(crate) fn prompt(steps: &Steps) -> Prompt {
    if !steps.iter().any(|(_, step)| tokenizes(step)) {
        return Prompt::None;
    }
    let written = steps.iter().find_map(|(_, step)| match step {
        Step::WriteState(ending) => Some(Prompt::State(ending)),
        Step::Newline => Some(Prompt::Line),
        _ => None,
    });
    written.unwrap_or(Prompt::Plain)
}

impl std::fmt::Display for Prompt {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::None => write!(f, "no tokenizer_processor"),
            Self::Plain => write!(f, "the tokens of the sentence alone"),
            Self::Line => write!(f, "the tokens of the sentence with a line feed (smolvla_new_line_processor or pi0_new_line_processor)"),
            Self::State(text::STATE_AND_ACTION) => {
                write!(f, "the tokens of sentence and state (pi05_prepare_state_tokenizer_processor_step)")
            }
            Self::State(_) => write!(f, "the tokens of sentence and state (pi0_fast_prepare_state_tokenizer_processor_step)"),
        }
    }
}
