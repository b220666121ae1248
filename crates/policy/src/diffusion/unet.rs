//! Diffusion Policy's network: a U-Net of convolutions over the rows of the trajectory, in which each
//! residual block is modulated by the diffusion step and the observation (FiLM, arXiv 1709.07871).

use candle_core::{Result, Tensor};

use super::config::DiffusionConfig;
use crate::denoise::step_embeddings;
use crate::nn::{Activation, Built, Conv1d, ConvTranspose1d, GroupNorm, Linear, add, each_of, multiply};
use crate::weights::Loader;

/// Groups of the last norm, whatever the configuration says of the others.
pub(crate) const FINAL_GROUPS: usize = 8;

#[derive(Debug)]
pub(crate) struct Unet {
    step_dim: usize,
    /// The two layers over the embedded diffusion step.
    step: [Linear; 2],
    /// The modulations of all blocks side by side.
    film: Linear,
    down: Vec<([ResidualBlock; 2], Option<Conv1d>)>,
    middle: [ResidualBlock; 2],
    up: Vec<([ResidualBlock; 2], ConvTranspose1d)>,
    last_block: ConvBlock,
    last: Linear,
}

/// Collects the residual blocks' modulations while they are built.
struct Films {
    /// Names and widths.
    layers: Vec<(String, usize)>,
    width: usize,
}

impl Unet {
    /// `observed` is the width of the observation's features.
    pub(crate) fn new(loader: &mut Loader, config: &DiffusionConfig, observed: usize) -> Built<Self> {
        // torch.compile writes its own name into the weights'.
        let compiled = "diffusion.unet._orig_mod";
        let root = if loader.has(&format!("{compiled}.final_conv.1.weight")) { compiled } else { "diffusion.unet" };
        let dims = &config.down_dims;
        let (first_dim, last_dim) = (dims[0], dims[dims.len() - 1]);
        let step_dim = config.diffusion_step_embed_dim;
        let step = [
            Linear::new(loader, &format!("{root}.diffusion_step_encoder.1"), [4 * step_dim, step_dim])?,
            Linear::new(loader, &format!("{root}.diffusion_step_encoder.3"), [step_dim, 4 * step_dim])?,
        ];
        let mut films = Films { layers: Vec::new(), width: 0 };
        let mut pair = |loader: &mut Loader, name: String, [n_out, n_in]: [usize; 2], indices: [usize; 2]| -> Built<_> {
            let [first, second] = indices.map(|i| format!("{name}.{i}"));
            Ok([
                ResidualBlock::new(loader, config, &mut films, &first, [n_out, n_in])?,
                ResidualBlock::new(loader, config, &mut films, &second, [n_out, n_out])?,
            ])
        };
        let mut down = Vec::new();
        let mut width = config.action_width;
        for (i, dim) in dims.iter().copied().enumerate() {
            let name = format!("{root}.down_modules.{i}");
            let blocks = pair(loader, name.clone(), [dim, width], [0, 1])?;
            let is_last = i + 1 == dims.len();
            let halve = if is_last { None } else { Some(Conv1d::new(loader, &format!("{name}.2"), [dim, dim, 3], 2, 1)?) };
            down.push((blocks, halve));
            width = dim;
        }
        let middle = pair(loader, format!("{root}.mid_modules"), [last_dim, last_dim], [0, 1])?;
        let mut up = Vec::new();
        for (i, neighbours) in dims.windows(2).rev().enumerate() {
            let (n_out, n_in) = (neighbours[0], neighbours[1]);
            let name = format!("{root}.up_modules.{i}");
            let blocks = pair(loader, name.clone(), [n_out, 2 * n_in], [0, 1])?;
            up.push((blocks, ConvTranspose1d::new(loader, &format!("{name}.2"), [n_out, n_out, 4], 2, 1)?));
        }
        let layers: Vec<(&str, usize)> = films.layers.iter().map(|(name, width)| (name.as_str(), *width)).collect();
        Ok(Self {
            step_dim,
            step,
            film: Linear::side_by_side(loader, &layers, step_dim + observed, true)?,
            down,
            middle,
            up,
            last_block: ConvBlock::new(loader, &format!("{root}.final_conv.0"), [first_dim, first_dim, config.kernel_size], FINAL_GROUPS)?,
            last: Linear::pointwise(loader, &format!("{root}.final_conv.1"), [config.action_width, first_dim], 1)?,
        })
    }

    /// How every block is modulated at each of some diffusion steps `[timesteps.len(), width]`, with
    /// the observation's features `observed [1, n]`.
    pub(crate) fn modulations(&self, timesteps: &[f32], observed: &Tensor) -> Result<Tensor> {
        let embedded = step_embeddings(timesteps, self.step_dim, observed.device())?;
        let [rise, fall] = &self.step;
        let steps = fall.run(&rise.run_then(&embedded, Activation::Mish)?)?;
        let observed = observed.broadcast_as((timesteps.len(), observed.dim(1)?))?;
        self.film.run(&Activation::Mish.run(&Tensor::cat(&[steps, observed.contiguous()?], 1)?)?)
    }

    /// Some trajectories below each other, `x [n rows, width]`, to the network's answers of the same shape; `modulation` is
    /// one row of [`modulations`](Self::modulations) for each of them.
    pub(crate) fn run(&self, x: &Tensor, modulation: &Tensor) -> Result<Tensor> {
        let both = |x: &Tensor, [first, second]: &[ResidualBlock; 2]| second.run(&first.run(x, modulation)?, modulation);
        let count = modulation.dim(0)?;
        let mut x = x.clone();
        let mut skips = Vec::new();
        for (blocks, halve) in &self.down {
            x = both(&x, blocks)?;
            skips.push(x.clone());
            if let Some(halve) = halve {
                x = halve.run(&x, count)?;
            }
        }
        x = both(&x, &self.middle)?;
        for ((blocks, double), skip) in self.up.iter().zip(skips.iter().rev()) {
            x = double.run(&both(&Tensor::cat(&[&x, skip], 1)?, blocks)?, count)?;
        }
        self.last.run(&self.last_block.run(&x, count)?)
    }
}

/// A convolution that keeps the length, group norm, Mish.
#[derive(Debug)]
struct ConvBlock {
    conv: Conv1d,
    norm: GroupNorm,
}

impl ConvBlock {
    /// `size` is odd.
    fn new(loader: &mut Loader, name: &str, [n_out, n_in, size]: [usize; 3], groups: usize) -> Built<Self> {
        Ok(Self {
            conv: Conv1d::new(loader, &format!("{name}.block.0"), [n_out, n_in, size], 1, size / 2)?,
            norm: GroupNorm::new(loader, &format!("{name}.block.1"), n_out, groups)?,
        })
    }

    /// `x` is `count` sequences below each other.
    fn run(&self, x: &Tensor, count: usize) -> Result<Tensor> {
        each_of(&self.conv.run(x, count)?, count, |_, x| self.norm.run_then(x, Activation::Mish))
    }
}

#[derive(Debug)]
struct ResidualBlock {
    first: ConvBlock,
    second: ConvBlock,
    /// Where the input is not as wide as the answer.
    residual: Option<Linear>,
    /// Where in a row of modulations this block's begins: scales, if it has them, then shifts.
    film: usize,
    scales: bool,
    width: usize,
}

impl ResidualBlock {
    fn new(loader: &mut Loader, config: &DiffusionConfig, films: &mut Films, name: &str, [n_out, n_in]: [usize; 2]) -> Built<Self> {
        let scales = config.use_film_scale_modulation;
        let film = films.width;
        let film_width = if scales { 2 * n_out } else { n_out };
        films.layers.push((format!("{name}.cond_encoder.1"), film_width));
        films.width += film_width;
        let (size, groups) = (config.kernel_size, config.n_groups);
        let residual =
            (n_in != n_out).then(|| Linear::pointwise(loader, &format!("{name}.residual_conv"), [n_out, n_in], 1)).transpose()?;
        Ok(Self {
            first: ConvBlock::new(loader, &format!("{name}.conv1"), [n_out, n_in, size], groups)?,
            second: ConvBlock::new(loader, &format!("{name}.conv2"), [n_out, n_out, size], groups)?,
            residual,
            film,
            scales,
            width: n_out,
        })
    }

    /// `x [n rows, in]` to `[n rows, out]`, with `n` rows of modulations.
    fn run(&self, x: &Tensor, modulation: &Tensor) -> Result<Tensor> {
        let count = modulation.dim(0)?;
        let modulated = each_of(&self.first.run(x, count)?, count, |sequence, y| {
            let row = modulation.narrow(0, sequence, 1)?;
            let film = |index: usize| row.narrow(1, self.film + index * self.width, self.width);
            let y = if self.scales { multiply(y, &film(0)?)? } else { y.clone() };
            add(&y, &film(usize::from(self.scales))?)
        })?;
        let y = self.second.run(&modulated, count)?;
        match &self.residual {
            Some(residual) => residual.run_onto(x, &y),
            None => add(x, &y),
        }
    }
}
