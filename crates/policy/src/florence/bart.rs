//! BART's encoder (Lewis et al. 2019, arXiv 1910.13461).

use candle_core::{Result, Tensor, bail};

use super::Layout;
use crate::nn::{Built, Embedding, EncoderLayer, EncoderPlan, LayerNorm, Sight, add};
use crate::weights::Loader;

/// What the layer norms add to the variance.
pub(super) const EPS: f64 = 1e-5;

/// Entries of the table of positions before that of the first.
const OFFSET: usize = 2;

#[derive(Clone, Debug)]
pub(crate) struct BartPlan {
    pub vocabulary: usize,
    /// The most rows.
    pub positions: usize,
    /// Whether the tokens' features are multiplied by the root of their number.
    pub scales: bool,
    pub layers: usize,
    pub layer: EncoderPlan,
}

#[derive(Debug)]
pub(super) struct BartEncoder {
    embedding: Embedding,
    scale: Option<f64>,
    /// `[OFFSET + positions, hidden]`
    positions: Tensor,
    norm: LayerNorm,
    layers: Vec<EncoderLayer>,
}

impl BartEncoder {
    /// Takes the tensors under `name`, such as `encoder.layers.0.fc1.weight`.
    pub(super) fn new(loader: &mut Loader, name: &str, plan: &BartPlan, layout: Layout) -> Built<Self> {
        let name = if layout == Layout::Original { format!("{name}.model") } else { name.to_owned() };
        let BartPlan { vocabulary, positions, scales, layers, layer } = *plan;
        let hidden = layer.hidden;
        // Two names of one table, of which safetensors keeps one.
        let [table, other] = ["encoder.embed_tokens", "shared"].map(|part| format!("{name}.{part}.weight"));
        let table = if !loader.has(&table) && loader.has(&other) { other } else { table };
        Ok(Self {
            embedding: Embedding::new(loader, &table, [vocabulary, hidden])?,
            scale: scales.then(|| (hidden as f64).sqrt()),
            positions: loader.tensor(&format!("{name}.encoder.embed_positions.weight"), &[OFFSET + positions, hidden])?,
            norm: LayerNorm::new(loader, &format!("{name}.encoder.layernorm_embedding"), hidden, EPS)?,
            layers: (0..layers).map(|i| EncoderLayer::new(loader, &format!("{name}.encoder.layers.{i}"), layer)).collect::<Built<_>>()?,
        })
    }

    /// The features of tokens, `[ids.len(), hidden]`.
    pub(super) fn embed(&self, ids: &[u32]) -> Result<Tensor> {
        let rows = self.embedding.run(ids)?;
        self.scale.map_or(Ok(rows.clone()), |scale| rows * scale)
    }

    /// Rows of features `x [n, hidden]` to as many.
    pub(super) fn run(&self, x: &Tensor) -> Result<Tensor> {
        let (n, most) = (x.dim(0)?, self.positions.dim(0)? - OFFSET);
        if n > most {
            bail!(
                "an image and a text of {n} tokens together, padding included; expected at most {most} (text_config.max_position_embeddings)"
            );
        }
        let mut x = self.norm.run(&add(x, &self.positions.narrow(0, OFFSET, n)?)?)?;
        for layer in &self.layers {
            x = layer.run(&x, Sight::All)?;
        }
        Ok(x)
    }
}
