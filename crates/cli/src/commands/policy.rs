//! `sinew policy`

use std::path::Path;

use sinew_policy::Info;

use crate::args::PolicyCommand;
use crate::text::say;
use crate::{Done, source, text};

pub fn run(command: &PolicyCommand) -> anyhow::Result<Done> {
    match command {
        PolicyCommand::Info { policy, json } => info(policy.as_deref(), *json),
        PolicyCommand::Infer { policy, inputs, out, threads } => infer(policy, inputs, out, *threads),
    }
}

fn info(policy: Option<&str>, json: bool) -> anyhow::Result<Done> {
    let named = source::open(policy)?;
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
        rows.push(vec![
            feature.name.clone(),
            format!("{:?}", feature.kind).to_uppercase(),
            format!("{:?}", feature.shape),
            feature.normalization.clone(),
        ]);
    }
    format!(
        "{name}\n  folder        {}\n  family        {}{}\n  parameters    {} ({}, {} on disk, about {} in memory)\n  \
         answers       {} rows, {} of them executed\n  licence       {}\n  preprocessor  {}\n  postprocessor {}\n\n{}",
        info.dir.display(),
        info.family,
        info.backbone.as_deref().map_or(String::new(), |backbone| format!(", {backbone}")),
        text::count(info.parameters),
        info.dtype,
        text::bytes(info.file_bytes),
        text::bytes(info.memory_bytes),
        info.chunk_size,
        info.n_action_steps,
        info.licence.as_deref().unwrap_or("not stated"),
        info.preprocessor.join(" ▸ "),
        info.postprocessor.join(" ▸ "),
        text::table(&rows),
    )
}

fn infer(policy: &str, inputs: &Path, out: &Path, threads: Option<usize>) -> anyhow::Result<Done> {
    if let Some(threads) = threads {
        source::set_threads(threads)?;
    }
    let named = source::open(Some(policy))?;
    let report = named.checkpoint.infer_file(inputs, out)?;
    for name in &report.unused_inputs {
        eprintln!("note: the policy has no use for the input {name}");
    }
    say!("{}: action [{}, {}] in {:.1} ms", out.display(), report.rows, report.width, report.milliseconds);
    Ok(Done::Ok)
}
