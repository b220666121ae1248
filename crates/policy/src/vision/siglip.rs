//! SigLIP's vision tower (Zhai et al. 2023, arXiv 2303.15343): a transformer over the patches of an
//! image.

use candle_core::{Result, Tensor, bail};

use crate::nn::{Activation, Built, Conv, EncoderLayer, EncoderNames, EncoderPlan, LayerNorm, Sight, Window};
use crate::weights::Loader;

/// What shapes a tower.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct SigLipPlan {
    /// The side of the images that the learned positions are for, in pixels.
    pub image_size: usize,
    /// The side of a patch in pixels.
    pub patch_size: usize,
    pub hidden: usize,
    pub layers: usize,
    /// Divides `hidden`.
    pub heads: usize,
    /// The width of the feed-forward layers.
    pub mlp: usize,
    /// What the layer norms add to the variance.
    pub eps: f64,
    pub positions: PatchPositions,
}

/// Which learned position a patch gets.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum PatchPositions {
    /// Its own: images have exactly the tower's size.
    Fixed,
    /// That of the patch at the same place of an image of the tower's size, as in SmolVLM, whose
    /// images may have any size.
    Scaled,
}

/// The tower with its weights.
#[derive(Debug)]
pub(crate) struct SigLip {
    patch: Conv,
    patch_size: usize,
    /// `[side * side, hidden]`
    table: Tensor,
    side: usize,
    rule: PatchPositions,
    layers: Vec<EncoderLayer>,
    norm: LayerNorm,
}

impl SigLipPlan {
    /// Patches along a side of an image of the tower's size.
    pub(crate) fn side(&self) -> usize {
        self.image_size / self.patch_size
    }
}

impl SigLip {
    /// Takes the tensors under `name`, such as `embeddings.patch_embedding.weight`.
    pub(crate) fn new(loader: &mut Loader, name: &str, plan: &SigLipPlan) -> Built<Self> {
        let SigLipPlan { patch_size, hidden, eps, .. } = *plan;
        let window = Window { size: patch_size, stride: patch_size, padding: 0, dilation: 1 };
        let patch = Conv::new(loader, &format!("{name}.embeddings.patch_embedding"), [hidden, 3], window, true)?;
        let side = plan.side();
        let table = loader.tensor(&format!("{name}.embeddings.position_embedding.weight"), &[side * side, hidden])?;
        let layer =
            EncoderPlan { names: EncoderNames::Clip, hidden, heads: plan.heads, mlp: plan.mlp, activation: Activation::GeluTanh, eps };
        let layers =
            (0..plan.layers).map(|i| EncoderLayer::new(loader, &format!("{name}.encoder.layers.{i}"), layer)).collect::<Built<_>>()?;
        let norm = LayerNorm::new(loader, &format!("{name}.post_layernorm"), hidden, eps)?;
        Ok(Self { patch, patch_size, table, side, rule: plan.positions, layers, norm })
    }

    /// From an image `[1, height, width, 3]` in -1..1 to its patches, row by row:
    /// `[patches, hidden]`.
    pub(crate) fn run(&self, image: &Tensor) -> Result<Tensor> {
        let (one, height, width, _) = image.dims4()?;
        let (rows, columns) = (height / self.patch_size, width / self.patch_size);
        if one != 1 || rows * columns == 0 {
            bail!("a vision tower with patches of {0}x{0} takes one image at least as large, found {image:?}", self.patch_size);
        }
        let patches = self.patch.run(image)?.reshape((rows * columns, ()))?;
        let mut x = (patches + self.positions(rows, columns)?)?;
        for layer in &self.layers {
            x = layer.run(&x, Sight::All)?;
        }
        self.norm.run(&x)
    }

    /// `[rows * columns, hidden]`
    fn positions(&self, rows: usize, columns: usize) -> Result<Tensor> {
        let side = self.side;
        match self.rule {
            PatchPositions::Fixed if [rows, columns] == [side; 2] => Ok(self.table.clone()),
            PatchPositions::Fixed => bail!("an image of {columns}x{rows} patches, expected {side}x{side}"),
            PatchPositions::Scaled => {
                let (down, across) = (scaled(rows, side), scaled(columns, side));
                let ids: Vec<u32> = down.iter().flat_map(|y| across.iter().map(move |x| y * side as u32 + x)).collect();
                self.table.index_select(&Tensor::from_vec(ids, rows * columns, self.table.device())?, 0)
            }
        }
    }
}

/// For each of `count` patches along an axis, which of `side` fields its upper edge falls into. The
/// arithmetic is the reference's, rounding included: where `side` is no power of two, an edge that
/// falls on a boundary may be counted to either field.
fn scaled(count: usize, side: usize) -> Vec<u32> {
    let field = 1.0 / side as f64;
    let boundaries: Vec<f32> = (0..((1.0 - field) / field).ceil() as usize).map(|i| (field + i as f64 * field) as f32).collect();
    let step = 1.0 / count as f32;
    let index = |i: usize| {
        let edge = (i as f32 * step).min(1.0 - 1e-6);
        boundaries.partition_point(|boundary| *boundary <= edge).min(side - 1) as u32
    };
    (0..count).map(index).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn positions_scale_with_the_image() {
        assert_eq!(scaled(4, 4), [0, 1, 2, 3]);
        assert_eq!(scaled(2, 4), [0, 2]);
        assert_eq!(scaled(8, 4), [0, 0, 1, 1, 2, 2, 3, 3]);
        assert_eq!(scaled(32, 32), (0..32).collect::<Vec<_>>());
        assert_eq!(scaled(1, 1), [0]);
    }
}
