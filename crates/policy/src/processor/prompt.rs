//! What becomes of the instruction.

use std::fmt;

use super::step::Step;

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
    State(&'static StateText),
}

/// A text with the state in it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct StateText {
    /// The registry name of the step that writes it.
    pub step: &'static str,
    /// What follows the state.
    pub ending: &'static str,
}

/// What `steps` make of the instruction.
pub(super) fn of(steps: &[(String, Step)]) -> Prompt {
    if !steps.iter().any(|(_, step)| matches!(step, Step::Tokenize(_))) {
        return Prompt::None;
    }
    let written = steps.iter().find_map(|(_, step)| match step {
        Step::WriteState(text) => Some(Prompt::State(text)),
        Step::Newline => Some(Prompt::Line),
        _ => None,
    });
    written.unwrap_or(Prompt::Plain)
}

impl fmt::Display for Prompt {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::None => write!(f, "no tokenizer_processor"),
            Self::Plain => write!(f, "the tokens of the sentence alone"),
            Self::Line => write!(f, "the tokens of the sentence with a line feed (smolvla_new_line_processor or pi0_new_line_processor)"),
            Self::State(text) => write!(f, "the tokens of sentence and state ({})", text.step),
        }
    }
}
