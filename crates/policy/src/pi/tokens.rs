//! FAST's action tokens (Pertsch et al. 2025, arXiv 2501.09747): a chunk's discrete cosine transform
//! along time, rounded, as characters of a text that byte-pair encoding makes short. The language
//! model writes those tokens in place of the last ones of its own vocabulary.

use candle_core::bail;
use serde::Deserialize;

use crate::CheckpointError;
use crate::config::ConfigFile;
use crate::json::{parse, read_json};
use crate::nn::Built;
use crate::processor::{Source, Step, Tokenizer};

/// What stands before the actions, and what stands behind them.
const PREFIX: &str = "Action: ";
const END: &str = "|";

/// What the class of FAST's tokenizer saves beside its tokens.
const PROCESSOR: &str = "processor_config.json";

/// Between the language model's tokens and chunks of actions.
#[derive(Debug)]
pub(crate) struct ActionTokens {
    /// The token that follows the prompt.
    pub begin: u32,
    /// The token that ends the actions.
    pub end: u32,
    /// [`PREFIX`] in tokens, which is left out wherever it stands.
    prefix: Vec<u32>,
    /// What the language model must write first, if it must.
    must_begin: Option<[u32; 2]>,
    /// The language model's token for FAST's token 0; the others count down from it.
    zero: u32,
    /// FAST's.
    text: Tokenizer,
    /// What the transform was multiplied by before it was rounded.
    scale: f64,
    /// The rounded coefficient that character 0 stands for.
    least: f64,
}

/// The keys of π0-FAST's `config.json` that say where its tokens are.
#[derive(Deserialize)]
#[serde(default)]
struct TokensJson {
    text_tokenizer_name: String,
    action_tokenizer_name: String,
    fast_skip_tokens: usize,
    validate_action_token_prefix: bool,
}

impl Default for TokensJson {
    fn default() -> Self {
        Self {
            text_tokenizer_name: "google/paligemma-3b-pt-224".into(),
            action_tokenizer_name: "lerobot/fast-action-tokenizer".into(),
            fast_skip_tokens: 128,
            validate_action_token_prefix: true,
        }
    }
}

/// FAST's `processor_config.json`; where a key is absent its class takes these defaults.
#[derive(Deserialize)]
#[serde(default)]
struct ProcessorJson {
    scale: f64,
    min_token: f64,
}

impl Default for ProcessorJson {
    fn default() -> Self {
        Self { scale: 10.0, min_token: 0.0 }
    }
}

/// The step that turns actions into tokens, of which there are none at inference.
///
/// # Errors
/// When its configuration has other keys.
pub(super) fn training_step(source: &Source) -> Result<Step, CheckpointError> {
    #[derive(Deserialize)]
    #[serde(deny_unknown_fields)]
    #[allow(dead_code, reason = "read to refuse other keys")]
    struct ActionTokenizerJson {
        trust_remote_code: Option<bool>,
        max_action_tokens: Option<usize>,
        fast_skip_tokens: Option<usize>,
        action_tokenizer_name: Option<String>,
        paligemma_tokenizer_name: Option<String>,
        allow_truncation: Option<bool>,
    }

    source.parse::<ActionTokenizerJson>().map(|_| Step::Nothing)
}

impl ActionTokens {
    /// Opens the two tokenizers that the configuration names.
    ///
    /// # Errors
    /// When one can't be found or read, or lacks a token that is needed.
    pub(crate) fn open(file: &ConfigFile) -> Built<Self> {
        let json: TokensJson = file.parse()?;
        let name = &json.text_tokenizer_name;
        let language = Tokenizer::open(file.files, name, None, false)?;
        let unfit = |what: String| file.fault("text_tokenizer_name", format!("{name}, which {what}"), "a tokenizer for π0-FAST");
        let token = |token: &str| language.id(token).ok_or_else(|| unfit(format!("lacks the token {token:?}")));
        let begin = language.begin().ok_or_else(|| unfit("lacks a bos_token".into()))?;
        let must_begin = if json.validate_action_token_prefix { Some([token("Action")?, token(":")?]) } else { None };
        let end = token(END)?;
        let prefix = language.encode_bare(PREFIX).map_err(|error| unfit(format!("fails on {PREFIX:?}: {error}")))?;
        let size = language.size();
        // FAST's token 0 stands before those that are skipped.
        let zero = size.checked_sub(1).and_then(|last| last.checked_sub(json.fast_skip_tokens)).and_then(|zero| u32::try_from(zero).ok());
        let Some(zero) = zero else {
            return Err(file.fault(
                "fast_skip_tokens",
                json.fast_skip_tokens.to_string(),
                &format!("less than the {size} tokens of {name}"),
            ));
        };
        let name = &json.action_tokenizer_name;
        let processor = file.files.find(name, PROCESSOR, "the action tokenizer")?;
        let ProcessorJson { scale, min_token } = parse(&processor, read_json(&processor)?)?;
        if !(scale.is_finite() && scale > 0.0 && min_token.is_finite()) {
            let (found, expected) = (format!("{scale} and {min_token}"), "two finite numbers, the first above 0".into());
            return Err(CheckpointError::Config { path: processor, key: "scale and min_token".into(), found, expected });
        }
        let text = Tokenizer::beside(file.files, name, &processor)?;
        Ok(Self { begin, end, prefix, must_begin, zero, text, scale, least: min_token })
    }

    /// The chunk `[rows, width]`, row-major, that the language model's tokens `written` stand for.
    ///
    /// # Errors
    /// When they don't begin as they must, or some are no action tokens.
    pub(crate) fn actions(&self, written: &[u32], rows: usize, width: usize) -> candle_core::Result<Vec<f32>> {
        if let Some(first) = self.must_begin
            && !written.starts_with(&first)
        {
            bail!("the model wrote tokens that begin with {:?}, expected {first:?} (\"Action:\")", &written[..written.len().min(2)]);
        }
        let mut ids = Vec::with_capacity(written.len());
        for token in self.without_prefix(written) {
            match self.zero.checked_sub(token) {
                Some(id) => ids.push(id),
                None => bail!("the model wrote token {token} among the actions, expected at most {}", self.zero),
            }
        }
        let text = self.text.decode(&ids).map_err(candle_core::Error::wrap)?;
        let mut coefficients: Vec<f64> = text.chars().map(|c| (f64::from(u32::from(c)) + self.least) / self.scale).collect();
        coefficients.resize(rows * width, 0.0);
        Ok(inverse_dct(&coefficients, rows, width))
    }

    /// `written` without [`PREFIX`], also where leaving it out brings it about again.
    fn without_prefix(&self, written: &[u32]) -> Vec<u32> {
        let mut kept = written.to_vec();
        let mut at = 0;
        while !self.prefix.is_empty() && at + self.prefix.len() <= kept.len() {
            if kept[at..].starts_with(&self.prefix) {
                kept.drain(at..at + self.prefix.len());
            } else {
                at += 1;
            }
        }
        kept
    }
}

/// The inverse of the orthonormal discrete cosine transform (of type 2) of each column of
/// `coefficients [rows, width]`.
fn inverse_dct(coefficients: &[f64], rows: usize, width: usize) -> Vec<f32> {
    let factor = |row: usize, k: usize| {
        let norm = if k == 0 { 1.0 } else { 2.0 };
        let angle = std::f64::consts::PI * k as f64 * (2 * row + 1) as f64 / (2 * rows) as f64;
        (norm / rows as f64).sqrt() * angle.cos()
    };
    let mut values = vec![0.0; rows * width];
    for (row, out) in values.chunks_exact_mut(width).enumerate() {
        for (k, coefficients) in coefficients.chunks_exact(width).enumerate() {
            let factor = factor(row, k);
            out.iter_mut().zip(coefficients).for_each(|(sum, c)| *sum += factor * c);
        }
    }
    values.into_iter().map(|value| value as f32).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A constant column is its first coefficient alone; the second one is half a wave.
    #[test]
    fn coefficients_become_waves() {
        let values = inverse_dct(&[4.0, 0.0, 0.0, 1.0, 0.0, 0.0, 0.0, 0.0], 4, 2);
        let wave: Vec<f32> = (0..4).map(|i| (0.5f64.sqrt() * (std::f64::consts::PI * (2 * i + 1) as f64 / 8.0).cos()) as f32).collect();
        for (row, wave) in values.chunks_exact(2).zip(wave) {
            assert!((row[0] - 2.0).abs() < 1e-6 && (row[1] - wave).abs() < 1e-6, "{values:?}");
        }
    }
}
