//! The command line: verbs that LeRobot's users know.

mod dataset;
mod emulate;
mod hardware;
mod hub;
mod lekiwi_host;
mod ports;
mod record;
mod recording;
mod replay;
mod rig;
mod rollout;
mod setup;
mod train;

use std::fmt::{self, Display};
use std::path::PathBuf;

use clap::{Args, Parser, Subcommand, ValueEnum};
use sinew_policy::{Device, Quantization};

pub use dataset::{DatasetCommand, EditArgs, Episodes, HowArgs, Part, PartOf};
pub use emulate::EmulateArgs;
pub use hardware::{HardwareArgs, LeaderArgs, Teleop, TeleopArgs};
pub use hub::{CacheCommand, CardArgs, DownloadArgs, FinishArgs, HubCommand, Kind, LoginArgs, RepoArgs, SearchArgs, SpaceArgs, UploadArgs};
pub use lekiwi_host::LekiwiHostArgs;
pub use ports::{PortArg, places_of};
pub use record::{PublishArgs, RecordArgs};
pub use recording::{RecordingArgs, UnfinishedChoice, VideoArgs};
pub use replay::ReplayArgs;
pub use rig::RigCommand;
pub use rollout::{InferenceMode, LoopArgs, RealtimeArgs, RolloutArgs, StrategyMode, fast_latency, in_words};
pub use setup::{ArmArgs, CalibrateArgs, FindCamerasArgs, FindPortArgs, SetupMotorsArgs};
pub use train::TrainArgs;

#[derive(Parser)]
#[command(
    name = "sinew",
    version,
    about = "Runs robot policies from the Hugging Face Hub against hardware or a simulator, and records what happened.",
    long_about = "Runs robot policies from the Hugging Face Hub against hardware or a simulator, and records what happened.\n\n\
        Without a verb it shows itself: a small policy works a simulated SO-101, three times, in real time.",
    after_help = "Examples:\n  sinew\n  sinew eval --task pick-place --episodes 100 --seed 1000\n  \
        sinew record --robot so101 --teleop scripted --task pick-place --episodes 20 --out my_dataset\n  \
        sinew rollout --policy lerobot-user/act_so101_pick_place --episodes 3"
)]
pub struct Cli {
    #[command(subcommand)]
    pub command: Option<Command>,
}

#[derive(Subcommand)]
pub enum Command {
    /// Run a policy on a robot and record the run; without arguments the demonstration policy in the simulator
    Rollout(Box<RolloutArgs>),
    /// Measure a policy's success rate over seeded episodes in the simulator
    Eval(EvalArgs),
    /// A robot follows a leader arm that you move
    Teleop(TeleopArgs),
    /// Offer a LeKiwi that hangs on this machine to clients of the network
    LekiwiHost(LekiwiHostArgs),
    /// Record teleoperated episodes into a LeRobot dataset
    Record(Box<RecordArgs>),
    /// A robot does once more what an episode of a dataset holds
    Replay(Box<ReplayArgs>),
    /// Look into a policy, or run it on one observation
    Policy {
        #[command(subcommand)]
        command: PolicyCommand,
    },
    /// Look into a dataset, check, mend and change it
    Dataset {
        #[command(subcommand)]
        command: DatasetCommand,
    },
    /// Find, download, look at and share policies and datasets on the Hugging Face Hub
    Hub {
        #[command(subcommand)]
        command: HubCommand,
    },
    /// Train a policy on a dataset by LeRobot's own trainer: here, on another machine, or on the Hub's
    Train(Box<TrainArgs>),
    /// Find out which place of its motors is which place of an arm, or check it
    Calibrate(CalibrateArgs),
    /// Which serial port an arm is on
    FindPort(FindPortArgs),
    /// Which cameras there are, what they offer, and a picture of each
    FindCameras(FindCamerasArgs),
    /// Give new motors their ids and speed
    SetupMotors(SetupMotorsArgs),
    /// What this machine grants a control loop, and how to get what it refuses
    #[command(after_help = "Example:\n  sinew doctor --json")]
    Doctor {
        #[arg(long)]
        json: bool,
    },
    /// Play a robot's motors behind a serial port: for trying things without hardware, and for breaking them
    Emulate(EmulateArgs),
    /// Write down once what hangs on this machine: robot, ports, cameras, calibrations, instruction
    Rig {
        #[command(subcommand)]
        command: RigCommand,
    },
    /// List the robots that are built in, or show one
    Robots(RobotsArgs),
    /// The embedded simulator
    Sim {
        #[command(subcommand)]
        command: SimCommand,
    },
    /// Stands by for a process that drives an arm; sinew starts it itself
    #[command(hide = true)]
    Watchdog {
        /// What it calls the robot.
        title: String,
        #[arg(long)]
        fifo: Option<u8>,
    },
    /// Print a completion script for a shell
    #[command(after_help = "Example:\n  sinew completions bash > ~/.local/share/bash-completion/completions/sinew")]
    Completions { shell: clap_complete::Shell },
}

/// A command line that makes no sense, though each of its words does. It ends as clap's own refusals do.
#[derive(Debug)]
pub struct Misuse(pub String);

impl Display for Misuse {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl std::error::Error for Misuse {}

/// Refuses the first of `options` that was given: `why` says what it needs.
fn refuse_given(options: &[(&str, bool)], why: &str) -> Result<(), Misuse> {
    match options.iter().find(|(_, is_given)| *is_given) {
        Some((option, _)) => Err(Misuse(format!("{option} {why}"))),
        None => Ok(()),
    }
}

/// On which clock the simulator runs.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Pace {
    /// As a real robot would
    Real,
    /// As fast as the machine can, on a simulated clock
    Fast,
}

/// What is run on what, for every verb that runs something.
#[derive(Args, Clone)]
pub struct RigArgs {
    /// A robot's name (see `sinew robots`) or a folder with a robot.toml
    #[arg(long, default_value = "so101")]
    pub robot: String,
    /// In the simulator the name of a task: reach, push, pick-place or sort; without it pick-place. With --port the same as --instruction
    #[arg(long)]
    pub task: Option<String>,
    /// What the policy is told to do, in a sentence; recorded with every frame. Without it the simulator's task has its own
    #[arg(long, value_name = "TEXT")]
    pub instruction: Option<String>,
    /// The seed of the first episode; episode i uses seed + i
    #[arg(long, default_value_t = 0)]
    pub seed: u64,
}

impl RigArgs {
    /// The instruction of a robot behind a port, where `--task` is LeRobot's word for it.
    ///
    /// # Errors
    /// When both are given.
    pub fn told(&self) -> Result<Option<&str>, Misuse> {
        if self.task.is_some() && self.instruction.is_some() {
            return Err(Misuse("--task and --instruction are one thing on a robot behind --port; expected one of them".to_owned()));
        }
        Ok(self.instruction.as_deref().or(self.task.as_deref()).map(str::trim).filter(|text| !text.is_empty()))
    }
}

/// How a policy computes, for every verb that runs one.
#[derive(Args, Clone, Default)]
pub struct ComputeArgs {
    /// Threads for inference; without it all cores, but in `rollout` the control loop's, and in `eval` one an episode
    #[arg(long)]
    pub threads: Option<usize>,
    /// cpu; cuda[:N] or metal[:N] in a build with that feature
    #[arg(long, default_value_t = Device::Cpu)]
    pub device: Device,
    /// q8 keeps the weights of linear layers in 8 bits: less memory, and less accuracy, which is measured and printed
    #[arg(long)]
    pub quantize: Option<Quantization>,
    /// Run a policy though there are NaN or infinities among its weights
    #[arg(long)]
    pub allow_nan: bool,
    /// Refuse a policy whose licence doesn't surely allow commercial use
    #[arg(long)]
    pub commercial: bool,
}

#[derive(Args, Clone)]
#[command(after_help = "Examples:\n  sinew eval --task pick-place --episodes 100 --seed 1000\n  \
    sinew eval --task pick-place --policy ./my_checkpoint --json > results.jsonl")]
pub struct EvalArgs {
    #[command(flatten)]
    pub rig: RigArgs,
    /// A checkpoint folder, or owner/name[@revision] on the Hub; without it the demonstration policy
    #[arg(long)]
    pub policy: Option<String>,
    /// Episodes to run
    #[arg(long, default_value_t = 100, value_parser = at_least_one)]
    pub episodes: u64,
    /// Episodes that run at once; without it one a core
    #[arg(long, value_name = "N", value_parser = one_or_more)]
    pub jobs: Option<usize>,
    /// sync: the arm waits for each answer. async: answers come two ticks after they are asked for, as in `rollout --pace fast`
    #[arg(long, value_enum, default_value_t = EvalInference::Sync)]
    pub inference: EvalInference,
    /// One JSON line an episode on stdout (seed, success, ticks, action_hash, state_hash), and one with the totals
    #[arg(long)]
    pub json: bool,
    /// PNG of every episode's last image; without it outputs/eval-N.png
    #[arg(long, value_name = "FILE.png", value_parser = png_file)]
    pub contact_sheet: Option<PathBuf>,
    /// Write over a contact sheet that is there
    #[arg(long)]
    pub force: bool,
    #[command(flatten)]
    pub compute: ComputeArgs,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum EvalInference {
    /// The arm waits while the policy computes
    Sync,
    /// The policy computes while the arm moves
    Async,
}

#[derive(Subcommand)]
pub enum PolicyCommand {
    /// What a checkpoint is: family, parameters, features, normalisation, licence
    #[command(after_help = "Example:\n  sinew policy info ./outputs/train/checkpoints/last/pretrained_model")]
    Info {
        /// A checkpoint folder, or owner/name[@revision] on the Hub; without it the demonstration policy
        policy: Option<String>,
        #[arg(long)]
        json: bool,
    },
    /// Whether a checkpoint is whole and, with --robot, whether it fits that robot; no weight is read
    #[command(after_help = "Compares configuration, processors, statistics and the header of the weights with each other, and\n\
        with the robot: cameras, joints, action width. Ends with exit code 1 where something doesn't fit.\n\n\
        Examples:\n  sinew policy check lerobot/act_aloha_sim_transfer_cube_human\n  sinew policy check ./checkpoint --robot so101 --json")]
    Check {
        /// A checkpoint folder, or owner/name[@revision] on the Hub; without it the demonstration policy
        policy: Option<String>,
        /// A robot's name (see `sinew robots`) or a folder with a robot.toml
        #[arg(long)]
        robot: Option<String>,
        #[arg(long)]
        json: bool,
    },
    /// How long a checkpoint takes to load and to answer, on black images or on inputs from a file
    #[command(after_help = "Examples:\n  sinew policy bench\n  sinew policy bench ./checkpoint --threads 1 --repeat 50 --json\n  \
        sinew policy bench ./checkpoint --quantize q8")]
    Bench {
        /// A checkpoint folder, or owner/name[@revision] on the Hub; without it the demonstration policy
        policy: Option<String>,
        /// Inputs as for `sinew policy infer`
        #[arg(long, value_name = "IN.safetensors")]
        inputs: Option<PathBuf>,
        /// How many answers to time
        #[arg(long, value_name = "N", default_value_t = 20, value_parser = one_or_more)]
        repeat: usize,
        #[command(flatten)]
        compute: ComputeArgs,
        #[arg(long)]
        json: bool,
    },
    /// Run a checkpoint on one observation from a file
    #[command(after_help = "IN holds tensors named by feature key (observation.state f32 [D]; images u8 [H,W,3]; with a leading time\n\
        axis where the policy takes several observation steps), optionally `noise`, and the metadata key task.\n\
        OUT gets `action` f32 [n, A], unnormalised.\n\nExample:\n  sinew policy infer ./checkpoint --inputs in.safetensors --out out.safetensors")]
    Infer {
        /// A checkpoint folder, or owner/name[@revision] on the Hub
        policy: String,
        #[arg(long, value_name = "IN.safetensors")]
        inputs: PathBuf,
        #[arg(long, value_name = "OUT.safetensors")]
        out: PathBuf,
        #[command(flatten)]
        compute: ComputeArgs,
        /// Answer so many times and tell how long each took
        #[arg(long, value_name = "N", default_value_t = 1, value_parser = one_or_more)]
        repeat: usize,
        #[arg(long)]
        json: bool,
    },
}

#[derive(Args)]
#[command(args_conflicts_with_subcommands = true, after_help = "Examples:\n  sinew robots\n  sinew robots show so101")]
pub struct RobotsArgs {
    #[command(subcommand)]
    pub command: Option<RobotsCommand>,
    #[arg(long)]
    pub json: bool,
}

#[derive(Subcommand)]
pub enum RobotsCommand {
    /// A live table of an arm's motors: positions, loads, temperatures, voltages, ages, errors; nothing moves and nothing is written
    #[command(
        after_help = "An arm that nobody holds may be moved by hand meanwhile. Of a robot behind a network its state is shown.\n\nExamples:\n  \
        sinew robots monitor --robot reachy_mini --port reachy-mini.local\n  \
        sinew robots monitor --robot so101 --port /dev/ttyACM0\n  \
        sinew robots monitor --teleop so101_leader --teleop-port /dev/ttyACM1 --seconds 10 --json"
    )]
    Monitor {
        #[command(flatten)]
        arm: ArmArgs,
        /// The name of its calibration file; without it positions count from the middle of each motor's turn
        #[arg(long, value_name = "NAME")]
        id: Option<String>,
        /// A rig, whose entries are the options that are not given (see `sinew rig`)
        #[arg(long = "rig", value_name = "NAME|FILE")]
        rig: Option<String>,
        /// What a LeKiwi's host wants to hear; better put into SINEW_TOKEN
        #[arg(long, requires = "port")]
        token: Option<String>,
        /// End after so many seconds; without it, at Ctrl-C
        #[arg(long, value_name = "S", value_parser = above_zero)]
        seconds: Option<f64>,
        /// Looks a second
        #[arg(long, value_name = "HZ", default_value_t = 30, value_parser = clap::value_parser!(u32).range(1..=1000))]
        fps: u32,
        /// What was seen, as one JSON line on stdout at the end
        #[arg(long)]
        json: bool,
    },
    /// Show one robot: joints, limits, cameras
    Show {
        robot: String,
        #[arg(long)]
        json: bool,
    },
}

#[derive(Subcommand)]
pub enum SimCommand {
    /// Write a PNG of each camera
    #[command(after_help = "Example:\n  sinew sim render --task pick-place --seed 3 --out pictures --width 640 --height 480")]
    Render {
        #[command(flatten)]
        rig: RigArgs,
        /// Folder for the PNGs
        #[arg(long, default_value = ".")]
        out: PathBuf,
        /// Pixels of a row, 1 to 8192, instead of the cameras' own
        #[arg(long, value_name = "PIXELS", requires = "height", value_parser = clap::value_parser!(u32).range(1..=8192))]
        width: Option<u32>,
        /// Rows, 1 to 8192
        #[arg(long, value_name = "PIXELS", requires = "width", value_parser = clap::value_parser!(u32).range(1..=8192))]
        height: Option<u32>,
        /// Write over pictures that are there
        #[arg(long)]
        force: bool,
    },
}

fn at_least_one(text: &str) -> Result<u64, String> {
    text.parse().ok().filter(|count| *count > 0).ok_or_else(|| "expected a whole number of at least 1".to_owned())
}

fn png_file(text: &str) -> Result<PathBuf, String> {
    let path = PathBuf::from(text);
    let is_png = path.extension().is_some_and(|end| end.eq_ignore_ascii_case("png"));
    if is_png { Ok(path) } else { Err("it is written as PNG; expected a name that ends in .png".to_owned()) }
}

fn one_or_more(text: &str) -> Result<usize, String> {
    text.parse().ok().filter(|count| (1..=1_000_000).contains(count)).ok_or_else(|| "expected a whole number from 1 to 1000000".to_owned())
}

fn above_zero(text: &str) -> Result<f64, String> {
    match text.parse::<f64>() {
        Ok(value) if value > 0.0 && value <= 1e9 => Ok(value),
        _ => Err("expected a number above 0, at most 1e9".to_owned()),
    }
}

fn zero_or_above(text: &str) -> Result<f64, String> {
    match text.parse::<f64>() {
        Ok(value) if (0.0..=1e9).contains(&value) => Ok(value),
        _ => Err("expected 0 or a number above it, at most 1e9".to_owned()),
    }
}
