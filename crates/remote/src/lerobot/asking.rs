//! Observations as v1 sends them, and the actions that answer them; what an answer continues is kept here, as the server keeps nothing.

use sinew_core::{Continuation, Image};

use super::client::{Answer, Client, NoAnswer, Reached};
use super::contract::{Contract, Mode};
use super::wire::{self, Kind};
use super::{Continues, SEMANTICS};
use crate::answer::{Rows, Told};
use crate::codec::{Dtype, Packer, Tensor, Value};
use crate::fit::Fit;
use crate::forms::{Form, ImagePart};
use crate::keys::{FloatKind, KeyMap, WireUnits};
use crate::link::{Legs, Protocol};
use crate::policy::{Asked, Failed, Got, RemoteOptions};
use crate::request::{Requests, listed};
use crate::time::{Deadline, Watch};

/// Who asks a deployment.
pub(crate) struct Lerobot {
    client: Client,
    contract: Contract,
    mode: Mode,
    /// The instruction of the question before, and how many there were.
    task: (String, u64),
    /// The newest answer, for the next to continue.
    newest: Option<Kept>,
    /// What the newest continues, and the next will if the newest came too late.
    executed: Option<Kept>,
}

/// An answer, as the model gave it and as the robot gets it, row by row.
#[derive(Clone, Debug)]
struct Kept {
    canonical: Matrix,
    model: Matrix,
}

#[derive(Clone, Debug)]
struct Matrix {
    width: usize,
    values: Vec<f32>,
}

impl Matrix {
    fn rows(&self) -> usize {
        self.values.len() / self.width.max(1)
    }

    /// The last `rows` rows, or all where there are not so many.
    fn pack_rest(&self, packer: &mut Packer, rows: usize) {
        let rows = rows.min(self.rows());
        let rest = self.values.get((self.rows() - rows) * self.width..).unwrap_or_default();
        wire::pack_tensor(packer, Dtype::F32, &[rows, self.width], |out| rest.iter().for_each(|value| out.extend(value.to_le_bytes())));
    }
}

/// What a deployment says, as any server says it.
pub(crate) fn told(contract: &Contract) -> Told {
    let inputs = contract.features.iter().map(|feature| {
        let shape = match (&feature.shape[..], feature.is_image) {
            ([height, width, 3], true) => vec![3, *height, *width],
            (shape, _) => shape.to_vec(),
        };
        (feature.name.clone(), shape)
    });
    let state = contract.features.iter().find(|feature| feature.name == STATE);
    Told {
        policy: Some(contract.artifact.clone()),
        family: Some("lerobot".into()),
        inputs: inputs.collect(),
        action_names: Some(contract.action.names.clone()).filter(|names| !names.is_empty()),
        state_names: state.map(|state| state.names.clone()).filter(|names| !names.is_empty()),
        control_rate_hz: contract.rate_hz(),
        n_obs_steps: Some(1),
        chunk_size: Some(contract.prediction_steps),
        n_action_steps: Some(contract.execution_steps),
        modalities: None,
        numbers_answers: false,
        takes_jpegs: false,
        is_ours: true,
    }
}

const STATE: &str = "observation.state";
const IMAGES: &str = "observation.images.";

/// The key map of a deployment: LeRobot's own names, or what the user says beside them.
pub(crate) fn keys(options: &RemoteOptions, contract: &Contract) -> Result<KeyMap, crate::RemoteError> {
    let mut keys = match &options.keys {
        Some(keys) => keys.clone(),
        None => KeyMap::lerobot()?,
    };
    // It stands beside the features.
    keys.prompt = None;
    let wants = |name: &str| contract.features.iter().find(|feature| feature.name == name);
    keys.states.retain(|state| options.keys.is_some() || wants(&state.key.to_string()).is_some());
    for state in &mut keys.states {
        if wants(&state.key.to_string()).is_some_and(|feature| feature.dtype == "float64") {
            state.dtype = FloatKind::F64;
        }
    }
    Ok(keys)
}

/// The mode for what the user wants.
pub(crate) fn mode_for(continues: Option<Continues>, contract: &Contract) -> Option<Mode> {
    let wanted: &[Mode] = match continues {
        None => &[Mode::Chunk],
        Some(Continues::Guided) => &[Mode::Guided],
        Some(Continues::Trained) => &[Mode::Trained],
        Some(Continues::Either) => &[Mode::Guided, Mode::Trained],
    };
    wanted.iter().copied().find(|mode| contract.modes.contains(mode))
}

/// Compares what no other protocol says: modes, semantics, and features that no robot here has.
pub(crate) fn compare(options: &RemoteOptions, contract: &Contract, keys: &KeyMap, requests: &Requests, fit: &mut Fit) {
    let modes: Vec<&str> = contract.modes.iter().map(|mode| mode.name()).collect();
    let wanted = match options.continues {
        None => "chunk",
        Some(Continues::Guided) => "rtc_guided",
        Some(Continues::Trained) => "rtc_trained",
        Some(Continues::Either) => "rtc_guided or rtc_trained",
    };
    fit.row("mode", modes.join(", "), wanted, mode_for(options.continues, contract).is_some());
    let (said, known) = match &options.semantics {
        Some(text) => (text.clone(), *text == contract.semantics),
        None if keys.units == WireUnits::Lerobot && contract.semantics == SEMANTICS => (SEMANTICS.to_owned(), true),
        None => ("not said; --policy-semantics TEXT says that it means degrees and 0 to 100, or what --policy-keys says".into(), false),
    };
    fit.row("semantics", contract.semantics.clone(), said, known);
    if !contract.current_observation_only {
        fit.row("observations", "several together", "the newest", false);
    }
    if contract.rate_hz().is_none() {
        fit.row("control rate", format!("an action for {} s", contract.action_interval), "whole actions a second", false);
    }
    let sent = requests.names();
    for feature in &contract.features {
        let is_sent = sent.contains(&feature.name);
        let dtype_fits = if feature.is_image { feature.dtype == "uint8" } else { matches!(&*feature.dtype, "float32" | "float64") };
        if !is_sent && !feature.name.starts_with(IMAGES) {
            fit.row(
                feature.name.clone(),
                format!("{} {:?}{}", feature.dtype, feature.shape, listed(Some(&feature.names))),
                "nothing",
                false,
            );
        } else if !dtype_fits || feature.is_image != feature.name.starts_with(IMAGES) {
            fit.row(feature.name.clone(), format!("{} {:?}", feature.dtype, feature.shape), "an image, or numbers", false);
        }
    }
    for name in sent.iter().filter(|name| !contract.features.iter().any(|feature| feature.name == **name)) {
        fit.row(name.clone(), "not wanted", "sent by --policy-keys", false);
    }
}

impl Lerobot {
    /// Opens a session in what was reached.
    ///
    /// # Errors
    /// When the server refuses.
    pub fn open(reached: Reached, options: &RemoteOptions, keys: &KeyMap) -> Result<Self, crate::RemoteError> {
        let contract = reached.described.contract.clone();
        // It was compared: there is one.
        let mode = mode_for(options.continues, &contract).unwrap_or(Mode::Chunk);
        let encoding = if keys.images.iter().any(|image| image.quality.is_some()) { "jpeg" } else { "raw" };
        let client = reached.open(mode, encoding, options.on_wait)?;
        Ok(Self { client, contract, mode, task: (String::new(), 0), newest: None, executed: None })
    }

    pub fn client(&self) -> &Client {
        &self.client
    }

    pub fn can_continue(&self) -> bool {
        self.mode != Mode::Chunk
    }

    pub fn most_delay_rows(&self) -> Option<usize> {
        (self.mode == Mode::Trained).then_some(self.contract.training_max_delay)
    }

    pub fn reset(&mut self) {
        (self.newest, self.executed) = (None, None);
        self.client.begin_anew(true);
    }

    pub fn refuse(&self) {
        self.client.report().lock().unwrap_or_else(std::sync::PoisonError::into_inner).refused += 1;
    }

    pub fn accept(&self, legs: Legs) {
        self.client.report().lock().unwrap_or_else(std::sync::PoisonError::into_inner).accept(legs);
    }

    pub fn ask(&mut self, requests: &mut Requests, asked: &Asked<'_>, until: Deadline) -> Result<Got, Failed> {
        let Some(now) = asked.observations.last() else { return Err(Failed::Unwritten("no observation".into())) };
        if self.task.0 != asked.task {
            self.task = (asked.task.to_owned(), self.task.1 + 1);
            self.client.begin_anew(false);
        }
        if !asked.continuing.is_some_and(|continuing| continuing.newest_is_unused) {
            self.executed = self.newest.take();
        }
        let rest = asked.continuing.filter(|_| self.can_continue()).and_then(|continuing| {
            let kept = self.executed.as_ref().filter(|_| continuing.rows_left > 0)?;
            Some((kept, continuing))
        });
        let capture_time = now.time.as_secs_f64();
        let observation_id = format!("tick-{}", now.tick);
        let (contract, task_version) = (&self.contract, self.task.1);
        let answer = self.client.ask(until, |head, sequence| {
            let mut packer = Packer::after(wire::begin(Kind::Observation, head));
            packer.map(11);
            packer.str("sequence");
            packer.int(sequence as i64);
            packer.str("artifact_identity");
            packer.str(&contract.artifact);
            packer.str("observation_id");
            packer.str(&observation_id);
            packer.str("capture_time");
            packer.float(capture_time);
            packer.str("task");
            packer.str(asked.task);
            packer.str("task_version");
            packer.int(task_version as i64);
            pack_continuation(&mut packer, rest, contract.prediction_steps);
            packer.str("cursor");
            packer.int(now.tick as i64);
            packer.str("features");
            requests.write(packer.into_bytes(), Protocol::Lerobot, asked.observations, ("", 0, None))
        });
        let Answer { bytes, sent_bytes, prepare_ms, send_ms, wait_ms } = answer.map_err(|why| match why {
            NoAnswer::Unwritten(what) => Failed::Unwritten(what),
            NoAnswer::Unavailable(what) => Failed::Unavailable(what),
        })?;
        let mut read = Watch::start();
        let (rows, kept) = self.read(&bytes, (&observation_id, capture_time, asked.task)).map_err(Failed::Refused)?;
        self.newest = kept;
        let legs = Legs { prepare: prepare_ms, send: send_ms, wait: wait_ms, server: rows.server_ms, read: read.lap() };
        Ok(Got { rows, legs, sent_bytes })
    }

    fn read(&self, bytes: &[u8], (observation, captured, task): (&str, f64, &str)) -> Result<(Rows, Option<Kept>), String> {
        let message = wire::read(bytes)?;
        if message.kind != Kind::Action {
            return Err(format!("{} for an action", message.kind.name()));
        }
        let body = &message.body;
        let says = |key: &str, text: &str| matches!(body.get(key), Some(Value::Str(found)) if *found == text);
        let is_mine = says("artifact_identity", &self.contract.artifact)
            && says("observation_id", observation)
            && says("task", task)
            && body.get("capture_time").and_then(Value::number) == Some(captured)
            && body.get("task_version").and_then(Value::count).map(|version| version as u64) == Some(self.task.1);
        if !is_mine {
            return Err("the answer to another observation".into());
        }
        let (rows, width) = (self.contract.rows(self.mode), self.contract.width());
        if body.get("execution_steps").and_then(Value::count) != Some(rows) {
            return Err(format!("{} for execution_steps, expected {rows}", Value::shown(body.get("execution_steps"))));
        }
        let canonical = matrix(body, "canonical_actions", [rows, width])?;
        let model = match self.mode {
            Mode::Chunk => None,
            Mode::Guided | Mode::Trained => Some(matrix(body, "model_actions", [rows, self.contract.model_width.unwrap_or(width)])?),
        };
        let durations = body.get("server_durations").map(Value::entries).unwrap_or_default();
        let worker = durations.iter().find(|(key, _)| *key == "worker").and_then(|(_, seconds)| seconds.number());
        let rows = Rows {
            rows,
            width,
            values: canonical.values.iter().map(|value| f64::from(*value)).collect(),
            server_ms: worker.map(|s| s * 1e3),
        };
        Ok((rows, model.map(|model| Kept { canonical, model })))
    }
}

/// What is left of an answer before, for the next to follow; nothing where it follows none.
fn pack_continuation(packer: &mut Packer, rest: Option<(&Kept, Continuation)>, most: usize) {
    packer.str("delay");
    packer.int(rest.map_or(0, |(_, continuing)| continuing.delay_rows.min(most)) as i64);
    for (key, of) in
        [("model_continuation", rest.map(|(kept, _)| &kept.model)), ("canonical_continuation", rest.map(|(kept, _)| &kept.canonical))]
    {
        packer.str(key);
        match of.zip(rest) {
            Some((matrix, (_, continuing))) => matrix.pack_rest(packer, continuing.rows_left),
            None => packer.nil(),
        }
    }
}

fn matrix(body: &Value<'_>, key: &str, shape: [usize; 2]) -> Result<Matrix, String> {
    let value = body.get(key).ok_or_else(|| format!("no {key}"))?;
    let tensor = wire::tensor(value).map_err(|what| format!("{what} for {key}"))?;
    let Tensor { dtype: Dtype::F32, shape: ref found, .. } = tensor else {
        return Err(format!("{} for {key}, expected float32", tensor.dtype));
    };
    if *found != shape {
        return Err(format!("the shape {found:?} for {key}, expected {shape:?}"));
    }
    Ok(Matrix { width: shape[1], values: tensor.to_f64().into_iter().map(|value| value as f32).collect() })
}

/// v1's form of features.
pub(crate) struct LerobotForm(pub Packer);

impl Form for LerobotForm {
    fn begin_map(&mut self, length: usize) {
        self.0.map(length);
    }

    fn key(&mut self, key: &str, _index: usize) {
        self.0.str(key);
    }

    fn end_map(&mut self) {}

    fn prompt(&mut self, text: &str) {
        self.0.str(text);
    }

    fn number(&mut self, number: i64) {
        self.0.int(number);
    }

    fn state(&mut self, kind: FloatKind, steps: usize, width: usize, values: impl Iterator<Item = f64>) {
        let shape = if steps > 1 { vec![steps, width] } else { vec![width] };
        match kind {
            FloatKind::F32 => {
                wire::pack_tensor(&mut self.0, Dtype::F32, &shape, |out| values.for_each(|value| out.extend((value as f32).to_le_bytes())));
            }
            FloatKind::F64 => {
                wire::pack_tensor(&mut self.0, Dtype::F64, &shape, |out| values.for_each(|value| out.extend(value.to_le_bytes())));
            }
        }
    }

    fn image(&mut self, part: &mut ImagePart, steps: &[&Image]) -> Result<(), String> {
        let [image] = steps else { return Err(format!("{} images, and v1 takes one", steps.len())) };
        let size = part.size;
        match part.quality_now(part.quality) {
            None => wire::pack_picture(&mut self.0, size, "raw", size[0] * size[1] * 3, |out| part.write(image, out)),
            Some(quality) => {
                let jpeg = part.jpeg(image, quality)?;
                wire::pack_picture(&mut self.0, size, "jpeg", jpeg.len(), |out| out.extend(jpeg));
            }
        }
        Ok(())
    }
}
