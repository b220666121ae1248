//! Florence-2's configuration, in transformers' words or in those of Microsoft's own code.

use serde::Deserialize;

use super::bart::BartPlan;
use super::davit::{DavitPlan, StagePlan};
use crate::CheckpointError;
use crate::nn::{Activation, Built, EncoderNames, EncoderPlan, Window};

/// No model comes near these; they bound what is allocated.
const MAX_SIZE: usize = 1 << 16;
const MAX_STAGES: usize = 16;

#[derive(Clone, Debug)]
pub(crate) struct FlorencePlan {
    pub vision: DavitPlan,
    pub text: BartPlan,
}

/// What is read of it; all else that there is shapes the decoder or the training.
#[derive(Deserialize)]
pub(crate) struct FlorenceJson {
    vision_config: VisionJson,
    text_config: TextJson,
}

/// Where a key is absent transformers takes these defaults (`Florence2VisionConfig`).
#[derive(Deserialize)]
#[serde(default)]
struct VisionJson {
    model_type: Option<String>,
    in_channels: usize,
    depths: Vec<usize>,
    patch_size: Vec<usize>,
    patch_stride: Vec<usize>,
    patch_padding: Vec<usize>,
    patch_prenorm: Vec<bool>,
    #[serde(alias = "dim_embed")]
    embed_dim: Vec<usize>,
    num_heads: Vec<usize>,
    num_groups: Vec<usize>,
    window_size: usize,
    mlp_ratio: f64,
    qkv_bias: bool,
    activation_function: String,
    projection_dim: usize,
    max_temporal_embeddings: usize,
    max_position_embeddings: usize,
    image_pos_embed: Option<ImagePositions>,
    visual_temporal_embedding: Option<TimePositions>,
    image_feature_source: Option<Vec<String>>,
}

/// In Microsoft's words.
#[derive(Deserialize)]
struct ImagePositions {
    r#type: String,
    max_pos_embeddings: usize,
}

#[derive(Deserialize)]
struct TimePositions {
    r#type: String,
    max_temporal_embeddings: usize,
}

/// Of `BartConfig`.
#[derive(Deserialize)]
#[serde(default)]
struct TextJson {
    model_type: String,
    vocab_size: usize,
    max_position_embeddings: usize,
    d_model: usize,
    encoder_layers: usize,
    encoder_ffn_dim: usize,
    encoder_attention_heads: usize,
    activation_function: String,
    scale_embedding: bool,
    // Other names of the same.
    hidden_size: Option<usize>,
    num_hidden_layers: Option<usize>,
    num_attention_heads: Option<usize>,
}

impl Default for VisionJson {
    fn default() -> Self {
        Self {
            model_type: None,
            in_channels: 3,
            depths: vec![1, 1, 9, 1],
            patch_size: vec![7, 3, 3, 3],
            patch_stride: vec![4, 2, 2, 2],
            patch_padding: vec![3, 1, 1, 1],
            patch_prenorm: vec![false, true, true, true],
            embed_dim: vec![128, 256, 512, 1024],
            num_heads: vec![4, 8, 16, 32],
            num_groups: vec![4, 8, 16, 32],
            window_size: 12,
            mlp_ratio: 4.0,
            qkv_bias: true,
            activation_function: "gelu".into(),
            projection_dim: 1024,
            max_temporal_embeddings: 100,
            max_position_embeddings: 50,
            image_pos_embed: None,
            visual_temporal_embedding: None,
            image_feature_source: None,
        }
    }
}

impl Default for TextJson {
    fn default() -> Self {
        Self {
            model_type: "bart".into(),
            vocab_size: 50_265,
            max_position_embeddings: 1024,
            d_model: 1024,
            encoder_layers: 12,
            encoder_ffn_dim: 4096,
            encoder_attention_heads: 16,
            activation_function: "gelu".into(),
            scale_embedding: false,
            hidden_size: None,
            num_hidden_layers: None,
            num_attention_heads: None,
        }
    }
}

/// A fault of a value: its key, what was found, what was expected.
type Fault<'a> = &'a dyn Fn(&str, String, &str) -> CheckpointError;

impl FlorencePlan {
    /// # Errors
    /// When it makes no network; `fault` gets a key below the configuration's own.
    pub(crate) fn new(json: FlorenceJson, fault: Fault) -> Built<Self> {
        let within = |part: &'static str| move |key: &str, found: String, expected: &str| fault(&format!("{part}.{key}"), found, expected);
        let plan =
            Self { vision: vision(json.vision_config, &within("vision_config"))?, text: text(json.text_config, &within("text_config"))? };
        let (projected, hidden) = (plan.vision.projection, plan.text.layer.hidden);
        if projected != hidden {
            let expected = format!("text_config.d_model, {hidden}");
            return Err(fault("vision_config.projection_dim", projected.to_string(), &expected));
        }
        Ok(plan)
    }
}

fn vision(json: VisionJson, fault: Fault) -> Built<DavitPlan> {
    if let Some(other) = json.model_type.filter(|kind| kind != "davit" && kind != "florence_vision") {
        return Err(fault("model_type", other, "davit or florence_vision"));
    }
    if json.in_channels != 3 {
        return Err(fault("in_channels", json.in_channels.to_string(), "3"));
    }
    if let Some(other) = json.image_pos_embed.as_ref().filter(|positions| positions.r#type != "learned_abs_2d") {
        return Err(fault("image_pos_embed.type", other.r#type.clone(), "learned_abs_2d"));
    }
    if let Some(other) = json.visual_temporal_embedding.as_ref().filter(|positions| positions.r#type != "COSINE") {
        return Err(fault("visual_temporal_embedding.type", other.r#type.clone(), "COSINE"));
    }
    if let Some(other) = json.image_feature_source.filter(|source| *source != ["spatial_avg_pool", "temporal_avg_pool"]) {
        return Err(fault("image_feature_source", format!("{other:?}"), "spatial_avg_pool and temporal_avg_pool"));
    }
    let count = json.embed_dim.len();
    if !(1..=MAX_STAGES).contains(&count) {
        return Err(fault("embed_dim", format!("{count} stages"), "1 to 16"));
    }
    for (key, len) in [
        ("depths", json.depths.len()),
        ("patch_size", json.patch_size.len()),
        ("patch_stride", json.patch_stride.len()),
        ("patch_padding", json.patch_padding.len()),
        ("patch_prenorm", json.patch_prenorm.len()),
        ("num_heads", json.num_heads.len()),
        ("num_groups", json.num_groups.len()),
    ] {
        if len != count {
            return Err(fault(key, format!("{len} values"), &format!("as many as embed_dim has, {count}")));
        }
    }
    let positions = json.image_pos_embed.map_or(json.max_position_embeddings, |positions| positions.max_pos_embeddings);
    let times = json.visual_temporal_embedding.map_or(json.max_temporal_embeddings, |positions| positions.max_temporal_embeddings);
    let sizes = [
        ("window_size", json.window_size),
        ("projection_dim", json.projection_dim),
        ("max_position_embeddings", positions),
        ("max_temporal_embeddings", times),
    ];
    let lists = [
        ("depths", &json.depths),
        ("patch_size", &json.patch_size),
        ("patch_stride", &json.patch_stride),
        ("embed_dim", &json.embed_dim),
        ("num_heads", &json.num_heads),
        ("num_groups", &json.num_groups),
    ];
    for (key, size) in sizes.into_iter().chain(lists.iter().flat_map(|(key, list)| list.iter().map(|size| (*key, *size)))) {
        if !(1..=MAX_SIZE).contains(&size) {
            return Err(fault(key, size.to_string(), "1 to 65536"));
        }
    }
    if json.patch_padding.iter().any(|padding| *padding > MAX_SIZE) {
        return Err(fault("patch_padding", format!("{:?}", json.patch_padding), "at most 65536"));
    }
    if json.window_size > 128 {
        return Err(fault("window_size", json.window_size.to_string(), "at most 128"));
    }
    if !(json.mlp_ratio.is_finite() && (1.0 / 64.0..=64.0).contains(&json.mlp_ratio)) {
        return Err(fault("mlp_ratio", json.mlp_ratio.to_string(), "1/64 to 64"));
    }
    let Some(activation) = Activation::named(&json.activation_function) else {
        return Err(fault("activation_function", json.activation_function, Activation::NAMES));
    };
    if let Some(width) = json.embed_dim.iter().find(|width| (**width as f64 * json.mlp_ratio) < 1.0) {
        return Err(fault("mlp_ratio", json.mlp_ratio.to_string(), &format!("what makes 1 or more of each embed_dim, also of {width}")));
    }
    let mut stages = Vec::with_capacity(count);
    for i in 0..count {
        let (width, heads, groups) = (json.embed_dim[i], json.num_heads[i], json.num_groups[i]);
        for (key, parts) in [("num_heads", heads), ("num_groups", groups)] {
            if !width.is_multiple_of(parts) {
                return Err(fault("embed_dim", width.to_string(), &format!("a multiple of {key}, {parts}")));
            }
        }
        stages.push(StagePlan {
            width,
            heads,
            groups,
            depth: json.depths[i],
            window: Window { size: json.patch_size[i], stride: json.patch_stride[i], padding: json.patch_padding[i], dilation: 1 },
            norms_first: json.patch_prenorm[i],
            mlp: (width as f64 * json.mlp_ratio) as usize,
        });
    }
    Ok(DavitPlan {
        stages,
        window_size: json.window_size,
        qkv_bias: json.qkv_bias,
        activation,
        projection: json.projection_dim,
        positions,
        times,
    })
}

fn text(json: TextJson, fault: Fault) -> Built<BartPlan> {
    if json.model_type != "bart" && json.model_type != "florence2_language" {
        return Err(fault("model_type", json.model_type, "bart or florence2_language"));
    }
    for (key, other, name, value) in [
        ("hidden_size", json.hidden_size, "d_model", json.d_model),
        ("num_hidden_layers", json.num_hidden_layers, "encoder_layers", json.encoder_layers),
        ("num_attention_heads", json.num_attention_heads, "encoder_attention_heads", json.encoder_attention_heads),
    ] {
        if let Some(other) = other.filter(|other| *other != value) {
            return Err(fault(key, other.to_string(), &format!("{value}, as {name}, which is another name of it")));
        }
    }
    for (key, size) in [
        ("d_model", json.d_model),
        ("encoder_layers", json.encoder_layers),
        ("encoder_ffn_dim", json.encoder_ffn_dim),
        ("encoder_attention_heads", json.encoder_attention_heads),
        ("max_position_embeddings", json.max_position_embeddings),
    ] {
        if !(1..=MAX_SIZE).contains(&size) {
            return Err(fault(key, size.to_string(), "1 to 65536"));
        }
    }
    let (hidden, heads) = (json.d_model, json.encoder_attention_heads);
    if !hidden.is_multiple_of(heads) {
        return Err(fault("d_model", format!("{hidden} with {heads} heads"), "a multiple of encoder_attention_heads"));
    }
    let Some(activation) = Activation::named(&json.activation_function) else {
        return Err(fault("activation_function", json.activation_function, Activation::NAMES));
    };
    Ok(BartPlan {
        vocabulary: json.vocab_size,
        positions: json.max_position_embeddings,
        scales: json.scale_embedding,
        layers: json.encoder_layers,
        layer: EncoderPlan { names: EncoderNames::Bart, hidden, heads, mlp: json.encoder_ffn_dim, activation, eps: super::bart::EPS },
    })
}
