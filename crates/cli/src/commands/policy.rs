//! `sinew policy`

use std::path::Path;

use serde::Serialize;
use sinew_hub::Fetched;
use sinew_policy::{Fit, InferReport, Info, Inputs};

use crate::args::{CameraArgs, CameraSize, ComputeArgs, Misuse, PolicyCommand, misuse};
use crate::text::say;
use crate::{Done, licence, remote, source, text};

pub fn run(command: &PolicyCommand) -> anyhow::Result<Done> {
    match command {
        PolicyCommand::Info { policy, json } => info(policy.as_deref(), *json),
        PolicyCommand::Check { policy, robot, cameras, remote, json } => {
            remote.check(policy.as_deref(), &ComputeArgs::default())?;
            match remote.options(policy.as_deref(), &cameras.rename, robot.is_some())? {
                Some(options) => remote::check(&options, robot.as_deref(), cameras, *json),
                None => check(policy.as_deref(), robot.as_deref(), cameras, *json),
            }
        }
        PolicyCommand::Bench { policy, inputs, repeat, together, accuracy, compute, json } => {
            source::set_threads(compute.threads)?;
            bench(policy.as_deref(), compute, inputs.as_deref(), (*repeat, *together, *accuracy), *json)
        }
        PolicyCommand::Infer { policy, inputs, out, compute, repeat, json } => {
            source::set_threads(compute.threads)?;
            infer(policy, compute, inputs, out, *repeat, *json)
        }
    }
}

fn info(policy: Option<&str>, json: bool) -> anyhow::Result<Done> {
    let named = source::open(policy, &ComputeArgs::default())?;
    let info = named.checkpoint.info();
    if json {
        text::print_json(info)?;
    } else {
        say!("{}", describe(&named.name, info).trim_end());
    }
    Ok(Done::Ok)
}

fn describe(name: &str, info: &Info) -> String {
    let mut rows = vec![["feature", "type", "shape", "normalisation"].map(str::to_owned).to_vec()];
    for feature in info.inputs.iter().chain(&info.outputs) {
        rows.push(vec![feature.name.clone(), feature.kind.to_string(), format!("{:?}", feature.shape), feature.normalization.clone()]);
    }
    let mut facts = vec![
        ("folder", info.dir.display().to_string()),
        ("family", info.family.clone()),
        (
            "parameters",
            format!(
                "{} ({}, {} on disk, about {} in memory)",
                text::count(info.parameters),
                info.dtype,
                text::bytes(info.file_bytes),
                text::bytes(info.memory_bytes)
            ),
        ),
        ("answers", format!("{} rows, {} of them executed", info.chunk_size, info.n_action_steps)),
        ("licence", licence::in_words(&info.terms)),
    ];
    if let Some(backbone) = &info.backbone {
        let source = info.backbone_source.as_ref().map_or(String::new(), |source| format!(" (dimensions: {source})"));
        facts.push(("backbone", format!("{backbone}{source}")));
    }
    if info.n_obs_steps > 1 {
        facts.push(("looks at", format!("{} observations, the last of them now", info.n_obs_steps)));
    }
    if let Some(coeff) = info.temporal_ensemble_coeff {
        facts.push(("ensembling", format!("of all answers for a tick, coefficient {coeff}")));
    }
    if info.trained_delay > 0 {
        facts.push(("continues", format!("chunks of which up to {} rows are given (rtc, trained)", info.trained_delay)));
    }
    if let Some(tokenizer) = &info.tokenizer {
        facts.push(("tokenizer", format!("{} ({})", tokenizer.name, tokenizer.file.display())));
    }
    if let Some(base) = &info.adapter_base {
        facts.push(("adapter of", base.clone()));
    }
    if !info.unknown_keys.is_empty() {
        facts.push(("unknown keys", info.unknown_keys.join(", ")));
    }
    facts.push(("preprocessor", info.preprocessor.join(" ▸ ")));
    facts.push(("postprocessor", info.postprocessor.join(" ▸ ")));
    let facts: String = facts.iter().map(|(what, is)| format!("  {what:13} {is}\n")).collect();
    format!("{name}\n{facts}\n{}", text::table(&rows))
}

pub fn check(policy: Option<&str>, robot: Option<&str>, cameras: &CameraArgs, json: bool) -> anyhow::Result<Done> {
    let mut robot = robot.map(sinew_sim::robots::get).transpose()?;
    match &mut robot {
        Some(robot) => cameras.resize(&mut robot.description)?,
        None if cameras.camera_size.is_empty() => {}
        None => return Err(Misuse("--camera-size is for a robot's cameras; expected --robot with it".to_owned()).into()),
    }
    let (name, Fetched { folder, .. }) = source::find(policy)?;
    let opened = source::open_folder(&folder, &ComputeArgs { cameras: cameras.clone(), ..ComputeArgs::default() });
    let (verdict, words) = match &opened {
        Err(error) => (Verdict { policy: &name, ok: false, error: Some(text::chain(error)), info: None, fit: None }, None),
        Ok(checkpoint) => {
            let fit = robot.as_ref().map(|robot| Fit::of(checkpoint, &robot.description));
            let ok = fit.as_ref().is_none_or(Fit::is_fit);
            (Verdict { policy: &name, ok, error: None, info: Some(checkpoint.info()), fit }, Some(describe(&name, checkpoint.info())))
        }
    };
    if json {
        text::print_json(&verdict)?;
    } else {
        if let Some(words) = words {
            say!("{words}");
        }
        if let Some(fit) = &verdict.fit {
            say!("{fit}");
        }
        match (&verdict.error, &verdict.fit) {
            (Some(error), _) => say!("not a policy that can be run: {error}"),
            (None, None) => say!("whole: every tensor, statistic and step is there and fits the others"),
            (None, Some(fit)) if verdict.ok => say!("whole, and fits the robot {}", fit.robot),
            (None, Some(fit)) => say!("whole, but doesn't fit the robot {} (see the lines marked !)", fit.robot),
        }
    }
    Ok(if verdict.ok { Done::Ok } else { Done::Refused })
}

/// What `sinew policy check --json` tells.
#[derive(Serialize)]
struct Verdict<'a> {
    policy: &'a str,
    ok: bool,
    error: Option<String>,
    info: Option<&'a Info>,
    fit: Option<Fit>,
}

fn bench(
    policy: Option<&str>,
    compute: &ComputeArgs,
    inputs: Option<&Path>,
    (repeat, together, accuracy): (usize, Option<usize>, bool),
    json: bool,
) -> anyhow::Result<Done> {
    let named = source::open(policy, compute)?;
    let inputs = match inputs {
        Some(path) => Inputs::read(path)?,
        None => named.checkpoint.blank_inputs(),
    };
    let (actions, timing) = named.checkpoint.time(&inputs, repeat)?;
    // Before there is more than the policy.
    let peak = peak_memory_bytes();
    let together = together
        .map(|count| {
            let milliseconds_each = median(named.checkpoint.time_together(&inputs, count, repeat.div_ceil(count))?);
            Ok::<_, anyhow::Error>(Together { count, milliseconds_each, of_alone: milliseconds_each / timing.quantile_milliseconds(0.5) })
        })
        .transpose()?;
    let loss = if accuracy { named.checkpoint.quantization_loss(&inputs)? } else { None };
    if json {
        let report = serde_json::json!({
            "policy": named.name,
            "threads": rayon::current_num_threads(),
            "rows": actions.rows,
            "timing": timing,
            "peak_memory_bytes": peak,
            "together": together,
            "quantization": compute.quantize,
            "quantization_loss": loss,
        });
        text::print_json(&report)?;
        return Ok(Done::Ok);
    }
    let ms = |q| timing.quantile_milliseconds(q);
    say!("{}", named.banner(rayon::current_num_threads()));
    say!("load      {:.1} ms", timing.load_milliseconds);
    say!("first     {:.1} ms", timing.infer_milliseconds[0]);
    say!("answers   {:.1} ms (median of {repeat}), {:.1} fastest, {:.1} slowest", ms(0.5), ms(0.0), ms(1.0));
    say!("          {} rows each: {:.0} rows a second", actions.rows, actions.rows as f64 / ms(0.5) * 1e3);
    if let Some(Together { count, milliseconds_each, of_alone }) = together {
        say!("together  {milliseconds_each:.1} ms an answer, {count} at once: {of_alone:.2} of one alone");
    }
    if let Some(peak) = peak {
        say!("memory    {} at most", text::bytes(peak));
    }
    if let Some(loss) = loss {
        say!("accuracy  {loss}, against the weights as they are in the file");
    }
    Ok(Done::Ok)
}

/// Several answers at once.
#[derive(Serialize)]
struct Together {
    count: usize,
    /// The median.
    milliseconds_each: f64,
    /// Of the median of answers alone.
    of_alone: f64,
}

fn median(mut values: Vec<f64>) -> f64 {
    values.sort_by(f64::total_cmp);
    values.get(values.len() / 2).copied().unwrap_or_default()
}

/// The most memory that this process has held, where the system tells (Linux).
fn peak_memory_bytes() -> Option<u64> {
    let status = std::fs::read_to_string("/proc/self/status").ok()?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:"))?;
    line.trim().strip_suffix("kB")?.trim().parse::<u64>().ok().map(|kib| kib * 1024)
}

/// What `sinew policy infer --json` tells.
#[derive(Serialize)]
struct Inferred {
    #[serde(flatten)]
    report: InferReport,
    peak_memory_bytes: Option<u64>,
}

/// `inputs` with images of these sizes.
fn resized(inputs: Inputs, sizes: &[CameraSize]) -> anyhow::Result<Inputs> {
    let mut sized: Vec<String> = Vec::new();
    sizes.iter().try_fold(inputs, |inputs, CameraSize { camera, width, height }| {
        let is_wanted =
            |name: &str| camera.as_deref().is_none_or(|camera| name == camera || name.strip_prefix("observation.images.") == Some(camera));
        let wanted: Vec<String> = inputs.image_names().filter(|name| is_wanted(name)).map(str::to_owned).collect();
        if wanted.is_empty() {
            let (camera, names) = (camera.as_deref().unwrap_or("camera"), inputs.image_names().collect::<Vec<_>>().join(", "));
            anyhow::bail!("resizing images: there is none of the camera {camera} in the file; it has: {names}");
        }
        if let Some(twice) = wanted.iter().find(|name| sized.contains(name)) {
            misuse!("--camera-size gives the camera {twice} two sizes; expected one");
        }
        sized.extend(wanted);
        Ok(inputs.map_images(|name, size, rgb| {
            let to = [*height as usize, *width as usize];
            (is_wanted(name) && size != to).then(|| (to, resize(rgb, size, to)))
        }))
    })
}

/// # Errors
/// When the file has no image of a camera that is to have another name.
fn check_renamed(inputs: &Inputs, renames: &[(String, String)]) -> anyhow::Result<()> {
    for (camera, key) in renames {
        let is_it = |name: &str| name == camera || name.strip_prefix("observation.images.") == Some(camera);
        if !inputs.image_names().any(is_it) {
            let names = inputs.image_names().collect::<Vec<_>>().join(", ");
            anyhow::bail!("renaming {camera} to {key}: there is no image of the camera {camera} in the file; it has: {names}");
        }
    }
    Ok(())
}

/// As cameras do by resize=yes.
fn resize(rgb: &[u8], from: [usize; 2], to: [usize; 2]) -> Vec<u8> {
    let [from, to] = [from, to].map(|[height, width]| (width as u32, height as u32));
    sinew_drivers::camera::resized(rgb, from, to)
}

fn infer(policy: &str, compute: &ComputeArgs, inputs: &Path, out: &Path, repeat: usize, json: bool) -> anyhow::Result<Done> {
    let named = source::open(Some(policy), compute)?;
    let read = Inputs::read(inputs)?;
    check_renamed(&read, &compute.cameras.rename)?;
    let read = resized(read, &compute.cameras.camera_size)?;
    let report = named.checkpoint.infer_into(&read, inputs, out, repeat)?;
    if json {
        text::print_json(&Inferred { report, peak_memory_bytes: peak_memory_bytes() })?;
        return Ok(Done::Ok);
    }
    for name in &report.unused_inputs {
        text::note!("note: the policy has no use for the input {name}");
    }
    for name in &report.absent_cameras {
        text::note!("note: the policy runs without the camera {name}");
    }
    let ms = |q| report.timing.quantile_milliseconds(q);
    say!("{}: action [{}, {}] in {:.1} ms", out.display(), report.rows, report.width, ms(0.5));
    if repeat > 1 {
        say!("median of {repeat}; {:.1} ms fastest, {:.1} ms slowest, {:.1} ms to load", ms(0.0), ms(1.0), report.timing.load_milliseconds);
    }
    Ok(Done::Ok)
}
