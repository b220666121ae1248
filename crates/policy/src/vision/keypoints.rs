//! Images as points in them: what Diffusion Policy and VQ-BeT see.

use candle_core::{Result, Tensor};

use super::{Names, Norm, ResNet, ResNetPlan, resize_and_crop};
use crate::nn::{Activation, Built, Linear};
use crate::weights::Loader;

/// What shapes a [`KeypointEncoder`] and what happens to its images before.
#[derive(Clone, Debug)]
pub(crate) struct KeypointPlan {
    /// Height and width to resize to.
    pub resize: Option<[usize; 2]>,
    /// Height and width of the middle that is left after that.
    pub crop: Option<[usize; 2]>,
    pub backbone: ResNetPlan,
    pub norm: Norm,
    pub keypoints: usize,
}

impl KeypointPlan {
    /// Height and width of what the backbone sees of images of `size`.
    pub(crate) fn seen(&self, size: [usize; 2]) -> [usize; 2] {
        self.crop.or(self.resize).unwrap_or(size)
    }

    /// How many features an image gives.
    pub(crate) fn width(&self) -> usize {
        2 * self.keypoints
    }

    /// Whether inference has no use for `tensor` of the encoder: what batch norms count in training.
    pub(crate) fn knows_unused(&self, tensor: &str) -> bool {
        self.norm == Norm::Batch && tensor.ends_with(".num_batches_tracked")
    }

    /// `images [n, h, w, 3]` as the encoder takes them.
    pub(crate) fn prepare(&self, images: &Tensor) -> Result<Tensor> {
        resize_and_crop(images, self.resize, self.crop)
    }
}

/// A ResNet's feature map, of which each keypoint is where one channel is largest (spatial softmax,
/// arXiv 1509.06113), and a layer over the keypoints.
#[derive(Debug)]
pub(crate) struct KeypointEncoder {
    backbone: ResNet,
    /// A convolution of size 1 to a channel for each keypoint.
    channels: Linear,
    /// x and y of each cell of the map, -1 to 1: `[cells, 2]`.
    grid: Tensor,
    out: Linear,
}

impl KeypointEncoder {
    /// For images of `size`, height and width, before they are prepared.
    pub(crate) fn new(loader: &mut Loader, name: &str, plan: &KeypointPlan, size: [usize; 2]) -> Built<Self> {
        let backbone = ResNet::new(loader, &format!("{name}.backbone"), plan.backbone, Names::Numbers, plan.norm)?;
        let cells = plan.backbone.map_size(plan.seen(size)).into_iter().product();
        Ok(Self {
            channels: Linear::pointwise(loader, &format!("{name}.pool.nets"), [plan.keypoints, backbone.width], 2)?,
            grid: loader.tensor(&format!("{name}.pool.pos_grid"), &[cells, 2])?,
            out: Linear::new(loader, &format!("{name}.out"), [plan.width(), plan.width()])?,
            backbone,
        })
    }

    /// Prepared `images [n, h, w, 3]` to `[n, width]`.
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
