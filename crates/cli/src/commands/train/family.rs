//! What LeRobot 0.6.1's policies need of a dataset.
//!
//! Of its `policies/*/configuration_*.py`: `validate_features`, `normalization_mapping`, `max_state_dim` and
//! `max_action_dim`, `drop_n_last_frames`; what models and processors demand beyond that is named at the field.

use crate::args::Misuse;

/// What images there must be.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Images {
    /// One camera, or `observation.environment_state`.
    OneOrEnvironment,
    ExactlyOne,
    /// At most one, and that a square one.
    OneSquareAtMost,
    AtLeastOne,
    Any,
}

/// How numbers are scaled, which says what statistics there must be.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Norm {
    Identity,
    MeanStd,
    MinMax,
    Quantiles,
    Quantile10,
}

impl Norm {
    /// By LeRobot's name for it.
    pub fn named(name: &str) -> Option<Self> {
        [Self::Identity, Self::MeanStd, Self::MinMax, Self::Quantiles, Self::Quantile10].into_iter().find(|norm| norm.name() == name)
    }

    pub fn name(self) -> &'static str {
        match self {
            Self::Identity => "IDENTITY",
            Self::MeanStd => "MEAN_STD",
            Self::MinMax => "MIN_MAX",
            Self::Quantiles => "QUANTILES",
            Self::Quantile10 => "QUANTILE10",
        }
    }

    /// The keys of stats.json that it needs.
    pub fn keys(self) -> &'static [&'static str] {
        match self {
            Self::Identity => &[],
            Self::MeanStd => &["mean", "std"],
            Self::MinMax => &["min", "max"],
            Self::Quantiles => &["q01", "q99"],
            Self::Quantile10 => &["q10", "q90"],
        }
    }
}

/// A family as LeRobot's `--policy.type` has it.
#[derive(Clone, Copy, Debug)]
pub struct Family {
    pub name: &'static str,
    pub images: Images,
    /// Whether all cameras must give images of one size.
    pub same_size: bool,
    /// Whether `observation.state` must be there: its model or its processor reads it unasked.
    pub needs_state: bool,
    /// The widest state and action that it takes.
    pub widest: Option<(u64, u64)>,
    /// The only widths of state and action that it takes, unless its words for them are given (its `validate_features`).
    pub exact: Option<[(&'static str, u64); 2]>,
    pub state: Norm,
    pub action: Norm,
    /// Frames at the end of each episode that it can't learn from.
    pub drops: u64,
    /// Whether it reads the task's words.
    pub reads_task: bool,
    /// The extra of LeRobot's package that it needs, and a module that this brings.
    pub extra: Option<(&'static str, &'static str)>,
    /// What most begin with.
    pub base: Option<&'static str>,
}

const PLAIN: Family = Family {
    name: "",
    images: Images::AtLeastOne,
    same_size: false,
    needs_state: false,
    widest: None,
    exact: None,
    state: Norm::MeanStd,
    action: Norm::MeanStd,
    drops: 0,
    reads_task: false,
    extra: None,
    base: None,
};

const VLA: Family = Family { reads_task: true, ..PLAIN };

/// Those that `lerobot-train` trains from a dataset.
pub const FAMILIES: [Family; 18] = [
    // Its encoder asks the state for its device, whatever the inputs.
    Family { name: "act", images: Images::OneOrEnvironment, needs_state: true, ..PLAIN },
    Family {
        name: "diffusion",
        images: Images::OneOrEnvironment,
        same_size: true,
        needs_state: true,
        state: Norm::MinMax,
        action: Norm::MinMax,
        drops: 7,
        extra: Some(("diffusion", "diffusers")),
        ..PLAIN
    },
    Family { name: "vqbet", images: Images::ExactlyOne, needs_state: true, state: Norm::MinMax, action: Norm::MinMax, ..PLAIN },
    Family { name: "tdmpc", images: Images::OneSquareAtMost, state: Norm::Identity, action: Norm::MinMax, ..PLAIN },
    Family {
        name: "multi_task_dit",
        images: Images::Any,
        same_size: true,
        needs_state: true,
        state: Norm::MinMax,
        action: Norm::MinMax,
        // horizon - n_action_steps - n_obs_steps + 1
        drops: 7,
        extra: Some(("multi-task-dit", "transformers")),
        ..VLA
    },
    Family {
        name: "smolvla",
        needs_state: true,
        widest: Some((32, 32)),
        extra: Some(("smolvla", "transformers")),
        base: Some("lerobot/smolvla_base"),
        ..VLA
    },
    Family { name: "pi0", needs_state: true, widest: Some((32, 32)), extra: PI, base: Some("lerobot/pi0_base"), ..VLA },
    Family {
        name: "pi05",
        needs_state: true,
        widest: Some((32, 32)),
        state: Norm::Quantiles,
        action: Norm::Quantiles,
        extra: PI,
        base: Some("lerobot/pi05_base"),
        ..VLA
    },
    Family { name: "pi0_fast", needs_state: true, widest: Some((32, 32)), extra: PI, base: Some("lerobot/pi0fast-base"), ..VLA },
    Family {
        name: "groot",
        widest: Some((132, 132)),
        state: Norm::Identity,
        action: Norm::Identity,
        drops: 39,
        extra: Some(("groot", "transformers")),
        ..VLA
    },
    Family {
        name: "xvla",
        needs_state: true,
        widest: Some((32, 20)),
        state: Norm::Identity,
        action: Norm::Identity,
        extra: Some(("xvla", "transformers")),
        base: Some("lerobot/xvla-base"),
        ..VLA
    },
    Family { name: "wall_x", widest: Some((20, 20)), extra: Some(("wallx", "transformers")), ..VLA },
    Family { name: "eo1", widest: Some((32, 32)), extra: Some(("eo1", "transformers")), ..VLA },
    Family {
        name: "evo1",
        widest: Some((24, 24)),
        state: Norm::MinMax,
        action: Norm::MinMax,
        images: Images::Any,
        extra: Some(("evo1", "transformers")),
        ..VLA
    },
    Family { name: "fastwam", exact: Some([("proprio_dim", 8), ("action_dim", 7)]), extra: Some(("fastwam", "transformers")), ..VLA },
    Family { name: "lingbot_va", state: Norm::Identity, action: Norm::Identity, extra: Some(("lingbot-va", "transformers")), ..VLA },
    Family {
        name: "molmoact2",
        // The state becomes text, as long as it may be.
        widest: Some((u64::MAX, 32)),
        state: Norm::Quantiles,
        action: Norm::Quantiles,
        extra: Some(("molmoact2", "transformers")),
        ..VLA
    },
    Family { name: "vla_jepa", action: Norm::MinMax, extra: Some(("vla-jepa", "transformers")), ..VLA },
];

const PI: Option<(&str, &str)> = Some(("pi", "transformers"));

impl Family {
    pub fn named(name: &str) -> anyhow::Result<Self> {
        let found = FAMILIES.into_iter().find(|family| family.name == name);
        found.ok_or_else(|| {
            let names: Vec<&str> = FAMILIES.iter().map(|family| family.name).collect();
            Misuse(format!("choosing the family {name:?}: lerobot-train of 0.6.1 knows {}", names.join(", "))).into()
        })
    }
}
