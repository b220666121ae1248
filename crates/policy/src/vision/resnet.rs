//! torchvision's ResNets up to their last feature map, channels last, with batch norms folded into
//! the convolutions. Widths come from the tensors.

use candle_core::{Result, Tensor};

use crate::nn::{Built, Conv, GroupNorm, Window, max_pool};
use crate::weights::Loader;

/// What PyTorch's `BatchNorm2d` and torchvision's `FrozenBatchNorm2d` add to the variance.
const BATCH_NORM_EPS: f32 = 1e-5;

/// What the name of a ResNet says about it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct ResNetPlan {
    blocks: [usize; 4],
    bottleneck: bool,
    /// The last stage keeps its resolution and dilates instead.
    dilate: bool,
}

impl ResNetPlan {
    /// `None` for names that are no ResNet, and for the two that torchvision can't dilate.
    pub(crate) fn new(name: &str, dilate: bool) -> Option<Self> {
        let (blocks, bottleneck) = match name {
            "resnet18" => ([2, 2, 2, 2], false),
            "resnet34" => ([3, 4, 6, 3], false),
            "resnet50" => ([3, 4, 6, 3], true),
            "resnet101" => ([3, 4, 23, 3], true),
            "resnet152" => ([3, 8, 36, 3], true),
            _ => return None,
        };
        (bottleneck || !dilate).then_some(Self { blocks, bottleneck, dilate })
    }

    /// Height and width of the feature map for an image.
    pub(crate) fn map_size(&self, image: [usize; 2]) -> [usize; 2] {
        image.map(|n| {
            let stem = POOL.count(STEM.count(n));
            let halvings = if self.dilate { 2 } else { 3 };
            (0..halvings).fold(stem, |n, _| Window::new(3, 2, 1).count(n))
        })
    }
}

const STEM: Window = Window { size: 7, stride: 2, padding: 3, dilation: 1 };
const POOL: Window = Window { size: 3, stride: 2, padding: 1, dilation: 1 };

/// How the tensors of a ResNet are called.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Names {
    /// `conv1`, `bn1`, `layer1` to `layer4`.
    Words,
    /// The same modules counted, as children of a `Sequential`: `0`, `1`, `4` to `7`.
    Numbers,
}

impl Names {
    fn stem(self, name: &str) -> [String; 2] {
        match self {
            Self::Words => ["conv1", "bn1"],
            Self::Numbers => ["0", "1"],
        }
        .map(|part| format!("{name}.{part}"))
    }

    /// `stage` counts from 0.
    fn block(self, name: &str, stage: usize, index: usize) -> String {
        match self {
            Self::Words => format!("{name}.layer{}.{index}", stage + 1),
            Self::Numbers => format!("{name}.{}.{index}", stage + 4),
        }
    }
}

/// What follows each convolution.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Norm {
    Batch,
    /// A group for every 16 channels, rounded down.
    Group,
}

/// Convolutions in a row with ReLU between them, around which the (downsampled) input is added.
#[derive(Debug)]
struct Block {
    /// All but the last.
    convs: Vec<NormedConv>,
    last: NormedConv,
    downsample: Option<NormedConv>,
}

#[derive(Debug)]
pub(crate) struct ResNet {
    stem: NormedConv,
    blocks: Vec<Block>,
    /// Channels of the feature map.
    pub(crate) width: usize,
}

impl ResNet {
    pub(crate) fn new(loader: &mut Loader, name: &str, plan: ResNetPlan, names: Names, norm: Norm) -> Built<Self> {
        let [stem, stem_norm] = names.stem(name);
        let [mut width, ..] = loader.shape::<4>(&format!("{stem}.weight"))?;
        let stem = NormedConv::new(loader, &stem, &stem_norm, norm, [width, 3], STEM)?;
        let mut blocks = Vec::new();
        for (stage, count) in plan.blocks.into_iter().enumerate() {
            let dilate = plan.dilate && stage == 3;
            for index in 0..count {
                let name = names.block(name, stage, index);
                let stride = if index == 0 && stage > 0 && !dilate { 2 } else { 1 };
                // torchvision dilates from the stage's second block on.
                let spread = Window::new(3, stride, if dilate && index > 0 { 2 } else { 1 });
                let (point, plain) = (Window::new(1, 1, 1), Window::new(3, 1, 1));
                let windows = if plan.bottleneck { vec![point, spread, point] } else { vec![spread, plain] };
                let mut convs = Vec::new();
                let mut n_in = width;
                for (i, window) in (1..).zip(windows) {
                    let [n_out, ..] = loader.shape::<4>(&format!("{name}.conv{i}.weight"))?;
                    let (conv, bn) = (format!("{name}.conv{i}"), format!("{name}.bn{i}"));
                    convs.push(NormedConv::new(loader, &conv, &bn, norm, [n_out, n_in], window)?);
                    n_in = n_out;
                }
                let downsample = if stride != 1 || n_in != width {
                    let (conv, bn) = (format!("{name}.downsample.0"), format!("{name}.downsample.1"));
                    Some(NormedConv::new(loader, &conv, &bn, norm, [n_in, width], Window::new(1, stride, 1))?)
                } else {
                    None
                };
                let Some(last) = convs.pop() else { continue };
                blocks.push(Block { convs, last, downsample });
                width = n_in;
            }
        }
        Ok(Self { stem, blocks, width })
    }

    /// `x [n, h, w, 3]` to `[n, h', w', width]`.
    pub(crate) fn run(&self, x: &Tensor) -> Result<Tensor> {
        let mut x = self.stem.run_relu_pooled(x)?;
        for block in &self.blocks {
            x = block.run(&x)?;
        }
        Ok(x)
    }
}

impl Block {
    fn run(&self, x: &Tensor) -> Result<Tensor> {
        let skip = match &self.downsample {
            Some(conv) => conv.run(x)?,
            None => x.clone(),
        };
        let mut y = x.clone();
        for conv in &self.convs {
            y = conv.run_relu(&y)?;
        }
        self.last.run_onto_relu(&y, &skip)
    }
}

/// A convolution and the norm after it, which is part of the convolution where it can be.
#[derive(Debug)]
struct NormedConv {
    conv: Conv,
    norm: Option<GroupNorm>,
}

impl NormedConv {
    /// Takes `<conv>.weight [out, in, k, k]` and `<norm_name>.*`.
    fn new(loader: &mut Loader, conv: &str, norm_name: &str, norm: Norm, [n_out, n_in]: [usize; 2], window: Window) -> Built<Self> {
        match norm {
            Norm::Batch => Ok(Self { conv: folded(loader, conv, norm_name, [n_out, n_in], window)?, norm: None }),
            Norm::Group => {
                let conv = Conv::new(loader, conv, [n_out, n_in], window, false)?;
                let groups = n_out / CHANNELS_PER_GROUP;
                if groups == 0 || !n_out.is_multiple_of(groups) {
                    return Err(loader.build_error(candle_core::Error::Msg(format!(
                        "the {n_out} channels of {norm_name} make no equal groups of about {CHANNELS_PER_GROUP}"
                    ))));
                }
                Ok(Self { conv, norm: Some(GroupNorm::new(loader, norm_name, n_out, groups)?) })
            }
        }
    }

    fn run(&self, x: &Tensor) -> Result<Tensor> {
        match &self.norm {
            None => self.conv.run(x),
            Some(norm) => normed(norm, &self.conv.run(x)?),
        }
    }

    /// The same with negative values cut.
    fn run_relu(&self, x: &Tensor) -> Result<Tensor> {
        match &self.norm {
            None => self.conv.run_relu(x),
            Some(_) => self.run(x)?.relu(),
        }
    }

    /// The largest values under [`POOL`] of the same.
    fn run_relu_pooled(&self, x: &Tensor) -> Result<Tensor> {
        match &self.norm {
            None => self.conv.run_relu_pooled(x, POOL),
            Some(_) => max_pool(&self.run_relu(x)?, POOL),
        }
    }

    /// The answer added to `skip`, with negative values cut.
    fn run_onto_relu(&self, x: &Tensor, skip: &Tensor) -> Result<Tensor> {
        match &self.norm {
            None => self.conv.run_onto_relu(x, skip),
            Some(_) => (self.run(x)? + skip)?.relu(),
        }
    }
}

const CHANNELS_PER_GROUP: usize = 16;

/// Each image of `x [n, h, w, c]` normalised by itself.
fn normed(norm: &GroupNorm, x: &Tensor) -> Result<Tensor> {
    let (n, h, w, c) = x.dims4()?;
    let rows = x.reshape((n, h * w, c))?;
    let images = (0..n).map(|i| norm.run(&rows.get(i)?)).collect::<Result<Vec<_>>>()?;
    Tensor::stack(&images, 0)?.reshape((n, h, w, c))
}

/// The convolution `<conv>.weight [out, in, k, k]` followed by the batch norm `<norm>.*`, as one.
fn folded(loader: &mut Loader, conv: &str, norm: &str, [n_out, n_in]: [usize; 2], window: Window) -> Built<Conv> {
    let mut stat = |what: &str| loader.vector(&format!("{norm}.{what}"), n_out);
    let (scale, shift, mean, variance) = (stat("weight")?, stat("bias")?, stat("running_mean")?, stat("running_var")?);
    let scale: Vec<f32> = scale.iter().zip(&variance).map(|(scale, variance)| scale / (variance + BATCH_NORM_EPS).sqrt()).collect();
    let bias: Vec<f32> = shift.iter().zip(&mean).zip(&scale).map(|((shift, mean), scale)| shift - mean * scale).collect();
    Conv::scaled(loader, conv, [n_out, n_in], window, Some(&scale), &bias)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn feature_maps_are_a_thirty_second_of_the_image_rounded_up() {
        let plan = ResNetPlan::new("resnet18", false).unwrap();
        assert_eq!(plan.map_size([96, 128]), [3, 4]);
        assert_eq!(plan.map_size([480, 640]), [15, 20]);
        assert_eq!(plan.map_size([97, 1]), [4, 1]);
        let dilated = ResNetPlan::new("resnet50", true).unwrap();
        assert_eq!(dilated.map_size([96, 128]), [6, 8]);
        assert!(ResNetPlan::new("resnet18", true).is_none());
        assert!(ResNetPlan::new("resnext50_32x4d", false).is_none());
    }
}
