//! What LeRobot's users type out of habit, and what it is here.

use std::ffi::OsString;

use clap::Command;
use clap::error::{ContextKind, ContextValue, ErrorKind};

use crate::args;

/// The console scripts of LeRobot 0.6.1, without `lerobot-`, that have another name here.
const VERBS: [(&str, &str); 5] = [
    ("teleoperate", "sinew teleop"),
    ("dataset-viz", "sinew dataset view"),
    ("edit-dataset", "sinew dataset delete, split, merge, remove-feature or rename-task"),
    ("find-joint-limits", "sinew calibrate, which finds each joint's range"),
    ("info", "sinew doctor"),
];

/// Those that have the same name.
const SAME: [&str; 9] = ["calibrate", "eval", "find-cameras", "find-port", "record", "replay", "rollout", "setup-motors", "train"];

/// Those that have none, and what to do.
const NONE: [(&str, &str); 4] = [
    ("annotate", "`sinew dataset rename-task` changes instructions; for the rest use LeRobot"),
    ("imgtransform-viz", "images are augmented in training, which LeRobot does"),
    ("train-tokenizer", "use LeRobot"),
    ("setup-can", "`sudo ip link set can0 up type can bitrate 1000000` sets the interface up, and --port can0 uses it"),
];

/// Options of LeRobot's and what they are here: an option, or words. With a verb, what they are in that one.
const OPTIONS: [(&str, &str, &str); 58] = [
    ("", "--robot.type", "--robot"),
    ("", "--robot.port", "--port"),
    ("", "--robot.id", "--id"),
    ("", "--robot.cameras", "--camera NAME=SOURCE, once for each"),
    ("", "--robot.left_arm_config.port", "--port left=PORT, and the other is --port right=PORT"),
    ("", "--robot.right_arm_config.port", "--port right=PORT, and the other is --port left=PORT"),
    ("", "--teleop.type", "--teleop"),
    ("", "--teleop.port", "--teleop-port"),
    ("", "--teleop.id", "--teleop-id"),
    ("train", "--policy.type", "--policy"),
    ("train", "--policy.path", "--from POLICY, which is trained further"),
    ("train", "--policy.device", "after `--`: sinew train ... -- --policy.device=cuda"),
    ("train", "--policy.repo_id", "--push OWNER/NAME"),
    ("", "--policy.type", "--policy DIR or OWNER/NAME, whose configuration says the type"),
    ("", "--policy.path", "--policy"),
    ("", "--policy.device", "--device"),
    ("record", "--dataset.repo_id", "--out DIR, and --publish OWNER/NAME for the Hub"),
    ("rollout", "--dataset.repo_id", "--out DIR; `sinew hub upload` brings it to the Hub"),
    ("", "--dataset.repo_id", "the dataset's folder or its name on the Hub, without an option"),
    ("replay", "--dataset.root", "the dataset's folder, without an option: sinew replay DIR"),
    ("train", "--dataset.root", "the dataset's folder, without an option: sinew train DIR"),
    ("", "--dataset.root", "--out"),
    ("", "--dataset.single_task", "--instruction"),
    ("", "--dataset.num_episodes", "--episodes"),
    ("", "--dataset.fps", "--fps"),
    ("", "--dataset.episode", "--episode"),
    ("", "--dataset.episode_time_s", "--episode-time"),
    ("", "--dataset.reset_time_s", "--reset-time"),
    ("", "--dataset.push_to_hub", "--publish OWNER/NAME"),
    ("", "--dataset.private", "--publish-private"),
    ("", "--dataset.rgb_encoder.vcodec", "--codec"),
    ("", "--dataset.vcodec", "--codec"),
    ("", "--inference.type", "--inference"),
    ("", "--inference.rtc.execution_horizon", "--rtc-horizon"),
    ("", "--inference.rtc.max_guidance_weight", "--rtc-weight"),
    ("", "--strategy.type", "--strategy"),
    ("", "--strategy.ring_buffer_seconds", "--ring-seconds"),
    ("", "--strategy.record_autonomous", "--record-autonomous"),
    ("", "--duration", "--seconds"),
    ("", "--teleop_time_s", "--seconds"),
    ("", "--display_data", "--rerun-connect HOST:PORT"),
    ("", "--play_sounds", "--say"),
    ("", "--rename_map", "--rename CAMERA=KEY, once for each camera"),
    ("", "--interpolation_multiplier", "--fps-multiplier"),
    ("", "--batch_size", "--batch-size"),
    ("", "--output_dir", "--out"),
    ("", "--config_path", "--rig NAME"),
    ("record", "--repo_id", "--out DIR, and --publish OWNER/NAME for the Hub"),
    ("", "--repo_id", "the dataset's folder or its name on the Hub, without an option"),
    ("", "--root", "the dataset's folder, without an option"),
    ("", "--eval.n_episodes", "--episodes"),
    ("", "--eval.batch_size", "--jobs"),
    ("", "--env.type", "--task, a task of the simulator"),
    ("", "--env.task", "--task, a task of the simulator"),
    ("", "--job.target", "--on jobs --flavor FLAVOR"),
    ("", "--operation.type", "a verb: sinew dataset delete, split, merge, remove-feature or rename-task"),
    ("", "--operation.episode_indices", "--episodes LIST of sinew dataset delete"),
    ("", "--operation.splits", "--part NAME=SHARE of sinew dataset split, once for each"),
];

/// What to add to clap's refusal of `line`, where it is of a word of LeRobot's.
pub fn hint(error: &clap::Error, line: &[OsString]) -> Option<String> {
    let text = |kind| match error.get(kind) {
        Some(ContextValue::String(text)) => Some(text.as_str()),
        _ => None,
    };
    match error.kind() {
        ErrorKind::InvalidSubcommand => of_verb(text(ContextKind::InvalidSubcommand)?),
        ErrorKind::UnknownArgument => of_option(text(ContextKind::InvalidArg)?.split('=').next()?, line),
        _ => None,
    }
}

fn of_verb(verb: &str) -> Option<String> {
    if sinew_sim::robots::list().any(|robot| robot == verb) {
        return Some(format!("{verb} is a robot; to show it: sinew robots show {verb}"));
    }
    let plain = verb.replace('_', "-");
    let name = plain.strip_prefix("lerobot-").unwrap_or(&plain);
    let of = |list: &[(&str, &'static str)]| list.iter().find(|(theirs, _)| *theirs == name).map(|(_, here)| *here);
    if let Some(here) = of(&VERBS) {
        return Some(format!("LeRobot's {name} is here: {here}"));
    }
    if let Some(instead) = of(&NONE) {
        return Some(format!("sinew has nothing like LeRobot's {name}: {instead}"));
    }
    (plain != name && SAME.contains(&name)).then(|| format!("LeRobot's {name} is here: sinew {name}"))
}

fn of_option(option: &str, line: &[OsString]) -> Option<String> {
    let cli = args::command();
    let (verb, name) = verb_of(&cli, line);
    let mut known = OPTIONS.iter().filter(|(_, theirs, _)| *theirs == option);
    let here = known.clone().find(|(only, ..)| *only == name).or_else(|| known.find(|(only, ..)| only.is_empty()));
    let Some((_, _, here)) = here else {
        let is_theirs = option.starts_with("--") && option.contains('.');
        return is_theirs.then(|| format!("{option} is LeRobot's way to write options; `sinew VERB --help` lists sinew's"));
    };
    let ours = here.strip_prefix("--").and_then(|rest| rest.split([' ', ',']).next());
    match ours.filter(|ours| !has(verb, ours)) {
        None => Some(format!("LeRobot's {option} is here: {here}")),
        Some(ours) => {
            let verbs: Vec<&str> =
                cli.get_subcommands().filter(|verb| !verb.is_hide_set() && has(verb, ours)).map(Command::get_name).collect();
            let who = if name.is_empty() { "sinew without a verb".to_owned() } else { format!("sinew {name}") };
            let of = if verbs.is_empty() { String::new() } else { format!(" of {}", verbs.join(", ")) };
            Some(format!("LeRobot's {option} is {here}{of}; {who} has nothing like it"))
        }
    }
}

fn has(verb: &Command, option: &str) -> bool {
    verb.get_arguments().any(|arg| arg.get_long() == Some(option))
}

/// The verb that `line` is of, and its name.
fn verb_of<'a>(cli: &'a Command, line: &[OsString]) -> (&'a Command, String) {
    let (mut verb, mut name) = (cli, Vec::new());
    for word in line.iter().skip(1).map_while(|word| word.to_str()).take_while(|word| !word.starts_with('-')) {
        let Some(deeper) = verb.find_subcommand(word) else { break };
        name.push(deeper.get_name());
        verb = deeper;
    }
    (verb, name.join(" "))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "what fails here fails the test")]

    use super::*;

    /// No verb is told to use an option that it does not have.
    #[test]
    fn what_is_here_is_there() {
        let cli = args::command();
        for (only, theirs, here) in OPTIONS {
            let Some(ours) = here.strip_prefix("--").and_then(|rest| rest.split([' ', ',']).next()) else { continue };
            let mut verbs = cli.get_subcommands().chain(cli.find_subcommand("dataset").unwrap().get_subcommands());
            let has_it = if only.is_empty() { verbs.any(|verb| has(verb, ours)) } else { has(cli.find_subcommand(only).unwrap(), ours) };
            assert!(has_it, "{theirs}: {only} has no --{ours}");
        }
        for name in SAME {
            assert!(cli.find_subcommand(name).is_some(), "{name}");
        }
        for verb in ["lerobot-foo", "lerobot-dataset-report", "record2"] {
            assert_eq!(of_verb(verb), None);
        }
        assert_eq!(of_verb("lerobot_record").unwrap(), "LeRobot's record is here: sinew record");
        assert!(of_verb("lerobot-annotate").unwrap().starts_with("sinew has nothing like"));
    }
}
