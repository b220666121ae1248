//! What a deployment says of its policy, and what a client has to agree to: features field by field, rate, modes.

use crate::codec::{Packer, Value};

/// How answers follow each other.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Mode {
    /// Each answer stands for itself.
    Chunk,
    /// An answer is bent towards the rest of the one before.
    Guided,
    /// An answer goes on from rows of the one before, which the model was trained for.
    Trained,
}

const MODES: [(Mode, &str); 3] = [(Mode::Chunk, "chunk"), (Mode::Guided, "rtc_guided"), (Mode::Trained, "rtc_trained")];

impl Mode {
    pub fn name(self) -> &'static str {
        MODES.iter().find(|(mode, _)| *mode == self).map_or("", |(_, name)| name)
    }

    pub fn of(name: &str) -> Option<Self> {
        MODES.iter().find(|(_, known)| *known == name).map(|(mode, _)| *mode)
    }
}

/// Values that both sides call the same.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Feature {
    pub name: String,
    pub shape: Vec<usize>,
    /// By numpy's name.
    pub dtype: String,
    /// An image `[height, width, 3]`; else an array.
    pub is_image: bool,
    /// Of the components; none where they have none.
    pub names: Vec<String>,
    /// What the numbers mean, in words that both sides know.
    pub semantics: String,
}

/// What a deployment offers. Two that are equal are as good as one.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Contract {
    pub artifact: String,
    pub semantics: String,
    pub modes: Vec<Mode>,
    /// Rows of an answer in the modes that continue.
    pub prediction_steps: usize,
    /// Rows of an answer in the mode chunk.
    pub execution_steps: usize,
    /// Between two rows, seconds.
    pub action_interval: f64,
    pub features: Vec<Feature>,
    pub action: Feature,
    /// Rows that the mode trained can be given.
    pub training_max_delay: usize,
    pub current_observation_only: bool,
    /// Of the model's own actions, where it is another than the action's.
    pub model_width: Option<usize>,
}

/// So many rows are no chunk.
const MOST_ROWS: usize = 4096;

fn text(value: &Value<'_>, key: &str) -> Result<String, String> {
    match value.get(key) {
        Some(Value::Str(text)) => Ok((*text).to_owned()),
        other => Err(format!("{} for {key}, expected a text", other.map_or("nothing".into(), Value::kind))),
    }
}

fn count(value: &Value<'_>, key: &str) -> Result<usize, String> {
    let found = value.get(key);
    found
        .and_then(Value::count)
        .ok_or_else(|| format!("{} for {key}, expected a whole number", found.map_or("nothing".into(), Value::kind)))
}

fn texts(value: &Value<'_>, key: &str) -> Result<Vec<String>, String> {
    let Some(Value::List(items)) = value.get(key) else { return Err(format!("no list {key}")) };
    items.iter().map(|item| if let Value::Str(text) = item { Ok((*text).to_owned()) } else { Err(format!("no texts in {key}")) }).collect()
}

impl Feature {
    fn in_words(&self) -> String {
        let names = if self.names.is_empty() { String::new() } else { format!(" ({})", self.names.join(", ")) };
        format!("{}: {} {:?}{names}, {:?}", self.name, self.dtype, self.shape, self.semantics)
    }

    fn read(value: &Value<'_>) -> Result<Self, String> {
        let Some(Value::List(sides)) = value.get("shape") else { return Err("a feature without a list shape".into()) };
        let shape: Option<Vec<usize>> = sides.iter().map(|side| side.count().filter(|side| (1..=16_384).contains(side))).collect();
        let kind = text(value, "kind")?;
        let feature = Self {
            name: text(value, "name")?,
            shape: shape.ok_or("a feature with other sides than 1 to 16384")?,
            dtype: text(value, "dtype")?,
            is_image: kind == "rgb",
            names: texts(value, "names")?,
            semantics: text(value, "semantics")?,
        };
        let is_whole = match (&*kind, &feature.shape[..]) {
            ("rgb", [_, _, 3]) => feature.dtype == "uint8",
            ("tensor", shape) => shape.len() <= 4,
            _ => false,
        };
        let has_names = feature.names.is_empty() || feature.shape == [feature.names.len()];
        if !is_whole || !has_names || feature.name.is_empty() {
            return Err(format!("the feature {:?} of the kind {kind} with {} {:?}", feature.name, feature.dtype, feature.shape));
        }
        Ok(feature)
    }

    pub fn pack(&self, packer: &mut Packer) {
        packer.map(6);
        packer.str("name");
        packer.str(&self.name);
        packer.str("shape");
        packer.list(self.shape.len());
        self.shape.iter().for_each(|side| packer.int(*side as i64));
        packer.str("dtype");
        packer.str(&self.dtype);
        packer.str("kind");
        packer.str(if self.is_image { "rgb" } else { "tensor" });
        packer.str("names");
        pack_texts(packer, &self.names);
        packer.str("semantics");
        packer.str(&self.semantics);
    }
}

pub(crate) fn pack_texts<T: AsRef<str>>(packer: &mut Packer, texts: &[T]) {
    packer.list(texts.len());
    texts.iter().for_each(|text| packer.str(text.as_ref()));
}

impl Contract {
    /// What a descriptor, or the acceptance of a session, says.
    ///
    /// # Errors
    /// What is missing in it, in words.
    pub fn read(body: &Value<'_>) -> Result<Self, String> {
        let said = body.get("capabilities").ok_or("no capabilities")?;
        let Some(Value::List(features)) = said.get("features") else { return Err("no list features".into()) };
        let modes = texts(said, "modes")?;
        let contract = Self {
            artifact: text(body, "artifact_identity")?,
            semantics: text(body, "semantics")?,
            // A mode that is not known here is none to choose.
            modes: modes.iter().filter_map(|name| Mode::of(name)).collect(),
            prediction_steps: count(said, "prediction_steps")?,
            execution_steps: count(said, "execution_steps")?,
            action_interval: said.get("action_interval").and_then(Value::number).unwrap_or(0.0),
            features: features.iter().map(Feature::read).collect::<Result<_, _>>()?,
            action: Feature::read(said.get("action_feature").ok_or("no action_feature")?)?,
            training_max_delay: said.get("training_max_delay").and_then(Value::count).unwrap_or(0),
            current_observation_only: said.get("current_observation_only") != Some(&Value::Bool(false)),
            model_width: said.get("model_action_dim").and_then(Value::count),
        };
        let steps = (contract.execution_steps, contract.prediction_steps);
        if !(1..=contract.prediction_steps).contains(&steps.0) || steps.1 > MOST_ROWS {
            return Err(format!("{} rows to execute of {}, expected 1 to {MOST_ROWS}", steps.0, steps.1));
        }
        if !(contract.action_interval.is_finite() && contract.action_interval > 0.0) {
            return Err(format!("{} s between two actions, expected more than 0", contract.action_interval));
        }
        let [width] = contract.action.shape[..] else { return Err("an action that is no list of numbers".into()) };
        if contract.action.dtype != "float32" || contract.model_width.is_some_and(|model| model < width) {
            return Err(format!("an action of {}, expected float32, no wider than the model's own", contract.action.dtype));
        }
        Ok(contract)
    }

    /// Values of an action.
    pub fn width(&self) -> usize {
        self.action.shape.first().copied().unwrap_or(0)
    }

    /// Rows of an answer.
    pub fn rows(&self, mode: Mode) -> usize {
        if mode == Mode::Chunk { self.execution_steps } else { self.prediction_steps }
    }

    /// Whole actions a second; `None` where it is no such number.
    pub fn rate_hz(&self) -> Option<usize> {
        let rate = self.action_interval.recip();
        let whole = rate.round();
        ((rate / whole - 1.0).abs() < 1e-6 && (1.0..1e6).contains(&whole)).then_some(whole as usize)
    }

    /// The body with which a client agrees to it, in the order of v1's own client.
    pub fn pack_open(&self, packer: &mut Packer, mode: Mode, encoding: &str) {
        let is_wide = mode != Mode::Chunk && self.model_width.is_some_and(|model| model != self.width());
        packer.map(7 + 2 * usize::from(is_wide));
        packer.str("expected_artifact");
        packer.str(&self.artifact);
        packer.str("features");
        packer.list(self.features.len());
        self.features.iter().for_each(|feature| feature.pack(packer));
        packer.str("action_feature");
        self.action.pack(packer);
        packer.str("semantics");
        packer.str(&self.semantics);
        packer.str("action_interval");
        packer.float(self.action_interval);
        packer.str("mode");
        packer.str(mode.name());
        packer.str("encoding");
        packer.str(encoding);
        if is_wide {
            packer.str("chunk_settings");
            pack_settings(packer, "append", 0.5);
            packer.str("required_capabilities");
            pack_texts(packer, &["rtc_model_space_v1"]);
        }
    }

    /// As a server says it, under `capabilities`.
    pub fn pack_capabilities(&self, packer: &mut Packer) {
        packer.map(12);
        packer.str("modes");
        pack_texts(packer, &self.modes.iter().map(|mode| mode.name()).collect::<Vec<_>>());
        for (key, count) in [
            ("prediction_steps", self.prediction_steps),
            ("execution_steps", self.execution_steps),
            ("training_max_delay", self.training_max_delay),
            ("rtc_horizon", 0),
        ] {
            packer.str(key);
            packer.int(count as i64);
        }
        packer.str("action_interval");
        packer.float(self.action_interval);
        packer.str("features");
        packer.list(self.features.len());
        self.features.iter().for_each(|feature| feature.pack(packer));
        packer.str("action_feature");
        self.action.pack(packer);
        for (key, truth) in
            [("language", false), ("current_observation_only", self.current_observation_only), ("retains_session_state", false)]
        {
            packer.str(key);
            packer.bool(truth);
        }
        packer.str("action_representation");
        packer.str("canonical");
    }
}

/// The settings by which chunks are put together on the client's side, without blending.
pub(crate) fn pack_settings(packer: &mut Packer, merge: &str, blend_weight: f64) {
    packer.map(4);
    packer.str("chunk_merge");
    packer.str(merge);
    packer.str("blend_steps");
    packer.int(0);
    packer.str("blend_weight");
    packer.float(blend_weight);
    packer.str("blend_components");
    packer.list(0);
}

/// What a client asked for, and has.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Agreement {
    pub mode: Mode,
    /// Whether its chunks are put together by the ticks that they are for, which is the client's work.
    pub is_aligned: bool,
    /// Of no meaning here, and said again.
    pub blend_weight: f64,
}

/// Whether `body` opens a session for what `contract` says.
///
/// # Errors
/// v1's code of the error, and what differs, in words.
pub(crate) fn agrees(contract: &Contract, body: &Value<'_>) -> Result<Agreement, (&'static str, String)> {
    let incompatible = |what: String| ("incompatible", what);
    let malformed = |what: String| ("malformed", what);
    let settings = body.get("chunk_settings");
    let merge = match settings {
        None => "append".to_owned(),
        Some(settings) => text(settings, "chunk_merge").map_err(malformed)?,
    };
    let is_aligned = merge == "aligned";
    let blend_weight = settings.and_then(|settings| settings.get("blend_weight")).and_then(Value::number).unwrap_or(0.5);
    let blends = settings.and_then(|settings| settings.get("blend_steps")).is_some_and(|steps| steps.count() != Some(0));
    if !matches!(&*merge, "append" | "aligned") || blends {
        return Err(incompatible("chunks are appended or aligned here, and not blended".into()));
    }
    let required =
        if body.get("required_capabilities").is_some() { texts(body, "required_capabilities").map_err(malformed)? } else { Vec::new() };
    if let Some(other) = required.iter().find(|name| *name != ALIGNMENT) {
        return Err(("unsupported", format!("{other} is not offered here")));
    }
    if is_aligned == required.is_empty() {
        return Err(incompatible("required_capabilities differ from chunk_settings".into()));
    }
    match body.get("expected_artifact") {
        None | Some(Value::Nil) => {}
        Some(Value::Str(name)) if *name == contract.artifact => {}
        other => return Err(incompatible(format!("the policy is {}, and the client expects {}", contract.artifact, Value::shown(other)))),
    }
    let name = text(body, "mode").map_err(malformed)?;
    let mode = Mode::of(&name).filter(|mode| contract.modes.contains(mode));
    let mode = mode.ok_or_else(|| ("unsupported", format!("the mode {name} is not offered here")))?;
    let semantics = text(body, "semantics").map_err(malformed)?;
    if semantics != contract.semantics {
        return Err(incompatible(format!("the semantics are {:?}, and the client expects {semantics:?}", contract.semantics)));
    }
    let interval = body.get("action_interval").and_then(Value::number).unwrap_or(0.0);
    if (interval / contract.action_interval - 1.0).abs() > 1e-6 {
        return Err(incompatible(format!("an action is for {} s, and the client expects {interval} s", contract.action_interval)));
    }
    let Some(Value::List(features)) = body.get("features") else { return Err(malformed("no list features".into())) };
    let features = features.iter().map(Feature::read).collect::<Result<Vec<_>, _>>().map_err(malformed)?;
    let action = body.get("action_feature").ok_or_else(|| malformed("no action_feature".into()))?;
    let action = Feature::read(action).map_err(malformed)?;
    if features.len() != contract.features.len() {
        return Err(incompatible(format!("there are {} features, and the client has {}", contract.features.len(), features.len())));
    }
    for (ours, theirs) in contract.features.iter().chain([&contract.action]).zip(features.iter().chain([&action])) {
        if ours != theirs {
            return Err(incompatible(format!("the feature {} is not the client's {}", ours.in_words(), theirs.in_words())));
        }
    }
    match text(body, "encoding").map_err(malformed)? {
        encoding if matches!(&*encoding, "raw" | "jpeg") => Ok(Agreement { mode, is_aligned, blend_weight }),
        encoding => Err(("unsupported", format!("the encoding {encoding} is not read here"))),
    }
}

/// What v1 calls it that a client may align chunks.
pub(crate) const ALIGNMENT: &str = "chunk_alignment_v1";
