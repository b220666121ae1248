//! What LeRobot's users type out of habit, and what it is here.

use clap::error::{ContextKind, ContextValue, ErrorKind};

/// Verbs of LeRobot 0.6.1 (its console scripts, without `lerobot-`) that have another name here.
const VERBS: [(&str, &str); 9] = [
    ("teleoperate", "sinew teleop"),
    ("dataset-viz", "sinew dataset view"),
    ("edit-dataset", "sinew dataset delete, split, merge, remove-feature or rename-task"),
    ("annotate", "no verb of sinew; `sinew dataset rename-task` changes instructions"),
    ("find-joint-limits", "sinew calibrate, which finds each joint's range"),
    ("imgtransform-viz", "no verb of sinew: images are augmented while training, which LeRobot does"),
    ("info", "sinew doctor"),
    ("train-tokenizer", "no verb of sinew: that is LeRobot's, which `sinew train` calls for training"),
    ("setup-can", "no verb of sinew: `sudo ip link set can0 up type can bitrate 1000000` sets the interface up, and --port can0 uses it"),
];

/// Options of LeRobot's that carry a dot, and what they are here.
const OPTIONS: [(&str, &str); 16] = [
    ("--robot.type", "--robot"),
    ("--robot.port", "--port"),
    ("--robot.id", "--id"),
    ("--robot.cameras", "--camera NAME=SOURCE, once for each"),
    ("--teleop.type", "--teleop"),
    ("--teleop.port", "--teleop-port"),
    ("--teleop.id", "--teleop-id"),
    ("--policy.path", "--policy"),
    (
        "--dataset.repo_id",
        "the dataset's name without an option in train and replay; in record --out DIR, and --publish OWNER/NAME for the Hub",
    ),
    ("--dataset.root", "--out"),
    ("--dataset.single_task", "--instruction"),
    ("--dataset.num_episodes", "--episodes"),
    ("--dataset.fps", "--fps"),
    ("--dataset.episode_time_s", "--episode-time"),
    ("--dataset.reset_time_s", "--reset-time"),
    ("--dataset.push_to_hub", "--publish OWNER/NAME"),
];

/// What to add to clap's refusal, where it is of a word of LeRobot's.
pub fn hint(error: &clap::Error) -> Option<String> {
    let text = |kind| match error.get(kind) {
        Some(ContextValue::String(text)) => Some(text.as_str()),
        _ => None,
    };
    match error.kind() {
        ErrorKind::InvalidSubcommand => {
            let verb = text(ContextKind::InvalidSubcommand)?;
            if sinew_sim::robots::list().any(|robot| robot == verb) {
                return Some(format!("{verb} is a robot; to show it: sinew robots show {verb}"));
            }
            let (name, is_script) = verb.strip_prefix("lerobot-").map_or((verb, false), |name| (name, true));
            let here = VERBS.iter().find(|(theirs, _)| *theirs == name).map(|(_, here)| (*here).to_owned());
            let here = here.or_else(|| is_script.then(|| format!("sinew {name}")))?;
            Some(format!("LeRobot's {name} is here: {here}"))
        }
        ErrorKind::UnknownArgument => {
            let option = text(ContextKind::InvalidArg)?.split('=').next()?;
            let here = OPTIONS.iter().find(|(theirs, _)| *theirs == option).map(|(_, here)| format!("LeRobot's {option} is here: {here}"));
            here.or_else(|| {
                (option.starts_with("--") && option.contains('.'))
                    .then(|| format!("{option} is LeRobot's way to write options; `sinew VERB --help` lists sinew's"))
            })
        }
        _ => None,
    }
}
