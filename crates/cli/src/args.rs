//! The command line: verbs that LeRobot's users know.

mod daemon;
mod dataset;
mod emulate;
mod fleet;
mod hardware;
mod hub;
mod lekiwi_host;
mod ports;
mod record;
mod recording;
mod remote;
mod replay;
mod rig;
mod rollout;
mod serve;
mod setup;
mod shown;
mod train;
mod values;

use std::fmt::{self, Display};
use std::path::PathBuf;
use std::str::FromStr;

use clap::{Args, Parser, Subcommand, ValueEnum};
use sinew_core::RobotDescription;
use sinew_policy::{Device, Quantization};

pub use daemon::{DaemonArgs, DaemonCommand, InstallArgs, RoleArg};
pub use dataset::{DatasetCommand, EditArgs, Episodes, HowArgs, Part, PartOf};
pub use emulate::EmulateArgs;
pub use fleet::{FleetArgs, FleetCommand, How};
pub use hardware::{HardwareArgs, LeaderArgs, Teleop, TeleopArgs};
pub use hub::{CacheCommand, CardArgs, DownloadArgs, FinishArgs, HubCommand, Kind, LoginArgs, RepoArgs, SearchArgs, SpaceArgs, UploadArgs};
pub use lekiwi_host::LekiwiHostArgs;
pub use ports::{PortArg, places_of};
pub use record::{PublishArgs, RecordArgs};
pub use recording::{RecordingArgs, UnfinishedChoice, VideoArgs};
pub use remote::{RemoteArgs, is_server, is_zenoh, token};
pub use replay::ReplayArgs;
pub use rig::RigCommand;
pub use rollout::{InferenceMode, LoopArgs, RealtimeArgs, RolloutArgs, StrategyMode, fast_latency, in_words};
pub use serve::ServeArgs;
pub use setup::{ArmArgs, CalibrateArgs, FindCamerasArgs, FindPortArgs, SetupMotorsArgs};
pub use shown::command;
pub use train::TrainArgs;
use values::{MANY, MOST_THREADS, above_zero, at_least_one, plain_name, png_file, seed, whole, zero_or_above};

#[derive(Parser)]
#[command(
    name = "sinew",
    version,
    about = "Runs robot policies from the Hugging Face Hub against hardware or a simulator, and records what happened.",
    long_about = "Runs robot policies from the Hugging Face Hub against hardware or a simulator, and records what happened.\n\n\
        Without a verb it runs a demonstration: a small policy works a simulated SO-101, three times, in real time.",
    after_help = "Examples:\n  \
        sinew\n  \
        sinew eval --task pick-place --episodes 100 --seed 1000\n  \
        sinew record --robot so101 --teleop scripted --task pick-place --episodes 20 \\\n      \
        --out my_dataset\n  \
        sinew rollout --policy lerobot-user/act_so101_pick_place --episodes 3"
)]
pub struct Cli {
    #[command(subcommand)]
    pub command: Option<Command>,
    /// Show the value of every option and where it comes from, and do nothing
    #[arg(long, global = true, hide_short_help = true)]
    pub explain: bool,
    /// Ask the Hub nothing, and use what is in the cache, as with HF_HUB_OFFLINE=1
    #[arg(long, global = true, hide_short_help = true)]
    pub offline: bool,
}

#[derive(Subcommand)]
pub enum Command {
    /// Run a policy on a robot or in the simulator, and record the run
    Rollout(Box<RolloutArgs>),
    /// Serve a policy to clients on the network, in openpi's protocol and LeRobot's
    Serve(ServeArgs),
    /// Own a robot and offer it to a web page and to programs
    Daemon(Box<DaemonArgs>),
    /// List, watch and stop robots whose daemons meet over zenoh
    Fleet(FleetArgs),
    /// Measure a policy's success rate over seeded episodes in the simulator
    Eval(EvalArgs),
    /// Move a robot with a leader arm, a gamepad or the keyboard
    Teleop(TeleopArgs),
    /// Serve a LeKiwi that is connected to this machine to clients on the network
    LekiwiHost(LekiwiHostArgs),
    /// Record teleoperated episodes into a LeRobot dataset
    Record(Box<RecordArgs>),
    /// Replay an episode of a dataset on a robot or in the simulator
    Replay(Box<ReplayArgs>),
    /// Inspect, check and time a policy, or run it on one observation
    Policy {
        #[command(subcommand)]
        command: PolicyCommand,
    },
    /// Inspect, check, repair and edit datasets
    Dataset {
        #[command(subcommand)]
        command: DatasetCommand,
    },
    /// Find, download, inspect and share policies and datasets on the Hugging Face Hub
    Hub {
        #[command(subcommand)]
        command: HubCommand,
    },
    /// Train a policy with LeRobot's trainer: here, over ssh, or as a Hugging Face Job
    Train(Box<TrainArgs>),
    /// Calibrate an arm, or check its calibration
    Calibrate(CalibrateArgs),
    /// Find the serial port of an arm
    FindPort(FindPortArgs),
    /// List the cameras, what they offer, and take a picture with each
    FindCameras(FindCamerasArgs),
    /// Give new motors their ids and baud rate
    SetupMotors(SetupMotorsArgs),
    /// Show and change your defaults: options that you always want, and your rig
    #[command(
        after_help = "The file is ~/.config/sinew/config.toml. Options on the command line win over a rig, and a rig wins over this file.\n\n\
        Examples:\n  sinew config\n  sinew config set rig kitchen\n  sinew config set rollout.inference rtc\n  \
        sinew config set all.threads 2\n  sinew config unset rollout.inference\n  sinew rollout --explain"
    )]
    Config {
        #[command(subcommand)]
        command: Option<ConfigCommand>,
        /// Print the result as JSON on standard output
        #[arg(long)]
        json: bool,
    },
    /// Check this machine: scheduling, disk, encoder, Hub, ports, cameras; and what to do about problems
    #[command(after_help = "Example:\n  sinew doctor --json")]
    Doctor {
        /// Print the result as JSON on standard output
        #[arg(long)]
        json: bool,
    },
    /// Emulate a robot's motors on a serial port, to try things without hardware and to inject faults
    Emulate(EmulateArgs),
    /// Store what is connected to this machine: robot, ports, cameras, calibrations, instruction
    Rig {
        #[command(subcommand)]
        command: RigCommand,
    },
    /// List the built-in robots and leader arms, show one, or monitor its motors
    Robots(RobotsArgs),
    /// Render pictures with the embedded simulator
    Sim {
        #[command(subcommand)]
        command: SimCommand,
    },
    /// Watches a process that drives an arm; sinew starts it itself
    #[command(hide = true)]
    Watchdog {
        /// What it calls the robot.
        title: String,
        #[arg(long)]
        fifo: Option<u8>,
    },
    /// Print a completion script for a shell
    #[command(after_help = "Example:\n  sinew completions bash > ~/.local/share/bash-completion/completions/sinew")]
    Completions {
        /// The shell
        shell: clap_complete::Shell,
    },
    /// Write the manual pages, as packages have them: one for each verb that people use
    #[command(hide = true, after_help = "Example:\n  sinew man-pages man/man1")]
    ManPages {
        /// The folder; it is made where there is none, and pages of the same name are replaced
        #[arg(value_name = "DIR")]
        folder: PathBuf,
    },
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

/// As `bail!`, for a command line that makes no sense.
macro_rules! misuse {
    ($($part:tt)*) => { anyhow::bail!($crate::args::Misuse(format!($($part)*))) };
}
pub(crate) use misuse;

impl Command {
    /// Whether it goes on until it is told to end, and must not wait for those who read what it says.
    pub fn has_loop(&self) -> bool {
        match self {
            Self::Rollout(_) | Self::Serve(_) | Self::Teleop(_) | Self::LekiwiHost(_) | Self::Record(_) | Self::Replay(_) => true,
            Self::Eval(_) | Self::Emulate(_) => true,
            Self::Daemon(args) => args.command.is_none(),
            _ => false,
        }
    }

    /// Refuses options that mean nothing beside the others, as far as no file says whether they do.
    ///
    /// # Errors
    /// When one was given.
    pub fn check(&self) -> Result<(), Misuse> {
        match self {
            Self::Rollout(args) => args.check(),
            Self::Record(args) => args.check(),
            Self::Replay(args) => args.check(),
            Self::Daemon(args) => args.check(),
            Self::Teleop(args) => args.check(),
            Self::Calibrate(args) => args.check(),
            Self::SetupMotors(args) => args.arm.check(),
            Self::Robots(RobotsArgs { command: Some(RobotsCommand::Monitor { arm, .. }), .. }) => arm.check(),
            Self::Dataset { command } => command.check(),
            _ => Ok(()),
        }
    }
}

/// Refuses the first of `options` that was given: `why` says what it needs.
///
/// # Errors
/// When one was given.
pub fn refuse_given(options: &[(&str, bool)], why: &str) -> Result<(), Misuse> {
    match options.iter().find(|(_, is_given)| *is_given) {
        Some((option, _)) => Err(Misuse(format!("{option} {why}"))),
        None => Ok(()),
    }
}

/// What an option needs that is for a real robot.
pub const NEEDS_PORT: &str = "is for a robot behind --port, and without --port the simulator runs";

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
    /// A robot by name (see `sinew robots`), or its folder
    #[arg(long, default_value = "so101")]
    pub robot: String,
    /// The simulator's task: reach, push, pick-place, sort [default: pick-place]
    ///
    /// In verbs with --port, and with it, this means the same as --instruction, as in LeRobot.
    #[arg(long)]
    pub task: Option<String>,
    /// The instruction for the policy, as a sentence [default: the task's own]
    ///
    /// A recording keeps it with every frame.
    #[arg(long, value_name = "TEXT")]
    pub instruction: Option<String>,
    /// The seed of the first episode. Episode i uses seed + i
    #[arg(long, default_value_t = 0, value_parser = seed)]
    pub seed: u64,
}

impl Default for RigArgs {
    fn default() -> Self {
        Self { robot: "so101".into(), task: None, instruction: None, seed: 0 }
    }
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
        Ok(self.instruction.as_deref().or(self.task.as_deref()).map(str::trim))
    }
}

/// Which camera is which, for every verb that fits a policy to cameras.
#[derive(Args, Clone, Default)]
pub struct CameraArgs {
    /// Let the policy see a camera under another name. Give it once for each camera
    ///
    /// CAMERA is the robot's name (in `policy infer` that of the tensor), KEY the policy's, both with or without observation.images. This is LeRobot's rename map.
    #[arg(long, value_name = "CAMERA=KEY", value_parser = camera_and_key, hide_short_help = true, help_heading = "Policy")]
    pub rename: Vec<(String, String)>,
    /// The size of a camera's images, or without a name that of all cameras. Give it once for each camera
    ///
    /// In the simulator the cameras take images of this size; `policy check` takes the robot to have such cameras; `policy infer` resizes the images of its file. For the cameras of an arm use --camera NAME=…,WIDTHxHEIGHT,resize=yes.
    #[arg(long, value_name = "[CAMERA=]WIDTHxHEIGHT", hide_short_help = true, help_heading = "Policy")]
    pub camera_size: Vec<CameraSize>,
}

/// The size of one camera's images, or of all cameras'.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CameraSize {
    pub camera: Option<String>,
    pub width: u32,
    pub height: u32,
}

impl FromStr for CameraSize {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let (camera, size) = text.rsplit_once('=').map_or((None, text), |(camera, size)| (Some(camera), size));
        let side = |text: &str| text.parse::<u32>().ok().filter(|side| (1..=MOST_PIXELS).contains(side));
        match (camera, size.split_once('x').and_then(|(width, height)| Some((side(width)?, side(height)?)))) {
            (Some(""), _) | (_, None) => {
                Err(format!("expected [CAMERA=]WIDTHxHEIGHT, each side 1 to {MOST_PIXELS}, for example front=640x480"))
            }
            (camera, Some((width, height))) => Ok(Self { camera: camera.map(str::to_owned), width, height }),
        }
    }
}

/// Along a side of an image.
const MOST_PIXELS: u32 = 4096;

impl CameraArgs {
    /// Gives the cameras of `robot` their sizes.
    ///
    /// # Errors
    /// When it has no camera of a name, or a camera is named twice.
    pub fn resize(&self, robot: &mut RobotDescription) -> Result<(), Misuse> {
        let mut sized = vec![false; robot.cameras.len()];
        for CameraSize { camera, width, height } in &self.camera_size {
            let name = camera.as_deref().map(|name| name.strip_prefix("observation.images.").unwrap_or(name));
            let mut found = false;
            for (camera, sized) in
                robot.cameras.iter_mut().zip(&mut sized).filter(|(camera, _)| name.is_none_or(|name| camera.name == name))
            {
                if std::mem::replace(sized, true) {
                    return Err(Misuse(format!("--camera-size gives the camera {} two sizes; expected one", camera.name)));
                }
                (camera.width, camera.height) = (*width, *height);
                found = true;
            }
            if !found {
                let names: Vec<&str> = robot.cameras.iter().map(|camera| camera.name.as_str()).collect();
                let (name, robot, names) = (name.unwrap_or("it could be for"), &robot.name, names.join(", "));
                return Err(Misuse(format!("--camera-size: the robot {robot} has no camera {name}; expected one of: {names}")));
            }
        }
        Ok(())
    }
}

fn camera_and_key(text: &str) -> Result<(String, String), String> {
    match text.split_once('=') {
        Some((camera, key)) if !camera.is_empty() && !key.is_empty() => Ok((camera.to_owned(), key.to_owned())),
        _ => Err("expected CAMERA=KEY, for example top=observation.images.front".to_owned()),
    }
}

/// How a policy computes, for every verb that runs one.
#[derive(Args, Clone, Default)]
pub struct ComputeArgs {
    /// Threads for inference 1 to 256 [default: all cores in policy verbs, all but one in rollout, one per episode in eval]
    #[arg(long, value_parser = whole::<usize>(1..=MOST_THREADS), hide_short_help = true, help_heading = "Policy")]
    pub threads: Option<usize>,
    /// Where the policy computes: cpu, cuda[:N] or metal[:N]. cuda and metal need a build with that feature
    #[arg(long, default_value_t = Device::Cpu, hide_short_help = true, help_heading = "Policy")]
    pub device: Device,
    /// Store the weights of linear layers in 8 bits (q8), which saves memory, or multiply 8-bit weights by 8-bit inputs (int8), which saves time, too. Both cost accuracy: `sinew policy bench --accuracy` measures how much
    #[arg(long, hide_short_help = true, help_heading = "Policy")]
    pub quantize: Option<Quantization>,
    /// Run a policy even if its weights hold NaN or infinities
    #[arg(long, hide_short_help = true, help_heading = "Policy")]
    pub allow_nan: bool,
    #[command(flatten)]
    pub cameras: CameraArgs,
    /// Refuse a policy unless its licence clearly allows commercial use
    #[arg(long, hide_short_help = true, help_heading = "Policy")]
    pub commercial: bool,
}

#[derive(Args, Clone)]
#[command(after_help = "Examples:\n  sinew eval --task pick-place --episodes 100 --seed 1000\n  \
    sinew eval --task pick-place --policy ./my_checkpoint --json > results.jsonl")]
pub struct EvalArgs {
    #[command(flatten)]
    pub rig: RigArgs,
    /// A checkpoint folder, or owner/name[@revision] on the Hub [default: the demonstration policy]
    #[arg(long)]
    pub policy: Option<String>,
    /// The number of episodes to run
    #[arg(long, default_value_t = 100, value_parser = at_least_one)]
    pub episodes: u64,
    /// The number of episodes that run at the same time, 1 to 1000000 [default: one per core]
    #[arg(long, value_name = "N", value_parser = whole::<usize>(1..=MANY))]
    pub jobs: Option<usize>,
    /// When the policy computes
    #[arg(long, value_enum, default_value_t = EvalInference::Sync)]
    pub inference: EvalInference,
    /// Print the result as JSON on standard output
    #[arg(long)]
    pub json: bool,
    /// A PNG with the last image of every episode [default: outputs/eval-N.png]
    #[arg(long, value_name = "FILE.png", value_parser = png_file)]
    pub contact_sheet: Option<PathBuf>,
    /// Overwrite files that exist
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
    /// Show what a checkpoint is: family, parameters, features, normalisation, licence
    #[command(after_help = "Example:\n  sinew policy info ./outputs/train/checkpoints/last/pretrained_model")]
    Info {
        /// A checkpoint folder, or owner/name[@revision] on the Hub [default: the demonstration policy]
        policy: Option<String>,
        /// Print the result as JSON on standard output
        #[arg(long)]
        json: bool,
    },
    /// Check that a checkpoint is complete and, with --robot, that it fits that robot
    #[command(
        after_help = "Compares the configuration, the processors, the statistics and the header of the weights with each other, and \
        with the robot: cameras, joints, action width. Weights are not read. Ends with exit code 1 if something does not fit.\n\n\
        Of a policy server (ws, zenoh, groot) it shows what the server says of itself; of an HTTP endpoint, what it answers to a GET. With --robot it asks for two answers, \
        which nothing executes.\n\n\
        Examples:\n  sinew policy check lerobot/act_aloha_sim_transfer_cube_human\n  sinew policy check ./checkpoint --robot so101 --json\n  \
        sinew policy check ws://gpu.local:8000 --robot so101\n  \
        sinew policy check https://NAME.endpoints.huggingface.cloud --hub-token"
    )]
    Check {
        /// A checkpoint folder, owner/name[@revision] on the Hub, or a server as ws://HOST:PORT, zenoh://HOST:PORT/DEPLOYMENT, https://HOST or groot://HOST:PORT [default: the demonstration policy]
        policy: Option<String>,
        /// A robot by name (see `sinew robots`), or its folder
        #[arg(long)]
        robot: Option<String>,
        #[command(flatten)]
        cameras: CameraArgs,
        #[command(flatten)]
        remote: RemoteArgs,
        /// Print the result as JSON on standard output
        #[arg(long)]
        json: bool,
    },
    /// Measure how long a checkpoint takes to load and to answer
    #[command(after_help = "Examples:\n  sinew policy bench\n  sinew policy bench ./checkpoint --threads 1 --repeat 50 --json\n  \
        sinew policy bench ./checkpoint --quantize q8 --accuracy")]
    Bench {
        /// A checkpoint folder, or owner/name[@revision] on the Hub [default: the demonstration policy]
        policy: Option<String>,
        /// A safetensors file with one observation, as for `sinew policy infer`
        #[arg(long, value_name = "IN.safetensors")]
        inputs: Option<PathBuf>,
        /// How many answers to time, 1 to 1000000
        #[arg(long, value_name = "N", default_value_t = 20, value_parser = whole::<usize>(1..=MANY))]
        repeat: usize,
        /// Time so many answers at once, too, 2 to 64; `sinew serve` answers up to 8 so, of a Diffusion Policy
        #[arg(long, value_name = "N", value_parser = whole::<usize>(2..=64))]
        together: Option<usize>,
        /// Compare an answer with that of the weights as they are in the file, which are read a layer at a time
        #[arg(long, requires = "quantize")]
        accuracy: bool,
        #[command(flatten)]
        compute: ComputeArgs,
        /// Print the result as JSON on standard output
        #[arg(long)]
        json: bool,
    },
    /// Run a checkpoint on one observation from a file
    #[command(after_help = "IN holds tensors named by feature key (observation.state f32 [D]; images u8 [H,W,3]; with a leading time \
        axis where the policy takes several observation steps), optionally `noise`, and the metadata key task. \
        OUT gets `action` f32 [n, A], unnormalised.\n\nExample:\n  sinew policy infer ./checkpoint --inputs in.safetensors --out out.safetensors")]
    Infer {
        /// A checkpoint folder, or owner/name[@revision] on the Hub
        policy: String,
        /// A safetensors file with one observation
        #[arg(long, value_name = "IN.safetensors")]
        inputs: PathBuf,
        /// Write the result to this file or folder
        #[arg(long, value_name = "OUT.safetensors")]
        out: PathBuf,
        #[command(flatten)]
        compute: ComputeArgs,
        /// How many answers to time, 1 to 1000000
        #[arg(long, value_name = "N", default_value_t = 1, value_parser = whole::<usize>(1..=MANY))]
        repeat: usize,
        /// Print the result as JSON on standard output
        #[arg(long)]
        json: bool,
    },
}

#[derive(Subcommand)]
pub enum ConfigCommand {
    /// Set a default
    #[command(after_help = "Examples:\n  sinew config set rig kitchen\n  sinew config set rollout.inference rtc")]
    Set {
        /// rig, VERB.OPTION (such as rollout.inference) or all.OPTION
        key: String,
        /// Its value
        value: String,
    },
    /// Remove a default
    #[command(after_help = "Example:\n  sinew config unset rollout.inference")]
    Unset {
        /// rig, VERB.OPTION or all.OPTION
        key: String,
    },
}

#[derive(Args)]
#[command(args_conflicts_with_subcommands = true, after_help = "Examples:\n  sinew robots\n  sinew robots show so101")]
pub struct RobotsArgs {
    #[command(subcommand)]
    pub command: Option<RobotsCommand>,
    /// Print the result as JSON on standard output
    #[arg(long)]
    pub json: bool,
}

#[derive(Subcommand)]
pub enum RobotsCommand {
    /// Show a live table of an arm's motors: positions, loads, temperatures, voltages, ages, errors. Nothing moves and nothing is written
    #[command(
        after_help = "If the torque is off, you can move the arm by hand meanwhile. For a robot on the network, its state is shown.\n\n\
        Examples:\n  \
        sinew robots monitor --robot reachy_mini --port reachy-mini.local\n  \
        sinew robots monitor --robot so101 --port /dev/ttyACM0\n  \
        sinew robots monitor --teleop so101_leader --teleop-port /dev/ttyACM1 \\\n      \
        --seconds 10 --json"
    )]
    Monitor {
        #[command(flatten)]
        arm: ArmArgs,
        /// The name of the calibration file. Without it, positions count from the middle of each motor's turn
        #[arg(long, value_name = "NAME", value_parser = plain_name)]
        id: Option<String>,
        /// Use the options stored in this rig (`sinew rig` lists them)
        #[arg(long = "rig", value_name = "NAME|FILE")]
        rig: Option<String>,
        /// The token of a LeKiwi's host. Better: set SINEW_TOKEN, because other users of this machine can see options
        #[arg(long, requires = "port")]
        token: Option<String>,
        /// Stop after this many seconds [default: at Ctrl-C]
        #[arg(long, value_name = "S", value_parser = above_zero)]
        seconds: Option<f64>,
        /// How often to read, per second
        #[arg(long, value_name = "HZ", default_value_t = 30, value_parser = whole::<u32>(1..=1000))]
        fps: u32,
        /// Print the result as JSON on standard output
        #[arg(long)]
        json: bool,
    },
    /// Show one robot: joints, limits, cameras
    #[command(after_help = "Example:\n  sinew robots show so101")]
    Show {
        /// A robot or leader arm by name, or a folder with a robot.toml
        robot: String,
        /// Print the result as JSON on standard output
        #[arg(long)]
        json: bool,
    },
}

#[derive(Subcommand)]
pub enum SimCommand {
    /// Write a PNG of each camera
    #[command(after_help = "Example:\n  \
        sinew sim render --task pick-place --seed 3 --out pictures --width 640 \\\n      \
        --height 480")]
    Render {
        /// A robot by name (see `sinew robots`), or its folder
        #[arg(long, default_value = "so101")]
        robot: String,
        /// The simulator's task: reach, push, pick-place, sort [default: pick-place]
        #[arg(long)]
        task: Option<String>,
        /// The seed of the scene
        #[arg(long, default_value_t = 0, value_parser = seed)]
        seed: u64,
        /// The folder for the pictures
        #[arg(long, value_name = "DIR", default_value = ".")]
        out: PathBuf,
        /// The width of the pictures in pixels, 1 to 8192, with --height [default: the cameras' own]
        #[arg(long, value_name = "PIXELS", requires = "height", value_parser = whole::<u32>(1..=8192))]
        width: Option<u32>,
        /// The height of the pictures in pixels, 1 to 8192, with --width [default: the cameras' own]
        #[arg(long, value_name = "PIXELS", requires = "width", value_parser = whole::<u32>(1..=8192))]
        height: Option<u32>,
        /// Overwrite files that exist
        #[arg(long)]
        force: bool,
    },
}

#[cfg(test)]
mod tests;
