//! CLIP's vision encoder: a transformer over the patches of an image and a token that stands for all of it.

use candle_core::{Result, Tensor, bail};

use crate::nn::{Built, Conv, EncoderLayer, EncoderPlan, LayerNorm, Sight, Window};
use crate::weights::Loader;

/// What shapes the encoder.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct ClipVisionPlan {
    /// The side of the images in pixels.
    pub image_size: usize,
    /// The side of a patch in pixels, at most `image_size`.
    pub patch_size: usize,
    pub layers: usize,
    pub layer: EncoderPlan,
}

impl ClipVisionPlan {
    /// The token that stands for the image, and its patches.
    pub(crate) fn rows(&self) -> usize {
        1 + (self.image_size / self.patch_size).pow(2)
    }
}

/// The encoder with its weights.
#[derive(Debug)]
pub(crate) struct ClipVision {
    patch: Conv,
    /// What stands for the image before anything is known of it, `[1, hidden]`.
    whole: Tensor,
    /// `[rows, hidden]`
    positions: Tensor,
    first_norm: LayerNorm,
    layers: Vec<EncoderLayer>,
    image_size: usize,
}

impl ClipVision {
    /// Takes the tensors under `name`, such as `embeddings.class_embedding`.
    pub(crate) fn new(loader: &mut Loader, name: &str, plan: &ClipVisionPlan) -> Built<Self> {
        let ClipVisionPlan { image_size, patch_size, layers, layer } = *plan;
        let (hidden, eps) = (layer.hidden, layer.eps);
        let window = Window { size: patch_size, stride: patch_size, padding: 0, dilation: 1 };
        let whole = loader.tensor(&format!("{name}.embeddings.class_embedding"), &[hidden])?;
        Ok(Self {
            patch: Conv::new(loader, &format!("{name}.embeddings.patch_embedding"), [hidden, 3], window, false)?,
            whole: whole.unsqueeze(0).map_err(|e| loader.build_error(e))?,
            positions: loader.tensor(&format!("{name}.embeddings.position_embedding.weight"), &[plan.rows(), hidden])?,
            // The name is transformers'.
            first_norm: LayerNorm::new(loader, &format!("{name}.pre_layrnorm"), hidden, eps)?,
            layers: (0..layers).map(|i| EncoderLayer::new(loader, &format!("{name}.encoder.layers.{i}"), layer)).collect::<Built<_>>()?,
            image_size,
        })
    }

    /// What the last layer makes of the token that stands for the image, without the norm that may follow:
    /// from normalised `images [n, side, side, 3]` to `[n, hidden]`.
    pub(crate) fn run(&self, images: &Tensor) -> Result<Tensor> {
        let (n, height, width, _) = images.dims4()?;
        if [height, width] != [self.image_size; 2] {
            bail!("a vision encoder for images of {0}x{0} got {images:?}", self.image_size);
        }
        let one = |i: usize| {
            let patches = self.patch.run(&images.narrow(0, i, 1)?)?.flatten(0, 2)?;
            let mut x = self.first_norm.run(&(Tensor::cat(&[&self.whole, &patches], 0)? + &self.positions)?)?;
            for layer in &self.layers {
                x = layer.run(&x, Sight::All)?;
            }
            x.narrow(0, 0, 1)
        };
        Tensor::cat(&(0..n).map(one).collect::<Result<Vec<_>>>()?, 0)
    }
}
