//! The vision-language model under a policy, as its own `config.json` describes it (Hugging Face's
//! SmolVLM: a SigLIP tower and a Llama).

use serde::Deserialize;

use crate::CheckpointError;
use crate::config::ConfigFile;
use crate::files::CONFIG;
use crate::json::{parse, read_json};
use crate::nn::{Activation, Built, Heads};
use crate::vision::{PatchPositions, SigLipPlan};

/// The backbone that LeRobot's published SmolVLA is made of.
const PUBLISHED: &str = "HuggingFaceTB/SmolVLM2-500M-Video-Instruct";

/// Attention takes time by the square of this; the published backbone has 1024.
const MAX_PATCHES: usize = 1 << 14;

#[derive(Clone, Debug)]
pub(crate) struct Backbone {
    /// Where the dimensions are from, for people.
    pub source: String,
    pub vision: SigLipPlan,
    /// The side of the squares of patches that become one token.
    pub scale_factor: usize,
    pub text: TextPlan,
}

/// What shapes the language model.
#[derive(Clone, Debug)]
pub(crate) struct TextPlan {
    pub vocabulary: usize,
    pub hidden: usize,
    pub layers: usize,
    pub mlp: usize,
    pub heads: Heads,
    pub head_dim: usize,
    /// What the norms add to the mean square.
    pub eps: f64,
    pub activation: Activation,
    pub attention_bias: bool,
    pub mlp_bias: bool,
}

/// Where a key is absent transformers takes these defaults (`SmolVLMConfig`).
#[derive(Deserialize)]
#[serde(default)]
struct BackboneJson {
    model_type: String,
    scale_factor: usize,
    vision_config: VisionJson,
    text_config: TextJson,
}

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

#[derive(Deserialize)]
#[serde(default)]
struct TextJson {
    model_type: String,
    vocab_size: usize,
    hidden_size: usize,
    intermediate_size: usize,
    num_hidden_layers: usize,
    num_attention_heads: usize,
    num_key_value_heads: Option<usize>,
    head_dim: Option<usize>,
    hidden_act: String,
    rms_norm_eps: f64,
    attention_bias: bool,
    mlp_bias: bool,
}

impl Default for BackboneJson {
    fn default() -> Self {
        let (vision_config, text_config) = (VisionJson::default(), TextJson::default());
        Self { model_type: "smolvlm".into(), scale_factor: 2, vision_config, text_config }
    }
}

impl Default for VisionJson {
    fn default() -> Self {
        Self {
            hidden_size: 1152,
            intermediate_size: 3072,
            num_hidden_layers: 12,
            num_attention_heads: 16,
            num_channels: 3,
            image_size: 224,
            patch_size: 32,
            hidden_act: "gelu_pytorch_tanh".into(),
            layer_norm_eps: 1e-6,
        }
    }
}

impl Default for TextJson {
    fn default() -> Self {
        Self {
            model_type: "llama".into(),
            vocab_size: 32_000,
            hidden_size: 4096,
            intermediate_size: 11_008,
            num_hidden_layers: 32,
            num_attention_heads: 32,
            num_key_value_heads: None,
            head_dim: None,
            hidden_act: "silu".into(),
            rms_norm_eps: 1e-6,
            attention_bias: false,
            mlp_bias: false,
        }
    }
}

impl BackboneJson {
    /// The dimensions of [`PUBLISHED`].
    fn published() -> Self {
        Self {
            scale_factor: 4,
            vision_config: VisionJson {
                hidden_size: 768,
                num_attention_heads: 12,
                image_size: 512,
                patch_size: 16,
                ..VisionJson::default()
            },
            text_config: TextJson {
                vocab_size: 49_280,
                hidden_size: 960,
                intermediate_size: 2560,
                num_attention_heads: 15,
                num_key_value_heads: Some(5),
                head_dim: Some(64),
                rms_norm_eps: 1e-5,
                ..TextJson::default()
            },
            ..Self::default()
        }
    }
}

impl Backbone {
    /// The backbone called `name` (`vlm_model_name` in `file`): from its `config.json` where there is
    /// one, else from what is built in.
    ///
    /// # Errors
    /// When there is neither, or it makes no network.
    pub(crate) fn find(file: &ConfigFile, name: &str) -> Built<Self> {
        let purpose = "the dimensions of the vision-language model";
        let found = file.files.look_for(name, CONFIG)?;
        if found.is_none() && name == PUBLISHED {
            let fault = |_: &str, found: String, expected: &str| file.fault("vlm_model_name", found, expected);
            return Self::checked(BackboneJson::published(), "built in".into(), fault);
        }
        let path = found.map_or_else(|| file.files.find(name, CONFIG, purpose), Ok)?;
        let json: BackboneJson = parse(&path, read_json(&path)?)?;
        let fault = |key: &str, found: String, expected: &str| CheckpointError::config(&path, key, found, expected);
        Self::checked(json, path.display().to_string(), fault)
    }

    fn checked(json: BackboneJson, source: String, fault: impl Fn(&str, String, &str) -> CheckpointError) -> Built<Self> {
        let BackboneJson { model_type, scale_factor, vision_config: vision, text_config: text } = json;
        if model_type != "smolvlm" {
            return Err(fault("model_type", model_type, "smolvlm"));
        }
        if text.model_type != "llama" {
            return Err(fault("text_config.model_type", text.model_type, "llama"));
        }
        if vision.hidden_act != "gelu_pytorch_tanh" {
            return Err(fault("vision_config.hidden_act", vision.hidden_act, "gelu_pytorch_tanh"));
        }
        if vision.num_channels != 3 {
            return Err(fault("vision_config.num_channels", vision.num_channels.to_string(), "3"));
        }
        let Some(activation) = Activation::named(&text.hidden_act) else {
            return Err(fault("text_config.hidden_act", text.hidden_act, Activation::NAMES));
        };
        let sides = 1..=4096;
        if !sides.contains(&vision.patch_size) || !sides.contains(&vision.image_size) || vision.image_size < vision.patch_size {
            let found = format!("{} with patches of {}", vision.image_size, vision.patch_size);
            return Err(fault("vision_config.image_size", found, "1 to 4096, and no smaller than a patch"));
        }
        if !sides.contains(&scale_factor) {
            return Err(fault("scale_factor", scale_factor.to_string(), "1 or more"));
        }
        let divides = |heads: usize, width: usize| heads > 0 && width > 0 && width.is_multiple_of(heads);
        if !divides(vision.num_attention_heads, vision.hidden_size) {
            let found = format!("{} with {} heads", vision.hidden_size, vision.num_attention_heads);
            return Err(fault("vision_config.hidden_size", found, "a multiple of num_attention_heads"));
        }
        let heads = Heads { query: text.num_attention_heads, key: text.num_key_value_heads.unwrap_or(text.num_attention_heads) };
        if !divides(heads.query, text.hidden_size) {
            let found = format!("{} with {} heads", text.hidden_size, heads.query);
            return Err(fault("text_config.hidden_size", found, "a multiple of num_attention_heads"));
        }
        if !divides(heads.key, heads.query) {
            let found = format!("{} of {}", heads.key, heads.query);
            return Err(fault("text_config.num_key_value_heads", found, "a divisor of num_attention_heads"));
        }
        let head_dim = text.head_dim.unwrap_or(text.hidden_size / heads.query);
        if head_dim == 0 || !head_dim.is_multiple_of(2) {
            return Err(fault("text_config.head_dim", head_dim.to_string(), "an even number"));
        }
        Ok(Self {
            source,
            vision: SigLipPlan {
                image_size: vision.image_size,
                patch_size: vision.patch_size,
                hidden: vision.hidden_size,
                layers: vision.num_hidden_layers,
                heads: vision.num_attention_heads,
                mlp: vision.intermediate_size,
                eps: vision.layer_norm_eps,
                positions: PatchPositions::Scaled,
            },
            scale_factor,
            text: TextPlan {
                vocabulary: text.vocab_size,
                hidden: text.hidden_size,
                layers: text.num_hidden_layers,
                mlp: text.intermediate_size,
                heads,
                head_dim,
                eps: text.rms_norm_eps,
                activation,
                attention_bias: text.attention_bias,
                mlp_bias: text.mlp_bias,
            },
        })
    }

    /// How many tokens an image of `height` by `width` pixels becomes; `None` when its patches are
    /// not as many as those of a square that falls into squares of `scale_factor`, or too many.
    pub(crate) fn tokens(&self, [height, width]: [usize; 2]) -> Option<usize> {
        let patches = (height / self.vision.patch_size) * (width / self.vision.patch_size);
        let side = patches.isqrt();
        let fits = (1..=MAX_PATCHES).contains(&patches) && side * side == patches && side.is_multiple_of(self.scale_factor);
        fits.then(|| (side / self.scale_factor).pow(2))
    }
}
