//! `sinew serve`: a checkpoint, offered to clients of the network.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::AtomicU64;
use std::sync::atomic::Ordering::Relaxed;
use std::time::Duration;

use anyhow::Context;
use sinew_core::{Channel, ChannelSource, RobotDescription};
use sinew_policy::{Checkpoint, Fit, Inputs, Together};
use sinew_remote::codec::{Dtype, Packer, Tensor, Value, is_picture, pack_json, picture};
use sinew_remote::{Answerer, Served, Server, ServerOptions, ZenohOptions};
use sinew_runtime::StopFlag;

use crate::args::{Misuse, ServeArgs, token};
use crate::source::NamedCheckpoint;
use crate::text::{note, say};
use crate::{Done, source, text};

/// The robot of the demonstration policy.
const DEMONSTRATED: &str = "so101";
/// How many clients are answered at once.
const MOST_TOGETHER: usize = 8;
/// How often it is looked whether to end.
const LOOK: Duration = Duration::from_millis(50);

pub fn run(args: &ServeArgs) -> anyhow::Result<Done> {
    let token = args.token_env.as_deref().map(|name| token(name, "--token-env")).transpose()?;
    if token.is_none() && !args.listen.ip().is_loopback() {
        let why = format!(
            "--listen {} is reached by other machines: expected --token-env NAME with it, or an address of this machine only, such as 127.0.0.1:{}",
            args.listen,
            args.listen.port()
        );
        return Err(Misuse(why).into());
    }
    let zenoh = zenoh_options(args)?;
    source::set_threads(args.compute.threads)?;
    let name = args.robot.as_deref().or(args.policy.is_none().then_some(DEMONSTRATED));
    let mut robot = name.map(sinew_sim::robots::get).transpose()?.map(|model| model.description);
    if let Some(robot) = &mut robot {
        args.compute.cameras.resize(robot)?;
    }
    let stop = StopFlag::new();
    stop.escalate_on_signals().context("listening for Ctrl-C")?;
    // First, as it may be refused; who comes early is told that it is not ready.
    let options = ServerOptions { token, max_clients: usize::from(args.max_clients), ..ServerOptions::new(args.listen) };
    let server = Server::bind(options)?;
    let named = source::open(args.policy.as_deref(), &args.compute)?;
    if let Some(robot) = &robot {
        let fit = Fit::of(&named.checkpoint, robot);
        anyhow::ensure!(fit.is_fit(), "serving {} for the robot {}: they don't fit\n{fit}", named.name, robot.name);
    }
    let policy = ServedPolicy::new(args, &named, robot.as_ref())?;
    // First calls are slow: before it says that it is ready.
    policy.checkpoint.infer(&policy.checkpoint.blank_inputs()).context("warming the policy up")?;
    server.serve(Arc::new(policy));
    let zenoh = zenoh.map(|options| Ok::<_, anyhow::Error>((server.serve_zenoh(&options)?, options))).transpose()?;
    let address = server.address();
    if args.json {
        let locator = zenoh.as_ref().map(|(zenoh, _)| zenoh.locator());
        text::print_json(&serde_json::json!({ "ready": true, "address": address.to_string(), "zenoh": locator, "policy": named.name }))?;
    } else {
        say!("{}", named.banner(rayon::current_num_threads()));
        say!("listens   ws://{address} for up to {} clients; /healthz and /metrics too", args.max_clients);
        if let Some((zenoh, options)) = &zenoh {
            say!("and on    {} as the deployment {}, for one client at a time", zenoh.locator(), options.deployment);
            if !options.is_local()? && !options.is_secure() {
                note!("warning: nothing is encrypted on {}, and whoever reaches it may ask the policy", zenoh.locator());
            }
        }
        if args.token_env.is_some() && !address.ip().is_loopback() {
            note!("warning: nothing is encrypted, not even the token");
        }
        say!(
            "try       sinew policy check ws://{address}{}\nCtrl-C ends it",
            robot.as_ref().map_or(String::new(), |robot| format!(" --robot {}", robot.name))
        );
    }
    while !stop.is_requested() {
        std::thread::sleep(LOOK);
    }
    drop(zenoh);
    let counts = server.counts();
    drop(server);
    if args.json {
        text::print_json(&counts)?;
    } else {
        say!("\nserved    {} answers, {} errors; {} connections refused", counts.answers, counts.errors, counts.refused);
    }
    Ok(Done::Left)
}

/// How to serve over zenoh, where it is wanted.
fn zenoh_options(args: &ServeArgs) -> anyhow::Result<Option<ZenohOptions>> {
    let Some(listen) = &args.zenoh else { return Ok(None) };
    let options = ZenohOptions { listen: listen.clone(), config: args.zenoh_config.clone(), deployment: args.deployment.clone() };
    let is_local = options.is_local().map_err(|error| Misuse(format!("--zenoh {listen}: {error}")))?;
    if options.is_secure() && options.config.is_none() {
        let why = format!("--zenoh {listen} needs certificates: expected --zenoh-config FILE with them, too");
        return Err(Misuse(why).into());
    }
    if !is_local && !options.is_secure() && !args.zenoh_insecure {
        let why = format!(
            "--zenoh {listen} is reached by other machines: expected tls/ADDRESS:PORT with --zenoh-config FILE, --zenoh-insecure, or an \
             address of this machine only, such as tcp/127.0.0.1:7447"
        );
        return Err(Misuse(why).into());
    }
    Ok(Some(options))
}

/// A checkpoint that answers in the units of its dataset, under LeRobot's names.
struct ServedPolicy {
    checkpoint: Arc<Checkpoint>,
    /// Answers clients who ask at the same time.
    together: Together,
    metadata: serde_json::Value,
    /// What the policy looks at, by the names that clients may have for it, and how many numbers that is with all its steps.
    wanted: BTreeMap<String, usize>,
    instruction: Option<String>,
    /// Each answer draws noise of its own.
    answers: AtomicU64,
}

impl ServedPolicy {
    fn new(args: &ServeArgs, named: &NamedCheckpoint, robot: Option<&RobotDescription>) -> anyhow::Result<Self> {
        let info = named.checkpoint.info();
        // Cameras by the names that clients have for them.
        let whole = |name: &str| if name.starts_with("observation.") { name.to_owned() } else { format!("observation.images.{name}") };
        let called = |name: &str| {
            let renamed = args.compute.cameras.rename.iter().find(|(_, key)| whole(key) == name);
            renamed.map_or_else(|| name.to_owned(), |(camera, _)| whole(camera))
        };
        let numbers = |shape: &[usize]| info.n_obs_steps.max(1) * shape.iter().product::<usize>();
        let wanted = info
            .inputs
            .iter()
            .flat_map(|feature| [feature.name.clone(), called(&feature.name)].map(|name| (name, numbers(&feature.shape))))
            .collect();
        let inputs: serde_json::Map<_, _> = info
            .inputs
            .iter()
            .map(|feature| (called(&feature.name), serde_json::json!({ "type": feature.kind.to_string(), "shape": feature.shape })))
            .collect();
        let mut ours = serde_json::json!({
            "version": env!("CARGO_PKG_VERSION"),
            "policy": named.name,
            "family": info.family,
            "inputs": inputs,
            "prompt": ["prompt", "task"],
            "action": { "shape": [named.checkpoint.action_width()] },
            // Of the checkpoint's dataset: degrees and 0 to 100, where LeRobot's robots recorded it.
            "units": "lerobot",
            "n_obs_steps": info.n_obs_steps,
            "chunk_size": info.chunk_size,
            "n_action_steps": info.n_action_steps,
            "numbers_answers": true,
            "takes_jpegs": true,
        });
        if let Some(robot) = robot {
            ours["robot"] = robot.name.as_str().into();
            ours["control_rate_hz"] = robot.control_rate_hz.into();
            ours["state_names"] = robot.state_names().into();
            ours["state_units"] = units(&robot.state_channels(), robot);
            ours["action_names"] = robot.action_names().into();
            ours["action_units"] = units(&robot.action_channels(), robot);
        }
        Ok(Self {
            checkpoint: Arc::clone(&named.checkpoint),
            together: Together::new(&named.checkpoint, MOST_TOGETHER)?,
            metadata: serde_json::json!({ "sinew": ours }),
            wanted,
            instruction: args.instruction.clone(),
            answers: AtomicU64::new(0),
        })
    }

    fn inputs(&self, observation: &Value<'_>) -> Result<Inputs, String> {
        let task = ["prompt", "task"].iter().find_map(|key| observation.get(key)?.text());
        let task = task.or(self.instruction.as_deref()).unwrap_or_default();
        let mut inputs = Inputs::new().task(task).seed(self.answers.fetch_add(1, Relaxed));
        for (key, value) in flat(observation) {
            if key.starts_with("observation.image") {
                if let Value::Map(_) = value {
                    let (height, width, pixels) = picture(value).map_err(|found| format!("reading {key}: found {found}"))?;
                    inputs = inputs.images(&key, height, width, vec![pixels]);
                    continue;
                }
                let Value::Tensor(tensor) = value else { return Err(format!("reading {key}: found {}, expected an image", value.kind())) };
                let (height, width, steps) = pictures(tensor).map_err(|found| format!("reading {key}: found {found}, expected {IMAGE}"))?;
                inputs = inputs.images(&key, height, width, steps);
            } else if key.starts_with("observation.") {
                let count = match value {
                    Value::Tensor(tensor) => tensor.shape.iter().product(),
                    Value::List(items) => items.len(),
                    _ => 1,
                };
                let expected = self.wanted.get(&key).copied().unwrap_or(OTHERS);
                if count > FAR_TOO_MANY * expected {
                    return Err(format!("reading {key}: found {count} numbers, expected about {expected}"));
                }
                let numbers = value.numbers().map_err(|found| format!("reading {key}: found {found}, expected numbers"))?;
                let (rows, width) = match numbers.shape[..] {
                    [width] if width > 0 => (1, width),
                    [rows, width] if rows > 0 && width > 0 => (rows, width),
                    _ => return Err(format!("reading {key}: found the shape {:?}, expected [width] or [steps, width]", numbers.shape)),
                };
                let values: Vec<f32> = numbers.values.iter().map(|value| *value as f32).collect();
                inputs = inputs.vectors(&key, values.chunks_exact(width).take(rows).map(<[f32]>::to_vec).collect());
            }
        }
        Ok(inputs)
    }
}

impl Answerer for ServedPolicy {
    fn metadata(&self) -> Vec<u8> {
        let mut packer = Packer::default();
        pack_json(&mut packer, &self.metadata);
        packer.into_bytes()
    }

    fn take_turns(&self) -> bool {
        !self.together.is_used()
    }

    fn answer(&self, observation: &Value<'_>) -> Result<Served, String> {
        let inputs = self.inputs(observation)?;
        let missing = |error: sinew_policy::InferError| {
            let wants: Vec<String> =
                self.checkpoint.info().inputs.iter().map(|feature| format!("{} {:?}", feature.name, feature.shape)).collect();
            let has: Vec<String> = flat(observation).iter().map(|(key, value)| format!("{key} ({})", value.kind())).collect();
            format!("{}; the policy wants {}; the observation has {}", text::chain(&error.into()), wants.join(", "), has.join(", "))
        };
        let (actions, took) = self.together.infer(inputs).map_err(missing)?;
        Ok(Served { rows: actions.rows, width: actions.width, values: actions.values, took: Some(took) })
    }
}

/// Each channel's unit by LeRobot's word for it.
fn units(channels: &[Channel], robot: &RobotDescription) -> serde_json::Value {
    let unit = |channel: &Channel| match channel.source {
        ChannelSource::Part(part) => robot.parts.get(part).and_then(|part| serde_json::to_value(part.unit).ok()).unwrap_or_default(),
        ChannelSource::Base(_) | ChannelSource::Sensor(..) => "si".into(),
    };
    channels.iter().map(unit).collect()
}

/// The values of an observation by LeRobot's names: maps inside each other and slashes are dots.
fn flat<'v, 'a>(observation: &'v Value<'a>) -> Vec<(String, &'v Value<'a>)> {
    let mut found = Vec::new();
    for (key, value) in observation.entries() {
        let key = key.replace('/', ".");
        if matches!(value, Value::Map(_)) && !is_picture(value) {
            found.extend(flat(value).into_iter().map(|(rest, value)| (format!("{key}.{rest}"), value)));
        } else {
            found.push((key, value));
        }
    }
    found
}

/// So many times what is expected is not even looked at: each number takes some seventy bytes before it is refused.
const FAR_TOO_MANY: usize = 100;
/// Numbers under a name that the policy does not say, as a step of its processor may change it.
const OTHERS: usize = 1000;
/// So many steps of an image.
const MOST_STEPS: usize = 1000;
const IMAGE: &str = "uint8 [height, width, 3] or [3, height, width], or floats of 0 to 1, with a leading axis for several steps";

/// Height, width and the bytes of each step of an image; else what it is.
fn pictures(tensor: &Tensor<'_>) -> Result<(usize, usize, Vec<Vec<u8>>), String> {
    let fault = || format!("{} {:?}", tensor.dtype, tensor.shape);
    let (steps, sides) = match tensor.shape[..] {
        [a, b, c] => (1, [a, b, c]),
        [steps, a, b, c] => (steps, [a, b, c]),
        _ => return Err(fault()),
    };
    let (height, width, is_planar) = match sides {
        [height, width, 3] => (height, width, false),
        [3, height, width] => (height, width, true),
        _ => return Err(fault()),
    };
    if steps == 0 || steps > MOST_STEPS || height == 0 || width == 0 {
        return Err(fault());
    }
    let bytes: Vec<u8> = match tensor.dtype {
        Dtype::U8 => tensor.data.to_vec(),
        Dtype::F16 | Dtype::F32 | Dtype::F64 => {
            let values = tensor.to_f64();
            if let Some(value) = values.iter().find(|value| !(-1e-3..=1.001).contains(*value)) {
                return Err(format!("{} with {value} in it", fault()));
            }
            values.iter().map(|value| (value * 255.0).round().clamp(0.0, 255.0) as u8).collect()
        }
        _ => return Err(fault()),
    };
    let one = |image: &[u8]| match is_planar {
        false => image.to_vec(),
        true => {
            let plane = height * width;
            (0..plane).flat_map(|pixel| [image[pixel], image[plane + pixel], image[2 * plane + pixel]]).collect()
        }
    };
    Ok((height, width, bytes.chunks_exact(height * width * 3).map(one).collect()))
}

#[cfg(test)]
mod tests {
    use clap::Parser as _;

    use super::*;
    use crate::args::{Cli, Command};

    #[test]
    fn far_more_than_a_policy_looks_at_is_refused_before_it_takes_memory() {
        let Some(Command::Serve(args)) = Cli::parse_from(["sinew", "serve"]).command else { unreachable!() };
        let named = source::open(None, &args.compute).unwrap();
        let served = ServedPolicy::new(&args, &named, None).unwrap();
        let bytes = vec![0; 3_000_000];
        let told = |key, shape: &[usize]| {
            let tensor = Tensor { dtype: Dtype::U8, is_big_endian: false, shape: shape.to_vec(), data: &bytes };
            served.inputs(&Value::Map(vec![(key, Value::Tensor(tensor))])).map(drop)
        };
        for (key, shape, expected) in [
            ("observation.state", &[3_000_000, 1][..], "found 3000000 numbers, expected about 6"),
            ("observation.unknown", &[3_000_000], "found 3000000 numbers, expected about 1000"),
            ("observation.images.unknown", &[1_000_000, 1, 1, 3], "found uint8 [1000000, 1, 1, 3]"),
        ] {
            let error = told(key, shape).unwrap_err();
            assert!(error.contains(expected), "{key}: {error}");
        }
        assert_eq!(told("observation.images.front", &[1000, 1000, 3]), Ok(()));
    }
}
