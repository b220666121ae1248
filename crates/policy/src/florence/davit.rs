//! DaViT (Ding et al. 2022, arXiv 2204.03645): stages of a finer to a coarser map of an image, in whose blocks the
//! places of a window, then the channels of a group look at each other.

use candle_core::{Result, Tensor, bail};

use super::Layout;
use super::bart::EPS;
use crate::nn::{Activation, Built, Conv, Depthwise, Heads, LayerNorm, Linear, Window, add, attend};
use crate::weights::Loader;

/// What shapes the network.
#[derive(Clone, Debug)]
pub(crate) struct DavitPlan {
    /// One or more.
    pub stages: Vec<StagePlan>,
    /// Places along a side of a window.
    pub window_size: usize,
    pub qkv_bias: bool,
    pub activation: Activation,
    /// The width of the tokens that become of the map.
    pub projection: usize,
    /// The most places along a side of the map.
    pub positions: usize,
    /// Entries of the table of times.
    pub times: usize,
}

#[derive(Clone, Debug)]
pub(crate) struct StagePlan {
    pub width: usize,
    /// Each divides `width`.
    pub heads: usize,
    pub groups: usize,
    pub depth: usize,
    /// Of the convolution that makes the map coarser.
    pub window: Window,
    /// Whether its input is normalised, rather than its answer.
    pub norms_first: bool,
    pub mlp: usize,
}

impl DavitPlan {
    /// Features of a place of the last map.
    pub(crate) fn width(&self) -> usize {
        self.stages.last().map_or(0, |stage| stage.width)
    }

    /// Places down and across of the last map of an image, and the most of any; `None` where a window is larger
    /// than what it is to look at.
    pub(crate) fn places(&self, image: [usize; 2]) -> Option<([usize; 2], usize)> {
        let mut most = 0;
        let last = self.stages.iter().try_fold(image, |size, stage| {
            let size = size.map(|side| stage.window.count(side));
            most = most.max(size[0] * size[1]);
            (size[0] * size[1] > 0).then_some(size)
        });
        last.map(|last| (last, most))
    }
}

#[derive(Debug)]
pub(super) struct Davit {
    stages: Vec<Stage>,
}

#[derive(Debug)]
struct Stage {
    conv: Conv,
    norm: LayerNorm,
    norms_first: bool,
    blocks: Vec<[Block; 2]>,
}

/// A half of a block: attention of one kind, and a feed-forward layer, before each of which every place sees its
/// neighbours.
#[derive(Debug)]
struct Block {
    first: Depthwise,
    first_norm: LayerNorm,
    inputs: Linear,
    output: Linear,
    second: Depthwise,
    second_norm: LayerNorm,
    rise: Linear,
    fall: Linear,
    activation: Activation,
    kind: Kind,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kind {
    /// Places of a window, with so many along a side, in so many heads.
    Spatial { side: usize, heads: usize },
    /// Channels of so many groups.
    Channels { groups: usize },
}

impl Davit {
    /// Takes the tensors under `name`, such as `convs.0.conv.weight`.
    pub(super) fn new(loader: &mut Loader, name: &str, plan: &DavitPlan, layout: Layout) -> Built<Self> {
        let mut stages = Vec::with_capacity(plan.stages.len());
        let mut width = 3;
        for (i, stage) in plan.stages.iter().enumerate() {
            let conv = if layout == Layout::Original { "proj" } else { "conv" };
            let conv = Conv::new(loader, &format!("{name}.convs.{i}.{conv}"), [stage.width, width], stage.window, true)?;
            let norm = if stage.norms_first { width } else { stage.width };
            let norm = LayerNorm::new(loader, &format!("{name}.convs.{i}.norm"), norm, EPS)?;
            let mut blocks = Vec::new();
            for j in 0..stage.depth {
                let mut block = |kind| Block::new(loader, &format!("{name}.blocks.{i}.{j}"), plan, stage, kind, layout);
                let spatial = Kind::Spatial { side: plan.window_size, heads: stage.heads };
                blocks.push([block(spatial)?, block(Kind::Channels { groups: stage.groups })?]);
            }
            stages.push(Stage { conv, norm, norms_first: stage.norms_first, blocks });
            width = stage.width;
        }
        Ok(Self { stages })
    }

    /// From a normalised image `[1, h, w, 3]` to a map of its features, `[1, h', w', width]`.
    pub(super) fn run(&self, image: &Tensor) -> Result<Tensor> {
        let mut x = image.clone();
        for Stage { conv, norm, norms_first, blocks } in &self.stages {
            x = if *norms_first { conv.run(&on_places(&x, |x| norm.run(x))?)? } else { on_places(&conv.run(&x)?, |x| norm.run(x))? };
            for block in blocks.iter().flatten() {
                x = block.run(&x)?;
            }
        }
        Ok(x)
    }
}

/// `work` on the places of a map `[1, h, w, c]` as rows.
fn on_places(map: &Tensor, work: impl FnOnce(&Tensor) -> Result<Tensor>) -> Result<Tensor> {
    let (one, h, w, c) = map.dims4()?;
    work(&map.reshape((one * h * w, c))?)?.reshape((one, h, w, ()))
}

impl Block {
    fn new(loader: &mut Loader, name: &str, plan: &DavitPlan, stage: &StagePlan, kind: Kind, layout: Layout) -> Built<Self> {
        let (half, attention) = match kind {
            Kind::Spatial { .. } => ("spatial_block", "window_attn"),
            Kind::Channels { .. } => ("channel_block", "channel_attn"),
        };
        let [first, first_norm, attention, second, second_norm, feed_forward] = match layout {
            Layout::Native => ["conv1", "norm1", attention, "conv2", "norm2", "ffn"].map(str::to_owned),
            Layout::Original => [
                "conv1.fn.dw".into(),
                format!("{attention}.norm"),
                format!("{attention}.fn"),
                "conv2.fn.dw".into(),
                "ffn.norm".into(),
                "ffn.fn.net".into(),
            ],
        }
        .map(|part| format!("{name}.{half}.{part}"));
        let (width, neighbours) = (stage.width, Window::new(3, 1, 1));
        let inputs = format!("{attention}.qkv");
        let inputs = Linear::side_by_side(loader, &[(&inputs, 3 * width)], width, plan.qkv_bias)?;
        Ok(Self {
            first: Depthwise::new(loader, &first, width, neighbours)?,
            first_norm: LayerNorm::new(loader, &first_norm, width, EPS)?,
            inputs,
            output: Linear::new(loader, &format!("{attention}.proj"), [width, width])?,
            second: Depthwise::new(loader, &second, width, neighbours)?,
            second_norm: LayerNorm::new(loader, &second_norm, width, EPS)?,
            rise: Linear::new(loader, &format!("{feed_forward}.fc1"), [stage.mlp, width])?,
            fall: Linear::new(loader, &format!("{feed_forward}.fc2"), [width, stage.mlp])?,
            activation: plan.activation,
            kind,
        })
    }

    /// `x [1, h, w, width]`
    fn run(&self, x: &Tensor) -> Result<Tensor> {
        let (_, h, w, _) = x.dims4()?;
        let x = on_places(&add(&self.first.run(x)?, x)?, |x| {
            let normed = self.first_norm.run(x)?;
            match self.kind {
                Kind::Spatial { side, heads } => self.in_windows(&normed, x, [h, w], side, heads),
                Kind::Channels { groups } => self.in_groups(&normed, x, groups),
            }
        })?;
        on_places(&add(&self.second.run(&x)?, &x)?, |x| {
            self.fall.run_onto(&self.rise.run_then(&self.second_norm.run(x)?, self.activation)?, x)
        })
    }

    /// Attention among the places of each window of `x [h * w, width]`, added to `skip`. At the right and below,
    /// windows are filled up with zeros, which are looked at.
    fn in_windows(&self, x: &Tensor, skip: &Tensor, [h, w]: [usize; 2], side: usize, heads: usize) -> Result<Tensor> {
        let width = x.dim(1)?;
        let (down, across) = (h.div_ceil(side), w.div_ceil(side));
        let (rows, columns) = (down * side, across * side);
        let padded = x.reshape((h, w, width))?.pad_with_zeros(0, 0, rows - h)?.pad_with_zeros(1, 0, columns - w)?;
        let windows = padded.reshape(&[down, side, across, side, width][..])?.permute([0, 2, 1, 3, 4])?.contiguous()?;
        let inputs = self.inputs.run(&windows.reshape((rows * columns, width))?)?;
        let places = side * side;
        let one = |i: usize| {
            let window = inputs.narrow(0, i * places, places)?;
            let part = |j: usize| window.narrow(1, j * width, width);
            attend(&part(0)?, &part(1)?, &part(2)?, Heads { query: heads, key: heads }, None)
        };
        let windows = Tensor::cat(&(0..down * across).map(one).collect::<Result<Vec<_>>>()?, 0)?;
        let map = windows.reshape(&[down, across, side, side, width][..])?.permute([0, 2, 1, 3, 4])?.contiguous()?;
        let map = map.reshape((rows, columns, width))?.narrow(0, 0, h)?.narrow(1, 0, w)?.contiguous()?;
        self.output.run_onto(&map.reshape((h * w, width))?, skip)
    }

    /// Attention among the channels of each group, added to `skip`: a channel is what it is at all places of
    /// `x [n, width]`.
    fn in_groups(&self, x: &Tensor, skip: &Tensor, groups: usize) -> Result<Tensor> {
        let (n, width) = x.dims2()?;
        if groups == 0 || !width.is_multiple_of(groups) {
            bail!("{groups} groups of {width} channels");
        }
        let channels = width / groups;
        // A group is a head, its channels are the rows, and the places their entries.
        let inputs = self.inputs.run(x)?;
        let part = |i: usize| {
            let part = inputs.narrow(1, i * width, width)?.t()?.reshape((groups, channels, n))?;
            part.transpose(0, 1)?.contiguous()?.reshape((channels, groups * n))
        };
        let attended = attend(&part(0)?, &part(1)?, &part(2)?, Heads { query: groups, key: groups }, None)?;
        let attended = attended.reshape((channels, groups, n))?.permute((2, 1, 0))?.contiguous()?;
        self.output.run_onto(&attended.reshape((n, width))?, skip)
    }
}
