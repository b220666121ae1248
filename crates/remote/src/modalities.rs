//! What a policy of GR00T's service wants and answers, as its `get_modality_config` says it.

use serde::Serialize;

use crate::codec::{Limits, Value, decode, message_of_json};
use crate::fit::Fit;
use crate::keys::{Key, KeyMap};

/// The inputs and outputs of a policy, by kind.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Modalities {
    pub video: Modality,
    pub state: Modality,
    pub language: Modality,
    pub action: Modality,
    /// Whether observations are maps by kind, with a batch in front of each array: from N1.6 on. Before that all keys are in one map.
    pub is_batched: bool,
}

/// The keys of one kind, and of which ticks they are, counted from now.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub struct Modality {
    pub keys: Vec<String>,
    pub ticks: Vec<i64>,
}

impl Modalities {
    /// # Errors
    /// What the answer is instead, in words.
    pub(crate) fn read(answer: &[u8]) -> Result<Self, String> {
        let value = decode(answer, Limits::default()).map_err(|error| format!("what it says of its policy: {error}"))?;
        let mut is_batched = true;
        let mut one = |kind: &str| {
            let Some(config) = value.get(kind).and_then(|config| config.get("as_json")) else { return Ok(Modality::default()) };
            // A text in the service before N1.6.
            let Some(json) = config.text() else { return Modality::read(config) };
            is_batched = false;
            let message = message_of_json(json.as_bytes(), Limits::default())?;
            Modality::read(&decode(&message, Limits::default()).map_err(|error| error.to_string())?)
        };
        let [video, state, language, action] = ["video", "state", "language", "action"].map(&mut one);
        let read = Self { video: video?, state: state?, language: language?, action: action?, is_batched };
        if read.action.keys.is_empty() || read.video.keys.is_empty() && read.state.keys.is_empty() {
            return Err("it does not say what its policy wants, as GR00T's service does at get_modality_config".into());
        }
        Ok(read)
    }

    /// Observations that are looked at together.
    pub(crate) fn n_obs_steps(&self) -> usize {
        self.video.ticks.len().max(self.state.ticks.len()).max(1)
    }

    /// Compares with what `keys` have for it.
    pub(crate) fn compare(&self, keys: &KeyMap, fit: &mut Fit) {
        for (kind, modality) in [("video", &self.video), ("state", &self.state), ("language", &self.language)] {
            for key in &modality.keys {
                let path = if self.is_batched { vec![kind.to_owned(), key.clone()] } else { vec![key.clone()] };
                let known: Vec<&Key> = match kind {
                    "video" => keys.images.iter().map(|image| &image.key).collect(),
                    "state" => keys.states.iter().map(|state| &state.key).collect(),
                    _ => keys.prompt.iter().collect(),
                };
                let found = known.iter().any(|key| key.path() == path);
                if !found {
                    fit.row(path.join("/"), "wanted", "not in the key map", false);
                }
            }
        }
        for key in keys.actions.iter().filter(|key| !self.action.keys.contains(key)) {
            fit.row(format!("action {key}"), format!("it answers {}", self.action.keys.join(", ")), "in the key map", false);
        }
        if keys.actions.is_empty() {
            fit.row("actions", self.action.keys.join(", "), "no actions = [...] in the key map", false);
        }
        let steps = self.n_obs_steps();
        let consecutive: Vec<i64> = (1 - steps as i64..=0).collect();
        for (kind, modality) in [("video", &self.video), ("state", &self.state)] {
            if !modality.keys.is_empty() && modality.ticks != consecutive {
                let ticks: Vec<String> = modality.ticks.iter().map(i64::to_string).collect();
                fit.row(format!("{kind} ticks"), ticks.join(", "), format!("the newest {steps}, for video and state alike"), false);
            }
        }
    }
}

impl Modality {
    fn read(config: &Value<'_>) -> Result<Self, String> {
        let list = |key: &str| match config.get(key) {
            Some(Value::List(items)) => Ok(items),
            _ => Err(format!("it has no list {key}, as GR00T's ModalityConfig has")),
        };
        let keys: Option<Vec<String>> = list("modality_keys")?.iter().map(|key| key.text().map(str::to_owned)).collect();
        let whole = |tick: &Value<'_>| if let Value::Int(tick) = tick { i64::try_from(*tick).ok() } else { None };
        let ticks: Option<Vec<i64>> = list("delta_indices")?.iter().map(whole).collect();
        keys.zip(ticks)
            .map(|(keys, ticks)| Self { keys, ticks })
            .ok_or_else(|| "a ModalityConfig of other things than keys and ticks".into())
    }
}
