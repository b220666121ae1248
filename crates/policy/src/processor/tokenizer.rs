//! A tokenizer as LeRobot gets it from transformers' `AutoTokenizer`: `tokenizer.json`, with what
//! `tokenizer_config.json` beside it changes.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::{Path, PathBuf};

use serde::Deserialize;
use serde::de::{DeserializeOwned, IgnoredAny};
use serde_json::Value;
use tokenizers::normalizers::replace::ReplacePattern;
use tokenizers::normalizers::{Lowercase, NFC, Replace, Sequence};
use tokenizers::pre_tokenizers::byte_level::ByteLevel;
use tokenizers::pre_tokenizers::sequence::Sequence as PreTokenizers;
use tokenizers::pre_tokenizers::split::{Split, SplitPattern};
use tokenizers::processors::roberta::RobertaProcessing;
use tokenizers::{PostProcessor as _, SplitDelimiterBehavior, TruncationDirection, TruncationParams};

pub(crate) use tokenizers::Error;

use crate::CheckpointError;
use crate::files::Files;
use crate::json::{parse, read_json, read_limited};

const TOKENIZER: &str = "tokenizer.json";
const CONFIG: &str = "tokenizer_config.json";
const SPECIAL_TOKENS: &str = "special_tokens_map.json";

/// The largest that are known have 35 MB.
const LIMIT_BYTES: u64 = 128 << 20;

#[derive(Clone, Debug)]
pub(crate) struct Tokenizer {
    /// Where its `tokenizer.json` was found.
    path: PathBuf,
    inner: tokenizers::Tokenizer,
    padding_id: u32,
    /// The token that begins a text.
    begin: Option<u32>,
}

/// What matters of `tokenizer_config.json`. (`add_bos_token` and `add_eos_token` don't: where there is
/// a `tokenizer.json`, its post-processor alone says what is added.)
#[derive(Default, Deserialize)]
#[serde(default)]
struct ConfigJson {
    tokenizer_class: Option<String>,
    bos_token: Option<Value>,
    eos_token: Option<Value>,
    cls_token: Option<Value>,
    sep_token: Option<Value>,
    pad_token: Option<Value>,
    truncation_side: Option<super::text::Side>,
    add_prefix_space: Option<bool>,
    added_tokens_decoder: Option<Value>,
}

/// What `work` answers, which the tokenizers crate does. Of some files it panics (0.23: a part of another
/// form than it expects); that is an error like any other here.
fn guarded<T>(work: impl FnOnce() -> Result<T, Error>) -> Result<T, Error> {
    catch_unwind(AssertUnwindSafe(work)).unwrap_or_else(|panic| {
        let what = panic.downcast_ref::<String>().map(String::as_str).or_else(|| panic.downcast_ref::<&str>().copied());
        Err(format!("its parts make no sense: {}", what.unwrap_or("they were given up")).into())
    })
}

impl Tokenizer {
    /// Finds the tokenizer `name`. Sentences are cut to `truncation` tokens, those that the tokenizer
    /// adds included; with `pads` there must be a token for padding.
    ///
    /// # Errors
    /// When it is not found, is malformed, or has no token for padding.
    pub(crate) fn open(files: &Files, name: &str, truncation: Option<usize>, pads: bool) -> Result<Self, CheckpointError> {
        Self::at(files, name, files.find(name, TOKENIZER, "the tokenizer")?, truncation, pads)
    }

    /// The tokenizer in the folder `name` of the checkpoint, which brings all of its files.
    ///
    /// # Errors
    /// As [`open`](Self::open).
    pub(crate) fn inside(files: &Files, name: &str, truncation: Option<usize>, pads: bool) -> Result<Self, CheckpointError> {
        let path = files.dir.join(name).join(TOKENIZER);
        if !path.is_file() {
            let (dir, what) = (files.dir.to_owned(), format!("{TOKENIZER} of {name} (the tokenizer)"));
            return Err(CheckpointError::NotFound { dir, what, looked: vec![path.display().to_string()] });
        }
        Self::at(&Files { resources: None, ..*files }, name, path, truncation, pads)
    }

    /// The tokenizer that goes with the file at `path`, which was found in `name`.
    ///
    /// # Errors
    /// When there is none or it is malformed.
    pub(crate) fn beside(files: &Files, name: &str, path: &Path) -> Result<Self, CheckpointError> {
        match files.beside(path, name, TOKENIZER)? {
            Some(path) => Self::at(files, name, path, None, false),
            None => Err(CheckpointError::NotFound {
                dir: files.dir.to_owned(),
                what: format!("{TOKENIZER} of {name}"),
                looked: vec![path.with_file_name(TOKENIZER).display().to_string()],
            }),
        }
    }

    fn at(files: &Files, name: &str, path: PathBuf, truncation: Option<usize>, pads: bool) -> Result<Self, CheckpointError> {
        let config: ConfigJson = beside(files, name, &path, CONFIG)?.unwrap_or_default();
        let broken = |what: String| CheckpointError::Tokenizer { path: path.clone(), what };
        let bytes = read_limited(&path, LIMIT_BYTES)?;
        serde_json::from_slice::<IgnoredAny>(&bytes).map_err(|source| CheckpointError::Json { path: path.clone(), source })?;
        let mut inner = guarded(|| tokenizers::Tokenizer::from_bytes(bytes)).map_err(|e| broken(e.to_string()))?;

        let class = config.tokenizer_class.as_deref().unwrap_or("PreTrainedTokenizer");
        replace_parts(&mut inner, class, &config).map_err(|e| broken(e.to_string()))?;
        inner.with_padding(None);
        let added = inner.get_post_processor().map_or(0, |post| post.added_tokens(false));
        let truncation = match truncation {
            Some(max_length) if max_length < added => {
                return Err(broken(format!("it adds {added} tokens, more than max_length {max_length}")));
            }
            Some(max_length) => {
                let is_left = config.truncation_side == Some(super::text::Side::Left);
                let direction = if is_left { TruncationDirection::Left } else { TruncationDirection::Right };
                Some(TruncationParams { max_length, direction, ..TruncationParams::default() })
            }
            None => None,
        };
        inner.with_truncation(truncation).map_err(|e| broken(e.to_string()))?;
        let padding_id = if pads { padding_id(files, name, &path, &inner, class, &config)? } else { 0 };
        let begin = config.bos_token.as_ref().and_then(content).or_else(|| class.starts_with("Gemma").then_some("<bos>"));
        let begin = begin.and_then(|token| inner.token_to_id(token));
        Ok(Self { path, inner, padding_id, begin })
    }

    /// # Errors
    /// When the tokenizer's own parts don't fit each other.
    pub(crate) fn encode(&self, text: &str) -> Result<Vec<u32>, Error> {
        Ok(guarded(|| self.inner.encode_fast(text, true))?.get_ids().to_vec())
    }

    /// The tokens of `text` alone, without those that a tokenizer adds.
    ///
    /// # Errors
    /// When the tokenizer's own parts don't fit each other.
    pub(crate) fn encode_bare(&self, text: &str) -> Result<Vec<u32>, Error> {
        Ok(guarded(|| self.inner.encode_fast(text, false))?.get_ids().to_vec())
    }

    /// The text of `ids`; those that the tokenizer doesn't know are left out.
    ///
    /// # Errors
    /// When the tokenizer's own parts don't fit each other.
    pub(crate) fn decode(&self, ids: &[u32]) -> Result<String, Error> {
        guarded(|| self.inner.decode(ids, false))
    }

    /// The number of the token that is written `token`.
    pub(crate) fn id(&self, token: &str) -> Option<u32> {
        self.inner.token_to_id(token)
    }

    /// The token that begins a text, where the tokenizer has one.
    pub(crate) fn begin(&self) -> Option<u32> {
        self.begin
    }

    /// How many tokens there are, those not counted that were added to the vocabulary.
    pub(crate) fn size(&self) -> usize {
        self.inner.get_vocab_size(false)
    }

    pub(crate) fn path(&self) -> &Path {
        &self.path
    }

    pub(crate) fn padding_id(&self) -> u32 {
        self.padding_id
    }
}

/// Some of transformers' classes build their own normaliser and pre-tokenizer and take no notice of
/// those in the file (SmolVLM2's file splits digits; the class that its configuration names doesn't).
fn replace_parts(tokenizer: &mut tokenizers::Tokenizer, class: &str, config: &ConfigJson) -> Result<(), Error> {
    let add_prefix_space = config.add_prefix_space.unwrap_or(false);
    match class.strip_suffix("Fast").unwrap_or(class) {
        "CLIPTokenizer" => {
            let white = ReplacePattern::Regex(r"\s+".into());
            tokenizer.with_normalizer(Some(Sequence::new(vec![NFC.into(), Replace::new(white, " ")?.into(), Lowercase.into()])))?;
            let words = Split::new(SplitPattern::Regex(CLIP_WORDS.into()), SplitDelimiterBehavior::Removed, true)?;
            tokenizer.with_pre_tokenizer(Some(PreTokenizers::new(vec![words.into(), ByteLevel::new(false, true, true).into()])));
            surround(tokenizer, [&config.bos_token, &config.eos_token], ["<|startoftext|>", CLIP_END], false)?;
        }
        "RobertaTokenizer" | "BartTokenizer" => {
            tokenizer.with_normalizer(None::<Replace>)?;
            tokenizer.with_pre_tokenizer(Some(ByteLevel::new(add_prefix_space, true, true)));
            surround(tokenizer, [&config.cls_token, &config.sep_token], ["<s>", "</s>"], add_prefix_space)?;
        }
        "GPT2Tokenizer" => {
            tokenizer.with_normalizer(None::<Replace>)?;
            tokenizer.with_pre_tokenizer(Some(ByteLevel::new(add_prefix_space, true, true)));
        }
        "GemmaTokenizer" => {
            tokenizer.with_normalizer(Some(Replace::new(" ", "▁")?))?;
            tokenizer.with_pre_tokenizer(Some(Split::new(" ", SplitDelimiterBehavior::MergedWithPrevious, false)?));
        }
        "PreTrainedTokenizer" | "TokenizersBackend" => {}
        other => {
            tracing::warn!(class = other, "a tokenizer class that was not compared with transformers; its tokenizer.json is used as it is")
        }
    }
    Ok(())
}

/// What CLIP's tokenizer takes for words.
const CLIP_WORDS: &str = r"<\|startoftext\|>|<\|endoftext\|>|'s|'t|'re|'ve|'m|'ll|'d|[\p{L}]+|[\p{N}]|[^\s\p{L}\p{N}]+";

/// What ends a text in CLIP, and fills it up.
const CLIP_END: &str = "<|endoftext|>";

/// Puts a token before and one after each text: those that the configuration names, or else the `usual` ones.
fn surround(
    tokenizer: &mut tokenizers::Tokenizer,
    named: [&Option<Value>; 2],
    usual: [&str; 2],
    add_prefix_space: bool,
) -> Result<(), Error> {
    let token = |i: usize| {
        let token = named[i].as_ref().and_then(content).unwrap_or(usual[i]);
        let id = tokenizer.token_to_id(token).ok_or_else(|| format!("{token} is not in the vocabulary"))?;
        Ok::<_, Error>((token.to_owned(), id))
    };
    let around = RobertaProcessing::new(token(1)?, token(0)?).add_prefix_space(add_prefix_space);
    tokenizer.with_post_processor(Some(around));
    Ok(())
}

fn padding_id(
    files: &Files,
    name: &str,
    path: &Path,
    tokenizer: &tokenizers::Tokenizer,
    class: &str,
    config: &ConfigJson,
) -> Result<u32, CheckpointError> {
    let special: Option<Value> = if config.added_tokens_decoder.is_none() { beside(files, name, path, SPECIAL_TOKENS)? } else { None };
    let token =
        special.as_ref().and_then(|map| content(map.get("pad_token")?)).or_else(|| content(config.pad_token.as_ref()?)).or_else(|| {
            match class.strip_suffix("Fast").unwrap_or(class) {
                "GemmaTokenizer" | "RobertaTokenizer" | "BartTokenizer" => Some("<pad>"),
                "CLIPTokenizer" => Some(CLIP_END),
                _ => None,
            }
        });
    let broken = |what: String| CheckpointError::Tokenizer { path: path.to_owned(), what };
    let Some(token) = token else {
        return Err(broken("sentences are to be padded, but tokenizer_config.json names no pad_token".into()));
    };
    tokenizer.token_to_id(token).ok_or_else(|| broken(format!("the pad_token {token:?} is not in the vocabulary")))
}

/// A token is written as a string or as an object.
fn content(token: &Value) -> Option<&str> {
    token.as_str().or_else(|| token.get("content")?.as_str())
}

/// The JSON file `file` that goes with the one at `path`, where there is one.
fn beside<T: DeserializeOwned>(files: &Files, name: &str, path: &Path, file: &str) -> Result<Option<T>, CheckpointError> {
    match files.beside(path, name, file)? {
        Some(path) => parse(&path, read_json(&path)?).map(Some),
        None => Ok(None),
    }
}
