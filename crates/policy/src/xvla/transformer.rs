//! The transformer over actions, what was read, and prompts that were learned for each domain: a kind of robot.

use candle_core::{Device, Result, Tensor, bail};

use super::config::XvlaConfig;
use crate::denoise::waves;
use crate::nn::{Activation, Built, Embedding, EncoderLayer, EncoderNames, EncoderPlan, LayerNorm, Linear, Sight, add};
use crate::weights::Loader;

/// What the layer norms add to the variance.
const EPS: f64 = 1e-5;

/// The longest period of the time's waves, in radians for each unit of time.
const LONGEST: f64 = 100.0;

#[derive(Debug)]
pub(super) struct Transformer {
    domains: usize,
    text: Projection,
    images: Projection,
    /// `[max_len_seq, hidden]`
    positions: Tensor,
    encoder: DomainLinear,
    decoder: DomainLinear,
    /// For each domain `prompts * hidden` numbers, where there are prompts.
    prompts: Option<Embedding>,
    layers: Vec<EncoderLayer>,
    norm: LayerNorm,
    hidden: usize,
    action_width: usize,
    time_width: usize,
    device: Device,
}

/// The layers and prompts of one domain.
pub(super) struct Domain {
    id: u32,
    encoder: Linear,
    decoder: Linear,
    /// `[prompts, hidden]`
    prompts: Option<Tensor>,
}

/// The layer from what was read to the transformer.
#[derive(Debug)]
enum Projection {
    Shared(Linear),
    Own(DomainLinear),
}

impl Projection {
    fn new(loader: &mut Loader, name: &str, size: [usize; 2], domains: Option<usize>) -> Built<Self> {
        match domains {
            None => Linear::new(loader, name, size).map(Self::Shared),
            Some(domains) => DomainLinear::new(loader, name, size, domains).map(Self::Own),
        }
    }

    fn run(&self, x: &Tensor, domain: u32) -> Result<Tensor> {
        match self {
            Self::Shared(layer) => layer.run(x),
            Self::Own(layer) => layer.of(domain)?.run(x),
        }
    }
}

/// A linear layer of which each domain has its own. They stay in the file until they are used.
#[derive(Debug)]
struct DomainLinear {
    weights: Embedding,
    biases: Embedding,
    n_in: usize,
    n_out: usize,
    device: Device,
}

impl DomainLinear {
    /// Takes `<name>.fc.weight [domains, in * out]` and `<name>.bias.weight [domains, out]`.
    fn new(loader: &mut Loader, name: &str, [n_out, n_in]: [usize; 2], domains: usize) -> Built<Self> {
        Ok(Self {
            weights: Embedding::new(loader, &format!("{name}.fc.weight"), [domains, n_in * n_out])?,
            biases: Embedding::new(loader, &format!("{name}.bias.weight"), [domains, n_out])?,
            n_in,
            n_out,
            device: loader.device().clone(),
        })
    }

    fn of(&self, domain: u32) -> Result<Linear> {
        let weight = self.weights.run(&[domain])?.to_device(&self.device)?.reshape((self.n_in, self.n_out))?;
        Linear::from_tensors(&weight.t()?.contiguous()?, Some(self.biases.run(&[domain])?.flatten_all()?))
    }
}

impl Transformer {
    pub(super) fn new(loader: &mut Loader, name: &str, config: &XvlaConfig) -> Built<Self> {
        let XvlaConfig { hidden_size: hidden, num_domains: domains, dim_time, depth, .. } = *config;
        let read = config.florence.text.layer.hidden;
        let own = config.use_hetero_proj.then_some(domains);
        let layer = EncoderPlan {
            names: EncoderNames::Timm,
            hidden,
            heads: config.num_heads,
            mlp: config.mlp,
            activation: Activation::GeluTanh,
            eps: EPS,
        };
        let (width, prompts) = (config.actions.model_width, config.len_soft_prompts * hidden);
        let positions = loader.tensor(&format!("{name}.pos_emb"), &[1, config.max_len_seq, hidden])?;
        Ok(Self {
            domains,
            text: Projection::new(loader, &format!("{name}.vlm_proj"), [hidden, read], own)?,
            images: Projection::new(loader, &format!("{name}.aux_visual_proj"), [hidden, read], own)?,
            positions: positions.squeeze(0).map_err(|e| loader.build_error(e))?,
            encoder: DomainLinear::new(loader, &format!("{name}.action_encoder"), [hidden, width + dim_time + config.proprio], domains)?,
            decoder: DomainLinear::new(loader, &format!("{name}.action_decoder"), [width, hidden], domains)?,
            prompts: (prompts > 0)
                .then(|| Embedding::new(loader, &format!("{name}.soft_prompt_hub.weight"), [domains, prompts]))
                .transpose()?,
            layers: (0..depth).map(|i| EncoderLayer::new(loader, &format!("{name}.blocks.{i}"), layer)).collect::<Built<_>>()?,
            norm: LayerNorm::new(loader, &format!("{name}.norm"), hidden, EPS)?,
            hidden,
            action_width: width,
            time_width: dim_time,
            device: loader.device().clone(),
        })
    }

    /// # Errors
    /// When there is none of that number.
    pub(super) fn domain(&self, domain: usize) -> Result<Domain> {
        let Some(id) = u32::try_from(domain).ok().filter(|_| domain < self.domains) else {
            bail!("the domain is {domain} (xvla_add_domain_id), expected 0 to {} (num_domains)", self.domains - 1);
        };
        let prompts = self.prompts.as_ref().map(|table| table.run(&[id])?.reshape(((), self.hidden))).transpose()?;
        Ok(Domain { id, encoder: self.encoder.of(id)?, decoder: self.decoder.of(id)?, prompts })
    }

    /// What does not change from step to step: the rows of what was read, `text [n, width]` and
    /// `images [m, width]`, `[n + m, hidden]`.
    pub(super) fn context(&self, domain: &Domain, text: &Tensor, images: &Tensor) -> Result<Tensor> {
        let text = self.text.run(text, domain.id)?;
        if images.dim(0)? == 0 {
            return Ok(text);
        }
        Tensor::cat(&[text, self.images.run(images, domain.id)?], 0)
    }

    /// The actions without noise, as wide as the model's and row-major, of `noisy` ones at a `time` of 1 to 0.
    pub(super) fn run(&self, domain: &Domain, context: &Tensor, noisy: &[f32], state: &[f32], time: f32) -> Result<Vec<f32>> {
        let half = self.time_width / 2;
        let slow = (-LONGEST.ln()) as f32;
        let frequencies: Vec<f32> = (0..half).map(|i| (slow * i as f32 / half as f32).exp()).collect();
        let mut told = state.to_vec();
        told.extend(waves(&[time], &frequencies, [f32::cos, f32::sin]));
        told.resize(state.len() + self.time_width, 0.0);
        let rows = noisy.chunks_exact(self.action_width);
        let count = rows.len();
        let tokens: Vec<f32> = rows.flat_map(|row| row.iter().chain(&told)).copied().collect();
        let x = domain.encoder.run(&Tensor::from_vec(tokens, (count, ()), &self.device)?)?;
        let x = Tensor::cat(&[&x, context], 0)?;
        let (n, most) = (x.dim(0)?, self.positions.dim(0)?);
        if n > most {
            bail!("{n} rows of actions, text and images, expected at most {most} (max_len_seq)");
        }
        let mut x = add(&x, &self.positions.narrow(0, 0, n)?)?;
        if let Some(prompts) = &domain.prompts {
            x = Tensor::cat(&[&x, prompts], 0)?;
        }
        for layer in &self.layers {
            x = layer.run(&x, Sight::All)?;
        }
        domain.decoder.run(&self.norm.run(&x.narrow(0, 0, count)?)?)?.flatten_all()?.to_vec1()
    }
}
