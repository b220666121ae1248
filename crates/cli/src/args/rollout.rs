//! The options of `sinew rollout`.

use std::path::PathBuf;

use clap::{Args, Parser, ValueEnum};
use sinew_core::RobotDescription;
use sinew_drivers::camera::CameraAddress;
use sinew_hub::Fetched;
use sinew_policy::{GuidanceMode, GuidanceSchedule, GuidanceSettings};
use sinew_remote::Continues;
use sinew_runtime::{Inference, Interpolation, Latency, RealtimeRequest, SessionConfig, Starvation, Strategy};

use super::{
    ComputeArgs, EvalInference, HardwareArgs, LeaderArgs, MANY, Misuse, NEEDS_PORT, Pace, RecordingArgs, RemoteArgs, RigArgs, above_zero,
    at_least_one, is_server, is_zenoh, refuse_given, values::processor, values::viewer, whole, zero_or_above,
};

const EXAMPLES: &str = "Examples:
  sinew rollout
  sinew rollout --pace fast --episodes 20 --seed 7
  sinew rollout --policy ./outputs/train/pretrained_model --task pick-place \\
      --inference sync
  sinew rollout --policy lerobot-user/smolvla_so101 --inference rtc \\
      --fps-multiplier 3 --realtime
  sinew rollout --strategy dagger --teleop scripted --out corrections
  sinew rollout --strategy highlight --seconds 0 --out highlights
  sinew rollout --out my_rollouts --rerun run.rrd
  sinew rollout --robot so101 --port /dev/ttyACM0 --id blue \\
      --policy lerobot-user/act_so101 \\
      --instruction \"Put the cube into the bin.\"
  SINEW_TOKEN=… sinew rollout --robot lekiwi --port zmq://kiwi.local \\
      --camera front=zmq --policy ./act_lekiwi
  sinew rollout --robot reachy_mini --port reachy-mini.local \\
      --policy ./act_reachy_mini
  sinew rollout --policy ws://gpu.local:8000
  sinew rollout --rig kitchen --policy ws://gpu.local:8000 --policy-keys droid \\
      --rename front=exterior_image_1_left
  sinew rollout --rig kitchen --policy-keys keys.toml --hub-token \\
      --policy https://NAME.us-east-1.aws.endpoints.huggingface.cloud
  sinew rollout --rig kitchen --policy groot://gpu.local:5555 \\
      --policy-keys groot-so100";

#[derive(Args, Clone)]
#[command(
    after_help = "Example:\n  sinew rollout --policy lerobot-user/act_so101_pick_place\n\nMore: sinew rollout --help",
    after_long_help = EXAMPLES
)]
pub struct RolloutArgs {
    #[command(flatten)]
    pub rig: RigArgs,
    /// A checkpoint folder, owner/name[@revision] on the Hub, or a server's address [default: the demonstration policy]
    ///
    /// Servers are ws://HOST:PORT[/PATH] (openpi's protocol), zenoh://HOST:PORT/DEPLOYMENT (LeRobot's remote inference), https://HOST[/PATH] (an Inference Endpoint) and groot://HOST:PORT (GR00T's service).
    #[arg(long)]
    pub policy: Option<String>,
    #[command(flatten)]
    pub remote: RemoteArgs,
    /// The number of episodes to run [default: 5]
    ///
    /// On a robot, --strategy base is one run and takes no number.
    #[arg(long, value_parser = at_least_one)]
    pub episodes: Option<u64>,
    /// Run in the embedded simulator. This is the default without --port
    #[arg(long, conflicts_with = "port", hide_short_help = true)]
    pub sim: bool,
    /// The simulator's clock: real time, or as fast as the machine can [default: real]
    #[arg(long, value_enum)]
    pub pace: Option<Pace>,
    #[arg(long, hide = true, conflicts_with = "pace")]
    pub fast: bool,
    #[command(flatten)]
    pub hardware: HardwareArgs,
    /// A camera, such as front=/dev/video0,640x480@30. Give it once for each
    ///
    /// It is NAME=SOURCE[,WIDTHxHEIGHT@FPS][,FORMAT][,KEY=VALUE…]. SOURCE is usb:SERIAL, path:PORT or /dev/videoN (`sinew find-cameras` lists them), file:PATH, http://…, rtsp://…, zmq://HOST:PORT/NAME, pattern, sim:SOCKET (from `sinew emulate --world`), or zmq (a LeKiwi's host). KEY is rotate, crop, capture, resize, age, old, depth, exposure, wb or focus. The format Z16 makes it a depth camera, named as LeRobot names them: wrist_depth=/dev/video2,640x480@30,Z16.
    #[arg(long, value_name = "NAME=SOURCE", help_heading = "Hardware", hide_short_help = true)]
    pub camera: Vec<CameraAddress>,
    #[command(flatten)]
    pub control: LoopArgs,
    #[command(flatten)]
    pub run: StrategyArgs,
    /// With the strategies dagger (who takes over) and episodic (who moves the robot between episodes).
    #[command(flatten)]
    pub leader: LeaderArgs,
    /// Record the dataset to this folder [default: outputs/rollout-N/dataset]
    ///
    /// It must be new or empty, unless --resume is given.
    #[arg(long, value_name = "DIR", alias = "record", help_heading = "Output")]
    pub out: Option<PathBuf>,
    #[command(flatten)]
    pub recording: RecordingArgs,
    /// Do not record a dataset
    #[arg(long, conflicts_with = "out", hide_short_help = true, help_heading = "Output")]
    pub no_record: bool,
    /// Write the Rerun recording to this file [default: outputs/rollout-N/rollout.rrd]
    #[arg(long, value_name = "FILE", hide_short_help = true, help_heading = "Output")]
    pub rerun: Option<PathBuf>,
    /// Stream to a running Rerun viewer instead, for example 127.0.0.1:9876
    #[arg(long, value_name = "ADDR", value_parser = viewer, conflicts_with = "rerun", hide_short_help = true, help_heading = "Output")]
    pub rerun_connect: Option<String>,
    /// Do not make a Rerun recording
    #[arg(long, conflicts_with_all = ["rerun", "rerun_connect"], hide_short_help = true, help_heading = "Output")]
    pub no_rerun: bool,
    /// Print one JSON line per episode, and one with the totals
    #[arg(long, help_heading = "Output")]
    pub json: bool,
    #[command(flatten)]
    pub compute: ComputeArgs,
    /// The files of the policy, where somebody has fetched them already.
    #[arg(skip)]
    pub at_hand: Option<Fetched>,
}

/// How many episodes are run where nothing is said.
const EPISODES: u64 = 5;

/// The word by which a user chooses it.
pub fn in_words<T: ValueEnum>(mode: &T) -> String {
    mode.to_possible_value().map(|value| value.get_name().to_owned()).unwrap_or_default()
}

impl RolloutArgs {
    /// Refuses options that mean nothing beside the others.
    pub fn check(&self) -> Result<(), Misuse> {
        self.remote.check(self.policy.as_deref(), &self.compute)?;
        if self.is_fast() {
            let realtime = &self.control.realtime;
            refuse_given(
                &[
                    ("--port", !self.hardware.port.is_empty()),
                    ("--realtime", realtime.realtime),
                    ("--fifo", realtime.fifo.is_some()),
                    ("--cpu", realtime.cpu.is_some()),
                    ("--pedal", self.run.pedal.is_some()),
                    ("--interactive", self.run.interactive),
                ],
                "needs real time, and --pace is fast",
            )?;
        }
        if self.hardware.port.is_empty() {
            refuse_given(&self.hardware.given(), NEEDS_PORT)?;
            refuse_given(&self.leader.given(), NEEDS_PORT)?;
            refuse_given(&[("--camera", !self.camera.is_empty())], NEEDS_PORT)?;
        } else if self.policy.is_none() {
            return Err(Misuse(
                "rolling out: expected --policy with --port; the demonstration policy does not run on a robot that it was not made for"
                    .to_owned(),
            ));
        } else if self.run.strategy == StrategyMode::Base {
            let why = "with --port needs --strategy episodic: nobody tells there when a scene is done, so the strategy base is one run, \
                       for --seconds";
            refuse_given(&[("--episodes", self.episodes.is_some())], why)?;
        }
        if self.out.is_none() {
            refuse_given(&[("--resume", self.recording.resume)], "goes on with a dataset; name it with --out")?;
        }
        if self.control.inference == InferenceMode::Rtc && self.policy.as_deref().is_some_and(is_server) {
            if !is_zenoh(self.policy.as_deref()) {
                let why = "--inference rtc needs a policy that runs here, or one at zenoh://HOST:PORT/DEPLOYMENT: what other servers speak has no word for continuing a chunk; expected async or sync";
                return Err(Misuse(why.to_owned()));
            }
            refuse_given(
                &[
                    ("--rtc-horizon", self.control.rtc_horizon.is_some()),
                    ("--rtc-schedule", self.control.rtc_schedule.is_some()),
                    ("--rtc-weight", self.control.rtc_weight.is_some()),
                ],
                "is for a policy that runs here: a server has its own",
            )?;
        }
        if self.control.inference != InferenceMode::Rtc {
            let control = &self.control;
            refuse_given(
                &[
                    ("--rtc-mode", control.rtc_mode.is_some()),
                    ("--rtc-horizon", control.rtc_horizon.is_some()),
                    ("--rtc-schedule", control.rtc_schedule.is_some()),
                    ("--rtc-weight", control.rtc_weight.is_some()),
                ],
                "is for --inference rtc",
            )?;
        }
        if self.control.fps_multiplier == 1 {
            let why = "is for --fps-multiplier above 1, which needs values between actions";
            refuse_given(&[("--interpolation", self.control.interpolation.is_some())], why)?;
        }
        if self.run.seconds.is_some() && self.run.strategy != StrategyMode::Dagger {
            refuse_given(&[("--episodes", self.episodes.is_some())], "counts episodes, and --seconds makes one run; expected one of them")?;
        }
        if self.no_record {
            refuse_given(&self.recording.given(), "says how a dataset is recorded, and --no-record records none")?;
        }
        if !matches!(self.run.strategy, StrategyMode::Dagger | StrategyMode::Episodic) {
            let why = "is for --strategy dagger, where it takes over, or episodic, where it moves the robot between episodes";
            refuse_given(&[("--teleop", self.leader.teleop.is_some())], why)?;
        }
        if self.run.strategy == StrategyMode::Dagger && (self.leader.teleop.is_none() || self.no_record) {
            return Err(Misuse(
                "--strategy dagger records what somebody does who takes over; expected --teleop TELEOPERATOR with it, and no --no-record"
                    .to_owned(),
            ));
        }
        self.leader.check_fleet()?;
        self.run.check()
    }

    /// How the answers of a server are to follow each other.
    pub fn continues(&self) -> Option<Continues> {
        (self.control.inference == InferenceMode::Rtc).then_some(match self.control.rtc_mode {
            None => Continues::Either,
            Some(ContinueMode::Guided) => Continues::Guided,
            Some(ContinueMode::Trained) => Continues::Trained,
        })
    }

    /// Whether nobody waits for a clock.
    pub fn is_fast(&self) -> bool {
        self.fast || self.pace == Some(Pace::Fast)
    }

    pub fn episodes(&self) -> u64 {
        self.episodes.unwrap_or(EPISODES)
    }
}

/// The first of three scenes in which the demonstration policy succeeds, with AVX2 as with AVX-512.
const DEMONSTRATION_SEED: &str = "20";

impl RolloutArgs {
    /// What `sinew` alone means.
    pub fn demonstration() -> Self {
        #[derive(Parser)]
        struct Bare {
            #[command(flatten)]
            args: RolloutArgs,
        }
        Bare::parse_from(["sinew", "--inference", "sync", "--episodes", "3", "--seed", DEMONSTRATION_SEED]).args
    }
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum)]
pub enum InferenceMode {
    /// The arm waits while the policy computes
    Sync,
    /// The policy computes while the arm moves
    #[default]
    Async,
    /// Like async, and each chunk continues the last one (real-time chunking: smolvla, pi0, pi05)
    Rtc,
}

impl InferenceMode {
    pub fn explained(self) -> &'static str {
        match self {
            Self::Sync => "sync: the arm waits for each answer of the policy",
            Self::Async => "async: the policy computes while the arm moves",
            Self::Rtc => "rtc: the policy computes while the arm moves, and each chunk continues the last one",
        }
    }
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum)]
pub enum StarvedMode {
    /// Hold the last command
    #[default]
    Hold,
    /// Slow down to a stop
    SlowStop,
    /// End the episode
    Stop,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum)]
pub enum InterpolationMode {
    #[default]
    Linear,
    Cubic,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum ScheduleMode {
    Zeros,
    Ones,
    Linear,
    Exp,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum ContinueMode {
    /// Guide it towards the last chunk; works with every such policy
    Guided,
    /// Give it the actions that are executed meanwhile; for policies trained for it
    Trained,
}

/// What of a run is recorded, and how a human has a say in it: LeRobot's strategies.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum)]
pub enum StrategyMode {
    /// Run scene after scene; each scene that reaches its end is an episode
    #[default]
    Base,
    /// Like base, with a pause between scenes to set up the next one, by hand or with --teleop, or to drop the last one
    Episodic,
    /// Record everything; start a new episode when a video file is full
    Sentry,
    /// Record what you mark: from some seconds before the first mark to the second mark
    Highlight,
    /// Pause the policy and take over; your corrections are recorded
    Dagger,
}

#[derive(Args, Clone)]
#[command(next_help_heading = "Strategy")]
pub struct StrategyArgs {
    /// Which frames are recorded, and how a human takes part
    #[arg(long, value_enum, default_value_t)]
    pub strategy: StrategyMode,
    /// Make one run of this many seconds; 0 runs until it is stopped
    #[arg(long, value_name = "S", alias = "duration", value_parser = zero_or_above)]
    pub seconds: Option<f64>,
    /// With --strategy episodic: seconds between episodes [default: 0]. → ends the pause early, ← repeats the last episode
    #[arg(long, value_name = "S", value_parser = zero_or_above, hide_short_help = true)]
    pub reset_time: Option<f64>,
    /// With --strategy sentry or dagger: start a new episode after this many seconds [default: when a video file is full]
    #[arg(long, value_name = "S", value_parser = above_zero, hide_short_help = true)]
    pub rotate: Option<f64>,
    /// With --strategy highlight: how many seconds before the mark to keep [default: 10]
    #[arg(long, value_name = "S", value_parser = above_zero, hide_short_help = true)]
    pub ring_seconds: Option<f64>,
    /// With --strategy highlight: how much memory to use for them, in MiB [default: 1024]
    #[arg(long, value_name = "MB", value_parser = whole::<u32>(1..=1_000_000), hide_short_help = true)]
    pub ring_mb: Option<u32>,
    /// With --strategy dagger: also record the frames of the policy
    #[arg(long, hide_short_help = true)]
    pub record_autonomous: bool,
    /// Take typed commands instead of keys. Nothing moves before /start; /help lists the commands
    #[arg(long, hide_short_help = true)]
    pub interactive: bool,
    /// Listen to a foot pedal, for example /dev/input/by-id/usb-PCsensor_FootSwitch-event-kbd
    #[arg(long, value_name = "DEVICE", hide_short_help = true)]
    pub pedal: Option<PathBuf>,
}

/// LeRobot's estimate of what its encoders need for a pixel, and the size at which a video is full.
const BITS_PER_PIXEL: f64 = 0.1;
const VIDEO_BITS: f64 = 200.0 * 1024.0 * 1024.0 * 8.0;

/// What of a highlight is kept from before its mark, where nothing is said.
const RING_S: f64 = 10.0;
const RING_MB: u32 = 1024;

impl StrategyArgs {
    /// Seconds between two episodes.
    pub fn reset_s(&self) -> f64 {
        self.reset_time.unwrap_or(0.0)
    }

    /// Refuses what means nothing with this strategy.
    fn check(&self) -> Result<(), Misuse> {
        use StrategyMode::{Dagger, Episodic, Highlight, Sentry};
        let options: [(&str, bool, &[StrategyMode]); 5] = [
            ("--reset-time", self.reset_time.is_some(), &[Episodic]),
            ("--rotate", self.rotate.is_some(), &[Sentry, Dagger]),
            ("--ring-seconds", self.ring_seconds.is_some(), &[Highlight]),
            ("--ring-mb", self.ring_mb.is_some(), &[Highlight]),
            ("--record-autonomous", self.record_autonomous, &[Dagger]),
        ];
        for (option, is_given, strategies) in options {
            if is_given && !strategies.contains(&self.strategy) {
                let wanted: Vec<String> = strategies.iter().map(in_words).collect();
                let wanted = wanted.join(" or ");
                return Err(Misuse(format!("{option} is for --strategy {wanted}, and this is {}", in_words(&self.strategy))));
            }
        }
        if self.rotate.is_some() && self.strategy == Dagger && !self.record_autonomous {
            return Err(Misuse(
                "--rotate with --strategy dagger is for --record-autonomous: corrections are episodes as they are".to_owned(),
            ));
        }
        Ok(())
    }

    /// How frames of `robot` become episodes.
    pub fn selection(&self, robot: &RobotDescription) -> Strategy {
        let fps = f64::from(robot.control_rate_hz);
        let pixels = robot.cameras.iter().map(|camera| u64::from(camera.width) * u64::from(camera.height)).min();
        let full_s = pixels.map_or(300.0, |pixels| VIDEO_BITS / (pixels as f64 * BITS_PER_PIXEL * fps));
        let rotating = Strategy::Rotating { frames: (self.rotate.unwrap_or(full_s) * fps) as u64 };
        match self.strategy {
            StrategyMode::Base | StrategyMode::Episodic => Strategy::Whole,
            StrategyMode::Sentry => rotating,
            StrategyMode::Highlight => Strategy::Highlights {
                frames: (self.ring_seconds.unwrap_or(RING_S) * fps) as usize,
                bytes: (self.ring_mb.unwrap_or(RING_MB) as usize) << 20,
            },
            StrategyMode::Dagger if self.record_autonomous => rotating,
            StrategyMode::Dagger => Strategy::Corrections,
        }
    }
}

/// The priority of `--realtime` that is not told another.
const PRIORITY: u8 = 80;

/// What the control thread asks of the system, for every verb that runs one in real time.
#[derive(Args, Clone, Default)]
#[command(next_help_heading = "Control loop")]
pub struct RealtimeArgs {
    /// Request SCHED_FIFO and locked memory, and start a watchdog. Refusals are printed; `sinew doctor` says how to allow it
    #[arg(long, hide_short_help = true)]
    pub realtime: bool,
    /// Request SCHED_FIFO at this priority, 1 to 99 [default with --realtime: 80]
    #[arg(long, value_name = "PRIORITY", value_parser = whole::<u8>(1..=99), hide_short_help = true)]
    pub fifo: Option<u8>,
    /// Pin the control thread to this processor
    #[arg(long, value_name = "N", value_parser = processor, hide_short_help = true)]
    pub cpu: Option<usize>,
}

impl RealtimeArgs {
    pub fn request(&self) -> RealtimeRequest {
        RealtimeRequest { priority: self.fifo.or(self.realtime.then_some(PRIORITY)), lock_memory: self.realtime, cpu: self.cpu }
    }
}

/// How the control loop is run.
#[derive(Args, Clone)]
#[command(next_help_heading = "Control loop")]
pub struct LoopArgs {
    /// When the policy computes
    #[arg(long, value_enum, default_value_t)]
    pub inference: InferenceMode,
    /// What the arm does when the policy has not sent an action in time
    #[arg(long, value_enum, default_value_t, hide_short_help = true)]
    pub on_starved: StarvedMode,
    /// Run the loop N times per action and interpolate between actions, at most 1000 times a second. The dataset keeps the policy's rate
    #[arg(long, value_name = "N", default_value_t = 1, value_parser = whole::<u32>(1..=1000), hide_short_help = true)]
    pub fps_multiplier: u32,
    /// With --fps-multiplier: how to interpolate between actions [default: linear]
    #[arg(long, value_enum, hide_short_help = true)]
    pub interpolation: Option<InterpolationMode>,
    /// End the episode when the policy has not answered after this many seconds. Until then --on-starved applies, and before the first action nothing moves. A server also gets no longer than --seconds for its first answer [default: ten times its longest of the last 16 answers, at least 3 s, and 10 s during the first answers; 120 s for a server]
    #[arg(long, value_name = "S", value_parser = above_zero, hide_short_help = true)]
    pub answer_deadline: Option<f64>,
    #[command(flatten)]
    pub realtime: RealtimeArgs,
    /// With --inference rtc: how each chunk is made to follow the last one [default: the checkpoint's own, else guided]
    #[arg(long, value_enum, hide_short_help = true)]
    pub rtc_mode: Option<ContinueMode>,
    /// With --inference rtc: how many rows of the last chunk the new one must follow [default: the checkpoint's own, else 10]
    #[arg(long, value_name = "ROWS", value_parser = whole::<usize>(0..=MANY), hide_short_help = true)]
    pub rtc_horizon: Option<usize>,
    /// With --inference rtc: how strongly each of those rows counts [default: the checkpoint's own, else linear]
    #[arg(long, value_enum, hide_short_help = true)]
    pub rtc_schedule: Option<ScheduleMode>,
    /// With --inference rtc: maximum guidance weight [default: the checkpoint's own, else 10]
    #[arg(long, value_name = "W", value_parser = above_zero, hide_short_help = true)]
    pub rtc_weight: Option<f64>,
}

/// On the clock that waits for nobody an answer comes two ticks after its question, about what it takes on two cores: so a
/// fast run is repeatable and still has a delay in it.
pub fn fast_latency() -> Latency {
    Latency::ScriptedTicks(vec![2])
}

impl From<EvalInference> for InferenceMode {
    fn from(mode: EvalInference) -> Self {
        match mode {
            EvalInference::Sync => Self::Sync,
            EvalInference::Async => Self::Async,
        }
    }
}

impl LoopArgs {
    /// The session that these options describe; `fast` is on a clock that waits for nobody.
    pub fn session(&self, fast: bool) -> SessionConfig {
        SessionConfig {
            inference: match self.inference {
                InferenceMode::Sync => Inference::Sync,
                InferenceMode::Async => Inference::Async,
                InferenceMode::Rtc => Inference::Rtc,
            },
            latency: if fast && self.inference != InferenceMode::Sync { fast_latency() } else { Latency::Measured },
            starvation: match self.on_starved {
                StarvedMode::Hold => Starvation::Hold,
                StarvedMode::SlowStop => Starvation::SlowStop,
                StarvedMode::Stop => Starvation::Stop,
            },
            control_multiplier: self.fps_multiplier,
            interpolation: match self.interpolation.unwrap_or_default() {
                InterpolationMode::Linear => Interpolation::Linear,
                InterpolationMode::Cubic => Interpolation::Cubic,
            },
            answer_deadline_s: self.answer_deadline,
            realtime: self.realtime.request(),
            ..SessionConfig::default()
        }
    }

    /// The checkpoint's `settings` with what was told of real-time chunking.
    ///
    /// # Errors
    /// When something was told that counts in guided chunks only, and these are not.
    pub fn guided(&self, mut settings: GuidanceSettings) -> Result<GuidanceSettings, Misuse> {
        match self.rtc_mode {
            Some(ContinueMode::Guided) => settings.mode = GuidanceMode::Guided,
            Some(ContinueMode::Trained) => settings.mode = GuidanceMode::Trained,
            None => {}
        }
        if settings.mode == GuidanceMode::Trained {
            let told = [
                ("--rtc-horizon", self.rtc_horizon.is_some()),
                ("--rtc-schedule", self.rtc_schedule.is_some()),
                ("--rtc-weight", self.rtc_weight.is_some()),
            ];
            refuse_given(&told, "is for guided chunks, and these are of the mode trained; expected --rtc-mode guided with it")?;
        }
        settings.execution_horizon = self.rtc_horizon.unwrap_or(settings.execution_horizon);
        settings.max_guidance_weight = self.rtc_weight.unwrap_or(settings.max_guidance_weight);
        if let Some(schedule) = self.rtc_schedule {
            settings.schedule = match schedule {
                ScheduleMode::Zeros => GuidanceSchedule::Zeros,
                ScheduleMode::Ones => GuidanceSchedule::Ones,
                ScheduleMode::Linear => GuidanceSchedule::Linear,
                ScheduleMode::Exp => GuidanceSchedule::Exp,
            };
        }
        Ok(settings)
    }
}
