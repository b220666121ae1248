//! A question for the policy: what is wanted, whether an observation is that, and the answer to it.

use super::Facts;
use crate::answer::Told;
use crate::codec::{Dtype, Packer, Tensor, Value};
use crate::lerobot::SEMANTICS;
use crate::lerobot::contract::{Contract, Feature, Mode};
use crate::lerobot::wire::{self, Head, Kind, Picture};
use crate::server::{Served, Shared};

/// Of an instruction.
pub(super) const MOST_CHARACTERS: usize = 4096;
const STATE: &str = "observation.state";
const IMAGES: &str = "observation.images.";

/// v1's code of an error, and words.
type Fault = (&'static str, String);

/// What a policy wants, in v1's words.
///
/// # Errors
/// What v1 can't say of it.
pub(super) fn contract(told: &Told) -> Result<Contract, String> {
    let (Some(actions), Some(states), Some(rate_hz)) = (&told.action_names, &told.state_names, told.control_rate_hz) else {
        return Err("v1 wants to know the names of joints and the rate; expected --robot with the policy".into());
    };
    if told.n_obs_steps.unwrap_or(1) > 1 {
        return Err(format!("v1 sends the newest observation alone, and this policy looks at {}", told.n_obs_steps.unwrap_or(1)));
    }
    let numbers = |name: &str, names: &[String]| Feature {
        name: name.to_owned(),
        shape: vec![names.len()],
        dtype: "float32".into(),
        is_image: false,
        names: names.to_vec(),
        semantics: SEMANTICS.into(),
    };
    let features = told.inputs.iter().map(|(name, shape)| match (&**name, &shape[..]) {
        (STATE, [width]) if *width == states.len() => Ok(numbers(STATE, states)),
        (name, [3, height, width]) if name.starts_with(IMAGES) => Ok(Feature {
            name: name.to_owned(),
            shape: vec![*height, *width, 3],
            dtype: "uint8".into(),
            is_image: true,
            names: Vec::new(),
            semantics: "rgb".into(),
        }),
        (name, shape) => Err(format!("v1 has no words for the input {name} {shape:?} of this robot's")),
    });
    let rows = told.chunk_size.unwrap_or(1).max(1);
    Ok(Contract {
        artifact: told.policy.clone().unwrap_or_else(|| "policy".into()),
        semantics: SEMANTICS.into(),
        modes: vec![Mode::Chunk],
        prediction_steps: rows,
        execution_steps: told.n_action_steps.unwrap_or(rows).clamp(1, rows),
        action_interval: 1.0 / rate_hz.max(1) as f64,
        features: features.collect::<Result<_, _>>()?,
        action: numbers("action", actions),
        training_max_delay: 0,
        current_observation_only: true,
        model_width: None,
    })
}

/// The message that answers an observation.
pub(super) fn answer(
    shared: &Shared,
    facts: &Facts,
    (head, is_aligned): (&Head, bool),
    message: &[u8],
    queue_s: f64,
) -> Result<Vec<u8>, Fault> {
    let malformed = |what: String| ("malformed", what);
    let message = wire::read(message).map_err(malformed)?;
    let body = &message.body;
    let contract = &facts.contract;
    check(contract, body)?;
    let task = body.get("task").and_then(Value::text).unwrap_or_default();
    let supplied = body.get("features").map(Value::entries).unwrap_or_default();
    if supplied.len() != contract.features.len() {
        let has: Vec<&str> = supplied.iter().map(|(name, _)| *name).collect();
        return Err(("incompatible", format!("the observation has {}", has.join(", "))));
    }
    let mut decoded = Vec::with_capacity(contract.features.len());
    for feature in &contract.features {
        let value = supplied.iter().find(|(name, _)| *name == feature.name).map(|(_, value)| value);
        let value = value.ok_or_else(|| ("incompatible", format!("the observation has no {}", feature.name)))?;
        decoded.push((feature, decode(feature, value).map_err(|what| ("incompatible", format!("{}: {what}", feature.name)))?));
    }
    let mut entries: Vec<(&str, Value<'_>)> = vec![("task", Value::Str(task))];
    for (feature, part) in &decoded {
        let tensor = match part {
            Part::Array(tensor) => tensor.clone(),
            Part::Pixels(pixels) => Tensor { dtype: Dtype::U8, is_big_endian: false, shape: feature.shape.clone(), data: pixels },
        };
        entries.push((&feature.name, Value::Tensor(tensor)));
    }
    let (served, infer_ms) = shared.answer(&Value::Map(entries)).map_err(|what| ("execution", what))?;
    let (rows, width) = (contract.execution_steps, contract.width());
    if served.rows < rows || served.width != width {
        return Err(("execution", format!("the policy answered {} rows of {}, expected {rows} of {width}", served.rows, served.width)));
    }
    if let Some(value) = served.values.iter().find(|value| !value.is_finite()) {
        return Err(("execution", format!("the policy answered {value}")));
    }
    Ok(wire::write(Kind::Action, head, |packer| pack(packer, body, is_aligned, (&served, rows), (queue_s, infer_ms * 1e-3))))
}

enum Part<'a> {
    Array(Tensor<'a>),
    Pixels(Vec<u8>),
}

fn decode<'a>(feature: &Feature, value: &Value<'a>) -> Result<Part<'a>, String> {
    if !feature.is_image {
        let tensor = wire::tensor(value)?;
        if tensor.dtype.to_string() != feature.dtype || tensor.shape != feature.shape {
            return Err(format!("{} {:?}, expected {} {:?}", tensor.dtype, tensor.shape, feature.dtype, feature.shape));
        }
        return Ok(Part::Array(tensor));
    }
    let ([height, width], picture) = wire::picture(value)?;
    if [height, width, 3] != feature.shape[..] {
        return Err(format!("an image [{height}, {width}, 3], expected {:?}", feature.shape));
    }
    match picture {
        Picture::Raw(data) => Ok(Part::Array(Tensor { dtype: Dtype::U8, is_big_endian: false, shape: feature.shape.clone(), data })),
        Picture::Jpeg(data) => wire::pixels_of_jpeg(data, [height, width]).map(Part::Pixels),
    }
}

/// What an observation says beside its features.
fn check(contract: &Contract, body: &Value<'_>) -> Result<(), Fault> {
    let text = |key: &str| if let Some(Value::Str(text)) = body.get(key) { Some(*text) } else { None };
    if text("artifact_identity") != Some(&contract.artifact) {
        return Err(("incompatible", format!("the observation is for another policy than {}", contract.artifact)));
    }
    let is_whole = text("task").is_some_and(|task| task.chars().count() <= MOST_CHARACTERS)
        && text("observation_id").is_some_and(|id| !id.is_empty())
        && body.get("task_version").and_then(Value::count).is_some()
        && matches!(body.get("capture_time"), Some(Value::Int(_) | Value::Float(_)))
        && body.get("delay").is_none_or(|delay| delay.count().is_some_and(|delay| delay <= contract.prediction_steps));
    if is_whole {
        Ok(())
    } else {
        Err((
            "malformed",
            format!("expected task (at most {MOST_CHARACTERS} characters), task_version, observation_id, capture_time and delay"),
        ))
    }
}

/// What of a question is in its answer.
const REPEATED: [&str; 6] = ["sequence", "artifact_identity", "observation_id", "capture_time", "task", "task_version"];
/// And where chunks are aligned.
const CURSORS: [&str; 2] = ["observation_cursor", "cursor"];

fn pack(packer: &mut Packer, asked: &Value<'_>, is_aligned: bool, (served, rows): (&Served, usize), (queue_s, worker_s): (f64, f64)) {
    let cursors = if is_aligned { &CURSORS[..] } else { &[] };
    packer.map(REPEATED.len() + cursors.len() + 4);
    for key in REPEATED.iter().chain(cursors) {
        packer.str(key);
        match asked.get(key) {
            Some(Value::Str(text)) => packer.str(text),
            Some(Value::Int(value)) => packer.int(i64::try_from(*value).unwrap_or(i64::MAX)),
            Some(Value::Float(value)) => packer.float(*value),
            _ => packer.nil(),
        }
    }
    packer.str("canonical_actions");
    let values = served.values.iter().take(rows * served.width);
    wire::pack_tensor(packer, Dtype::F32, &[rows, served.width], |out| values.for_each(|value| out.extend(value.to_le_bytes())));
    packer.str("model_actions");
    packer.nil();
    packer.str("execution_steps");
    packer.int(rows as i64);
    packer.str("server_durations");
    packer.map(2);
    packer.str("queue");
    packer.float(queue_s);
    packer.str("worker");
    packer.float(worker_s);
}
