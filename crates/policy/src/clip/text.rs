//! CLIP's text encoder: a transformer in which each token looks at those before it; what it makes of the token
//! that ends a text stands for all of it.

use candle_core::{Result, Tensor, bail};

use crate::nn::{Built, Embedding, EncoderLayer, EncoderPlan, LayerNorm, Mask, Sight};
use crate::processor::Tokens;
use crate::weights::Loader;

/// What shapes the encoder.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct ClipTextPlan {
    pub vocabulary: usize,
    /// The most tokens of a text.
    pub positions: usize,
    pub end: End,
    pub layers: usize,
    pub layer: EncoderPlan,
}

/// Which token stands for the text; of several the first.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum End {
    /// This one, or where it is not there the first of all.
    Token(u32),
    /// That of the greatest number.
    Greatest,
}

impl End {
    fn position(self, ids: &[u32]) -> usize {
        let end = match self {
            Self::Token(id) => Some(id),
            Self::Greatest => ids.iter().copied().max(),
        };
        ids.iter().position(|id| Some(*id) == end).unwrap_or(0)
    }
}

/// The encoder with its weights.
#[derive(Debug)]
pub(crate) struct ClipText {
    embedding: Embedding,
    /// `[positions, hidden]`
    positions: Tensor,
    layers: Vec<EncoderLayer>,
    norm: LayerNorm,
    end: End,
}

impl ClipText {
    /// Takes the tensors under `name`, such as `embeddings.token_embedding.weight`.
    pub(crate) fn new(loader: &mut Loader, name: &str, plan: &ClipTextPlan) -> Built<Self> {
        let ClipTextPlan { vocabulary, positions, end, layers, layer } = *plan;
        let (hidden, eps) = (layer.hidden, layer.eps);
        Ok(Self {
            embedding: Embedding::new(loader, &format!("{name}.embeddings.token_embedding.weight"), [vocabulary, hidden])?,
            positions: loader.tensor(&format!("{name}.embeddings.position_embedding.weight"), &[positions, hidden])?,
            layers: (0..layers).map(|i| EncoderLayer::new(loader, &format!("{name}.encoder.layers.{i}"), layer)).collect::<Built<_>>()?,
            norm: LayerNorm::new(loader, &format!("{name}.final_layer_norm"), hidden, eps)?,
            end,
        })
    }

    /// The features of a text, `[1, hidden]`.
    pub(crate) fn run(&self, Tokens { ids, mask }: &Tokens) -> Result<Tensor> {
        let most = self.positions.dim(0)?;
        if ids.is_empty() || ids.len() > most {
            bail!("a text of {} tokens, padding included; expected 1 to {most}", ids.len());
        }
        let end = self.end.position(ids);
        // Nothing after the end is looked at, and no padding before it.
        let kept: Vec<u32> = (0..=end).filter(|at| mask[*at] || *at == end).map(|at| at as u32).collect();
        let n = kept.len();
        let tokens: Vec<u32> = kept.iter().map(|at| ids[*at as usize]).collect();
        let positions = self.positions.index_select(&Tensor::from_vec(kept, n, self.positions.device())?, 0)?;
        let mut x = (self.embedding.run(&tokens)? + positions)?;
        let earlier = Mask::new(n, n, x.device(), |i, j| j <= i)?;
        // Where padding on the left is the token that ends a text, its first stands for the text and looks at nothing.
        let sight = if mask[end] { Sight::Some(&earlier) } else { Sight::Nothing };
        for layer in &self.layers {
            x = layer.run(&x, sight)?;
        }
        self.norm.run(&x.narrow(0, n - 1, 1)?)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_token_that_ends_a_text_stands_for_it() {
        assert_eq!(End::Token(9).position(&[1, 4, 9, 9, 9]), 2);
        assert_eq!(End::Token(9).position(&[1, 4, 5]), 0);
        assert_eq!(End::Greatest.position(&[1, 4, 7, 7, 2]), 2);
        assert_eq!(End::Greatest.position(&[]), 0);
    }
}
