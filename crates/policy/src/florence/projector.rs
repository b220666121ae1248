//! From a map of an image's features to its tokens among those of a text.

use candle_core::{Result, Tensor, bail};

use super::Layout;
use super::bart::EPS;
use super::davit::DavitPlan;
use crate::nn::{Built, LayerNorm, Linear, add};
use crate::weights::Loader;

#[derive(Debug)]
pub(super) struct Projector {
    projection: Linear,
    norm: LayerNorm,
    /// Of columns and of rows, which stand side by side in this order: `[positions, width - width / 2]` and
    /// `[positions, width / 2]`.
    columns: Tensor,
    rows: Tensor,
    /// Of the first of several images in time, `[1, width]`.
    first: Tensor,
}

impl Projector {
    pub(super) fn new(loader: &mut Loader, name: &str, plan: &DavitPlan, layout: Layout) -> Built<Self> {
        let (width, out) = (plan.width(), plan.projection);
        let (part, positions, projection) = match layout {
            Layout::Native => {
                let part = format!("{name}.multi_modal_projector");
                let projection = Linear::without_bias(loader, &format!("{part}.image_projection"), [out, width])?;
                (part, "image_position_embed", projection)
            }
            // The other way round.
            Layout::Original => {
                let weight = loader.tensor(&format!("{name}.image_projection"), &[width, out])?;
                let projection = if loader.is_dry() {
                    Linear::stand_in(out, loader)?
                } else {
                    weight.t().and_then(|weight| Linear::from_tensors(&weight.contiguous()?, None)).map_err(|e| loader.build_error(e))?
                };
                (name.to_owned(), "image_pos_embed", projection)
            }
        };
        let times = loader.tensor(&format!("{part}.visual_temporal_embed.pos_idx_to_embed"), &[plan.times, width])?;
        Ok(Self {
            projection,
            norm: LayerNorm::new(loader, &format!("{part}.image_proj_norm"), out, EPS)?,
            columns: loader.tensor(&format!("{part}.{positions}.column_embeddings.weight"), &[plan.positions, width - width / 2])?,
            rows: loader.tensor(&format!("{part}.{positions}.row_embeddings.weight"), &[plan.positions, width / 2])?,
            first: times.narrow(0, 0, 1).map_err(|e| loader.build_error(e))?,
        })
    }

    /// A map `[1, h, w, width]` to a token for all of it, then one for each of its places, row by row:
    /// `[1 + h * w, out]`.
    pub(super) fn run(&self, map: &Tensor) -> Result<Tensor> {
        let (_, h, w, width) = map.dims4()?;
        if h.max(w) > self.columns.dim(0)? {
            bail!("an image becomes a map of {w}x{h} places, expected at most {} a side", self.columns.dim(0)?);
        }
        let across = self.columns.narrow(0, 0, w)?.unsqueeze(0)?.broadcast_as((h, w, width - width / 2))?;
        let down = self.rows.narrow(0, 0, h)?.unsqueeze(1)?.broadcast_as((h, w, width / 2))?;
        let positions = Tensor::cat(&[across.contiguous()?, down.contiguous()?], 2)?.reshape((h * w, width))?;
        let places = add(&add(&map.reshape((h * w, width))?, &positions)?, &self.first)?;
        let tokens = Tensor::cat(&[places.mean_keepdim(0)?, places], 0)?;
        self.norm.run(&self.projection.run(&tokens)?)
    }
}
