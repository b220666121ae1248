//! The steps that make the prompt and its tokens.

use std::fmt::Write as _;

use serde::Deserialize;
use serde_json::Value;

use super::tokenizer::{self, Tokenizer};
use super::{Batch, Source, Tokens};
use crate::CheckpointError;
use crate::features::STATE;
use crate::info::TokenizerInfo;

/// Longer prompts are of no use to any model, and are allocated before they are read.
const MAX_TOKENS: usize = 1 << 16;

/// Ends the instruction with a line feed.
pub(crate) fn end_with_newline(batch: &mut Batch) {
    if !batch.task.ends_with('\n') {
        batch.task.push('\n');
    }
}

/// Makes a prompt of the instruction and the normalised state: `ending` is what follows the state.
pub(crate) fn write_state(batch: &mut Batch, ending: &str) {
    // What Python's str.strip takes for white space.
    let is_space = |c: char| c.is_whitespace() || ('\u{1c}'..='\u{1f}').contains(&c);
    let task = batch.task.trim_matches(is_space).replace(['_', '\n'], " ");
    let mut prompt = format!("Task: {task}, State: ");
    let state = batch.features.get(STATE).map(|array| array.values.as_slice()).unwrap_or_default();
    for (i, value) in state.iter().enumerate() {
        let space = if i == 0 { "" } else { " " };
        // Writing to a String cannot fail.
        let _ = write!(prompt, "{space}{}", level(*value));
    }
    prompt.push_str(ending);
    batch.task = prompt;
}

/// Which of 256 equal parts of -1..1 the value falls into: 255 above, -1 below.
fn level(value: f32) -> i32 {
    // The edges are exact in an f64, as are the comparisons. NaN sorts after all numbers.
    let edges = |i: i32| -1.0 + f64::from(i) / 128.0;
    (0..256).filter(|i| value.is_nan() || edges(*i) <= f64::from(value)).count() as i32 - 1
}

/// A `tokenizer_processor`.
#[derive(Clone, Debug)]
pub(crate) struct Tokenize {
    /// What the checkpoint calls the tokenizer.
    name: String,
    tokenizer: Tokenizer,
    /// To which length, on which side.
    padding: Option<(usize, Side)>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum Side {
    Left,
    Right,
}

#[derive(Deserialize)]
#[serde(default, deny_unknown_fields)]
struct TokenizeJson {
    max_length: usize,
    task_key: String,
    padding_side: Side,
    padding: Value,
    truncation: bool,
    tokenizer_name: Option<String>,
}

impl Default for TokenizeJson {
    fn default() -> Self {
        Self {
            max_length: 512,
            task_key: "task".into(),
            padding_side: Side::Right,
            padding: "max_length".into(),
            truncation: true,
            tokenizer_name: None,
        }
    }
}

impl Tokenize {
    pub(crate) fn open(source: &Source) -> Result<Self, CheckpointError> {
        let json: TokenizeJson = source.parse()?;
        check_task_key(source, &json.task_key)?;
        if !(1..=MAX_TOKENS).contains(&json.max_length) {
            return Err(source.fault("max_length", json.max_length.to_string(), "1 to 65536"));
        }
        let pads = match &json.padding {
            Value::String(padding) if padding == "max_length" => true,
            // One sentence is the longest of its batch.
            Value::String(padding) if padding == "longest" || padding == "do_not_pad" => false,
            Value::Bool(_) => false,
            other => return Err(source.fault("padding", other.to_string(), "max_length, longest or do_not_pad")),
        };
        let Some(name) = &json.tokenizer_name else {
            return Err(source.fault("tokenizer_name", "not there".into(), "the name of a tokenizer"));
        };
        let truncation = json.truncation.then_some(json.max_length);
        let tokenizer = match source.artifact("tokenizer_name")? {
            Some(folder) => Tokenizer::inside(source.files, folder, truncation, pads)?,
            None => Tokenizer::open(source.files, name, truncation, pads)?,
        };
        Ok(Self { name: name.clone(), tokenizer, padding: pads.then_some((json.max_length, json.padding_side)) })
    }

    pub(crate) fn info(&self) -> TokenizerInfo {
        TokenizerInfo { name: self.name.clone(), file: self.tokenizer.path().to_owned() }
    }

    pub(crate) fn run(&self, batch: &mut Batch) -> Result<(), tokenizer::Error> {
        let mut ids = self.tokenizer.encode(&batch.task)?;
        let mut mask = vec![true; ids.len()];
        if let Some((length, side)) = self.padding {
            let missing = length.saturating_sub(ids.len());
            let at = if side == Side::Left { 0 } else { ids.len() };
            ids.splice(at..at, std::iter::repeat_n(self.tokenizer.padding_id(), missing));
            mask.splice(at..at, std::iter::repeat_n(false, missing));
        }
        batch.tokens = Some(Tokens { ids, mask });
        Ok(())
    }
}

/// # Errors
/// Unless it is the one text that a robot gives.
fn check_task_key(source: &Source, key: &str) -> Result<(), CheckpointError> {
    if key == "task" { Ok(()) } else { Err(source.fault("task_key", key.to_owned(), "task")) }
}

/// Checks the configuration of a step that [`write_state`] does.
///
/// # Errors
/// When the text is not the task, or there is no state to write into it.
pub(crate) fn check_write_state(source: &Source) -> Result<(), CheckpointError> {
    #[derive(Deserialize)]
    #[serde(deny_unknown_fields)]
    struct Json {
        #[serde(default, rename = "max_state_dim")]
        _max_state_dim: Option<usize>,
        task_key: Option<String>,
        include_state_in_prompt: Option<bool>,
    }
    let json: Json = source.parse()?;
    if json.include_state_in_prompt == Some(false) {
        return Err(source.fault("include_state_in_prompt", "false".into(), "true; a memory of past states is not supported"));
    }
    check_task_key(source, json.task_key.as_deref().unwrap_or("task"))?;
    if source.features.get(STATE).is_none() {
        return Err(source.fault("input_features", format!("no {STATE}"), "one, which the step writes into the prompt"));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn levels_are_256_equal_parts() {
        for (value, expected) in
            [(-1.5, -1), (-1.0, 0), (-0.992_2, 0), (-0.992_187_5, 1), (0.0, 128), (0.999, 255), (7.0, 255), (f32::NAN, 255)]
        {
            assert_eq!(level(value), expected, "{value}");
        }
    }
}
