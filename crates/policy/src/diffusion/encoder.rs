//! What Diffusion Policy sees: one vector of features for each image.

use candle_core::{Result, Tensor};

use super::config::DiffusionConfig;
use crate::nn::{Activation, Built, Linear};
use crate::vision::{Names, ResNet};
use crate::weights::Loader;

/// A ResNet's feature map, of which each keypoint is where one channel is largest (spatial softmax,
/// arXiv 1509.06113), and a layer over the keypoints.
#[derive(Debug)]
pub(crate) struct Encoder {
    backbone: ResNet,
    /// A convolution of size 1 to a channel for each keypoint.
    channels: Linear,
    /// x and y of each cell of the map, -1 to 1: `[cells, 2]`.
    grid: Tensor,
    out: Linear,
}

impl Encoder {
    /// For images of `size`, height and width.
    pub(crate) fn new(loader: &mut Loader, name: &str, config: &DiffusionConfig, size: [usize; 2]) -> Built<Self> {
        let backbone = ResNet::new(loader, &format!("{name}.backbone"), config.backbone, Names::Numbers, config.backbone_norm)?;
        let points = config.keypoints;
        let cells = config.backbone.map_size(size).into_iter().product();
        Ok(Self {
            channels: Linear::pointwise(loader, &format!("{name}.pool.nets"), [points, backbone.width])?,
            grid: loader.tensor(&format!("{name}.pool.pos_grid"), &[cells, 2])?,
            out: Linear::new(loader, &format!("{name}.out"), [2 * points, 2 * points])?,
            backbone,
        })
    }

    /// `images [n, h, w, 3]` to `[n, 2 * keypoints]`.
    pub(crate) fn run(&self, images: &Tensor) -> Result<Tensor> {
        let maps = self.backbone.run(images)?;
        let (n, h, w, width) = maps.dims4()?;
        let logits = self.channels.run(&maps.reshape((n * h * w, width))?)?.reshape((n, h * w, ()))?;
        let exp = logits.broadcast_sub(&logits.max_keepdim(1)?)?.exp()?;
        let shares = exp.broadcast_div(&exp.sum_keepdim(1)?)?;
        let points = shares.transpose(1, 2)?.contiguous()?.broadcast_matmul(&self.grid)?;
        self.out.run_then(&points.reshape((n, ()))?, Activation::Relu)
    }
}
