//! CLIP's two encoders (Radford et al. 2021, arXiv 2103.00020), as transformers runs them and its `config.json`
//! describes them.

mod text;
mod vision;

use std::path::PathBuf;

use serde::Deserialize;
use serde::de::DeserializeOwned;
use serde_json::Value;

pub(crate) use text::{ClipText, ClipTextPlan};
pub(crate) use vision::{ClipVision, ClipVisionPlan};

use crate::CheckpointError;
use crate::config::ConfigFile;
use crate::files::CONFIG;
use crate::json::{parse, read_json};
use crate::nn::{Activation, Built, EncoderNames, EncoderPlan};
use text::End;

/// The one that LeRobot takes unless told otherwise.
const PUBLISHED: &str = "openai/clip-vit-base-patch16";

/// No encoder comes near these; they bound what is allocated, and what attention takes.
const MAX_SIZE: usize = 1 << 16;
const MAX_ROWS: usize = 1 << 14;

/// The dimensions of an encoder, and where they are from, for people.
#[derive(Clone, Debug)]
pub(crate) struct Found<Plan> {
    pub plan: Plan,
    pub source: String,
}

/// Where a key is absent transformers takes these defaults (`CLIPVisionConfig`).
#[derive(Deserialize)]
#[serde(default)]
struct VisionJson {
    hidden_size: usize,
    intermediate_size: usize,
    num_hidden_layers: usize,
    num_attention_heads: usize,
    num_channels: usize,
    image_size: usize,
    patch_size: usize,
    hidden_act: String,
    layer_norm_eps: f64,
}

/// The same of `CLIPTextConfig`.
#[derive(Deserialize)]
#[serde(default)]
struct TextJson {
    vocab_size: usize,
    hidden_size: usize,
    intermediate_size: usize,
    num_hidden_layers: usize,
    num_attention_heads: usize,
    max_position_embeddings: usize,
    hidden_act: String,
    layer_norm_eps: f64,
    eos_token_id: u32,
}

impl Default for VisionJson {
    fn default() -> Self {
        Self {
            hidden_size: 768,
            intermediate_size: 3072,
            num_hidden_layers: 12,
            num_attention_heads: 12,
            num_channels: 3,
            image_size: 224,
            patch_size: 32,
            hidden_act: "quick_gelu".into(),
            layer_norm_eps: 1e-5,
        }
    }
}

impl Default for TextJson {
    fn default() -> Self {
        Self {
            vocab_size: 49_408,
            hidden_size: 512,
            intermediate_size: 2048,
            num_hidden_layers: 12,
            num_attention_heads: 8,
            max_position_embeddings: 77,
            hidden_act: "quick_gelu".into(),
            layer_norm_eps: 1e-5,
            eos_token_id: 49_407,
        }
    }
}

/// A fault of a value: its key, what was found, what was expected.
type Fault<'a> = &'a dyn Fn(&str, String, &str) -> CheckpointError;

impl ClipVisionPlan {
    /// Of the model called `name`, which `key` of `file` names: from its `config.json` where there is one, else
    /// from what is built in.
    ///
    /// # Errors
    /// When there is neither, or it makes no encoder.
    pub(crate) fn find(file: &ConfigFile, key: &str, name: &str) -> Built<Found<Self>> {
        let built_in = || VisionJson { patch_size: 16, ..VisionJson::default() };
        find(file, key, name, ["vision_config", "clip_vision_model"], built_in, Self::checked)
    }

    fn checked(json: VisionJson, fault: Fault) -> Built<Self> {
        let sides = 1..=4096;
        if !sides.contains(&json.patch_size) || !sides.contains(&json.image_size) || json.image_size < json.patch_size {
            let found = format!("{} with patches of {}", json.image_size, json.patch_size);
            return Err(fault("image_size", found, "1 to 4096, and no smaller than a patch"));
        }
        if json.num_channels != 3 {
            return Err(fault("num_channels", json.num_channels.to_string(), "3"));
        }
        let layer = layer(
            [json.hidden_size, json.intermediate_size, json.num_attention_heads, json.num_hidden_layers],
            &json.hidden_act,
            json.layer_norm_eps,
            fault,
        )?;
        let plan = Self { image_size: json.image_size, patch_size: json.patch_size, layers: json.num_hidden_layers, layer };
        if plan.rows() > MAX_ROWS {
            return Err(fault("patch_size", json.patch_size.to_string(), "at most 16383 patches an image"));
        }
        Ok(plan)
    }
}

impl ClipTextPlan {
    /// As [`ClipVisionPlan::find`].
    ///
    /// # Errors
    /// As there.
    pub(crate) fn find(file: &ConfigFile, key: &str, name: &str) -> Built<Found<Self>> {
        find(file, key, name, ["text_config", "clip_text_model"], TextJson::default, Self::checked)
    }

    fn checked(json: TextJson, fault: Fault) -> Built<Self> {
        if !(1..=MAX_ROWS).contains(&json.max_position_embeddings) {
            return Err(fault("max_position_embeddings", json.max_position_embeddings.to_string(), "1 to 16384"));
        }
        Ok(Self {
            vocabulary: json.vocab_size,
            positions: json.max_position_embeddings,
            // Configurations of before 2023 have this number, whatever the token's is.
            end: if json.eos_token_id == 2 { End::Greatest } else { End::Token(json.eos_token_id) },
            layers: json.num_hidden_layers,
            layer: layer(
                [json.hidden_size, json.intermediate_size, json.num_attention_heads, json.num_hidden_layers],
                &json.hidden_act,
                json.layer_norm_eps,
                fault,
            )?,
        })
    }
}

/// The plan of an encoder: `part` is its key in the configuration of a whole CLIP, and the `model_type` of one
/// that is alone.
fn find<Json: DeserializeOwned, Plan>(
    file: &ConfigFile,
    key: &str,
    name: &str,
    part: [&str; 2],
    built_in: impl Fn() -> Json,
    check: impl Fn(Json, Fault) -> Built<Plan>,
) -> Built<Found<Plan>> {
    let found = file.files.look_for(name, CONFIG)?;
    if found.is_none() && name == PUBLISHED {
        let plan = check(built_in(), &|_, found, expected| file.fault(key, found, expected))?;
        return Ok(Found { plan, source: "built in".into() });
    }
    let path: PathBuf = found.map_or_else(|| file.files.find(name, CONFIG, "the dimensions of the encoder"), Ok)?;
    let mut json = read_json(&path)?;
    let [nested, alone] = part;
    let (json, prefix) = match json.get_mut(nested) {
        Some(inner) => (inner.take(), format!("{nested}.")),
        None => match json.get("model_type").and_then(Value::as_str) {
            Some(kind) if kind == alone => (json, String::new()),
            other => {
                let (found, expected) = (other.unwrap_or("not there").to_owned(), format!("{alone}, or clip with a {nested}"));
                return Err(CheckpointError::config(&path, "model_type", found, &expected));
            }
        },
    };
    let fault = |key: &str, found: String, expected: &str| CheckpointError::config(&path, &format!("{prefix}{key}"), found, expected);
    Ok(Found { plan: check(parse(&path, json)?, &fault)?, source: path.display().to_string() })
}

fn layer([hidden, mlp, heads, layers]: [usize; 4], activation: &str, eps: f64, fault: Fault) -> Built<EncoderPlan> {
    for (key, size) in [("hidden_size", hidden), ("intermediate_size", mlp), ("num_attention_heads", heads), ("num_hidden_layers", layers)]
    {
        if !(1..=MAX_SIZE).contains(&size) {
            return Err(fault(key, size.to_string(), "1 to 65536"));
        }
    }
    if !hidden.is_multiple_of(heads) {
        return Err(fault("hidden_size", format!("{hidden} with {heads} heads"), "a multiple of num_attention_heads"));
    }
    match Activation::named(activation) {
        Some(activation) => Ok(EncoderPlan { names: EncoderNames::Clip, hidden, heads, mlp, activation, eps }),
        None => Err(fault("hidden_act", activation.to_owned(), Activation::NAMES)),
    }
}
