//! The options of `sinew rollout`.

use std::path::PathBuf;

use clap::{Args, Parser, ValueEnum};
use sinew_core::RobotDescription;
use sinew_drivers::camera::CameraAddress;
use sinew_policy::{GuidanceMode, GuidanceSchedule, GuidanceSettings};
use sinew_runtime::{Inference, Interpolation, Latency, RealtimeRequest, SessionConfig, Starvation, Strategy};

use super::{
    ComputeArgs, EvalInference, HardwareArgs, LeaderArgs, Misuse, Pace, RecordingArgs, RigArgs, above_zero, at_least_one, refuse_given,
    zero_or_above,
};

#[derive(Args, Clone)]
#[command(after_help = "Examples:\n  sinew rollout\n  sinew rollout --pace fast --episodes 20 --seed 7\n  \
    sinew rollout --policy ./outputs/train/pretrained_model --task pick-place --inference sync\n  \
    sinew rollout --policy lerobot-user/smolvla_so101 --inference rtc --fps-multiplier 3 --realtime\n  \
    sinew rollout --strategy dagger --teleop scripted --out corrections    (space pauses, tab takes over)\n  \
    sinew rollout --strategy highlight --seconds 0 --out highlights\n  \
    sinew rollout --out my_rollouts --rerun run.rrd\n  \
    sinew rollout --robot so101 --port /dev/ttyACM0 --id blue --policy lerobot-user/act_so101 --instruction \"Put the cube into the bin.\"\n  \
    SINEW_TOKEN=… sinew rollout --robot lekiwi --port zmq://kiwi.local --camera front=zmq --policy ./act_lekiwi\n  \
    sinew rollout --robot reachy_mini --port reachy-mini.local --policy ./act_reachy_mini")]
pub struct RolloutArgs {
    #[command(flatten)]
    pub rig: RigArgs,
    /// A checkpoint folder, or owner/name[@revision] on the Hub; without it the demonstration policy
    #[arg(long)]
    pub policy: Option<String>,
    /// Episodes to run; without it 5. On a robot the strategy base is one run, and has no number
    #[arg(long, value_parser = at_least_one)]
    pub episodes: Option<u64>,
    /// In the embedded simulator, which is where it runs without --port
    #[arg(long, conflicts_with = "port")]
    pub sim: bool,
    /// On which clock the simulator runs; without it real
    #[arg(long, value_enum)]
    pub pace: Option<Pace>,
    #[arg(long, hide = true, conflicts_with = "pace")]
    pub fast: bool,
    #[command(flatten)]
    pub hardware: HardwareArgs,
    /// A camera and where its images come from: NAME=SOURCE[,WxH@FPS][,FORMAT][,KEY=VALUE…], with SOURCE usb:SERIAL, path:PORT or
    /// /dev/videoN (`sinew find-cameras` lists them), file:PATH, http://…, rtsp://…, zmq://HOST:PORT/NAME, pattern,
    /// sim:SOCKET (of `sinew emulate --world`), or zmq (of a LeKiwi's host); KEY rotate, crop, capture, resize, age, old, depth, exposure, wb
    /// or focus. Z16 makes it a depth camera, named as LeRobot names them: wrist_depth=/dev/video2,640x480@30,Z16. May be given several times; a robot has those that are given
    #[arg(long, value_name = "NAME=SOURCE", requires = "port", help_heading = "Hardware")]
    pub camera: Vec<CameraAddress>,
    #[command(flatten)]
    pub control: LoopArgs,
    #[command(flatten)]
    pub run: StrategyArgs,
    /// With the strategies dagger (who takes over) and episodic (who moves the robot between episodes).
    #[command(flatten)]
    pub leader: LeaderArgs,
    /// Folder for the LeRobot dataset (must not exist or be empty, but with --resume); without it the next free outputs/rollout-N
    #[arg(long, value_name = "DIR", alias = "record")]
    pub out: Option<PathBuf>,
    #[command(flatten)]
    pub recording: RecordingArgs,
    /// Record no dataset
    #[arg(long, conflicts_with = "out")]
    pub no_record: bool,
    /// File for the Rerun recording; without it rollout.rrd in outputs/rollout-N
    #[arg(long, value_name = "FILE")]
    pub rerun: Option<PathBuf>,
    /// Stream to a running Rerun viewer instead, such as 127.0.0.1:9876
    #[arg(long, value_name = "ADDR", conflicts_with = "rerun")]
    pub rerun_connect: Option<String>,
    /// Make no Rerun recording
    #[arg(long, conflicts_with_all = ["rerun", "rerun_connect"])]
    pub no_rerun: bool,
    /// One JSON line an episode on stdout, and one with the totals
    #[arg(long)]
    pub json: bool,
    #[command(flatten)]
    pub compute: ComputeArgs,
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
        if self.no_record {
            refuse_given(&self.recording.given(), "says how a dataset is recorded, and --no-record records none")?;
        }
        self.run.check()
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
    /// As async, each chunk made to follow the one before (real-time chunking: smolvla, pi0, pi05)
    Rtc,
}

impl InferenceMode {
    pub fn explained(self) -> &'static str {
        match self {
            Self::Sync => "sync: the arm waits for each answer of the policy, as in `sinew eval`",
            Self::Async => "async: the policy thinks while the arm moves (`sinew eval` is sync unless told)",
            Self::Rtc => "rtc: the policy thinks while the arm moves, and each chunk follows the one before",
        }
    }
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum)]
pub enum StarvedMode {
    /// The last command stands
    #[default]
    Hold,
    /// The motion runs out
    SlowStop,
    /// The episode ends
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
    /// It is pulled towards the chunk before: for every such policy
    Guided,
    /// It is given the actions that are executed meanwhile: for policies that were trained so
    Trained,
}

/// What of a run is recorded, and how a human has a say in it: LeRobot's strategies.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum)]
pub enum StrategyMode {
    /// Scene after scene; each that comes to its end is an episode
    #[default]
    Base,
    /// As base; between scenes the arm goes to rest, and there is time to set up the next, by hand or with --teleop, or to drop the last
    Episodic,
    /// Everything is recorded, a new episode begun whenever a video file is full
    Sentry,
    /// When you mark something, what was just before it and all until you mark again
    Highlight,
    /// You pause the policy and take over; your corrections are recorded
    Dagger,
}

#[derive(Args, Clone)]
#[command(next_help_heading = "Strategy")]
pub struct StrategyArgs {
    #[arg(long, value_enum, default_value_t)]
    pub strategy: StrategyMode,
    /// One run of so many seconds, whatever happens in the scene; 0 goes on until it is told to stop
    #[arg(long, value_name = "S", alias = "duration", value_parser = zero_or_above)]
    pub seconds: Option<f64>,
    /// episodic: seconds between episodes; without it 0. The right arrow cuts them short, the left one has the last episode again
    #[arg(long, value_name = "S", value_parser = zero_or_above)]
    pub reset_time: Option<f64>,
    /// sentry and dagger: seconds of an episode; without it what fills a video file, as LeRobot estimates it
    #[arg(long, value_name = "S", value_parser = above_zero)]
    pub rotate: Option<f64>,
    /// highlight: seconds before the mark that are kept; without it 10
    #[arg(long, value_name = "S", value_parser = above_zero)]
    pub ring_seconds: Option<f64>,
    /// highlight: megabytes of memory for them; without it 1024
    #[arg(long, value_name = "MB", value_parser = clap::value_parser!(u32).range(1..=1_000_000))]
    pub ring_mb: Option<u32>,
    /// dagger: record what the policy does too
    #[arg(long)]
    pub record_autonomous: bool,
    /// Take commands on standard input, a line each, instead of keys; nothing moves before /start
    #[arg(long)]
    pub interactive: bool,
    /// A foot pedal, such as /dev/input/by-id/usb-PCsensor_FootSwitch-event-kbd; its keys are LeRobot's
    #[arg(long, value_name = "DEVICE")]
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
    /// Ask for SCHED_FIFO and for memory that stays in memory, and let a second process stand by; what is refused is said, and `sinew doctor` says how to allow it
    #[arg(long)]
    pub realtime: bool,
    /// SCHED_FIFO at this priority; 80 with --realtime
    #[arg(long, value_name = "PRIORITY", value_parser = clap::value_parser!(u8).range(1..=99))]
    pub fifo: Option<u8>,
    /// Keep the control thread on this processor
    #[arg(long, value_name = "N")]
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
    #[arg(long, value_enum, default_value_t)]
    pub inference: InferenceMode,
    /// What the arm does at a tick for which the policy has sent no action
    #[arg(long, value_enum, default_value_t)]
    pub on_starved: StarvedMode,
    /// Turns of the loop for each action of the policy, with goals interpolated between; recorded is at the policy's rate
    #[arg(long, value_name = "N", default_value_t = 1, value_parser = clap::value_parser!(u32).range(1..=1000))]
    pub fps_multiplier: u32,
    /// How goals are found between actions
    #[arg(long, value_enum, default_value_t)]
    pub interpolation: InterpolationMode,
    /// Seconds that an answer of the policy may take before the episode is ended; without it ten times the longest of
    /// its last 16, but at least 3 (10 while few are known). Meanwhile --on-starved holds
    #[arg(long, value_name = "S", value_parser = above_zero)]
    pub answer_deadline: Option<f64>,
    #[command(flatten)]
    pub realtime: RealtimeArgs,
    /// rtc: by what a chunk is made to follow the one before; the checkpoint's own, else guided
    #[arg(long, value_enum)]
    pub rtc_mode: Option<ContinueMode>,
    /// rtc: rows of the chunk before that the new one is held to; the checkpoint's own, else 10
    #[arg(long, value_name = "ROWS")]
    pub rtc_horizon: Option<usize>,
    /// rtc: how strongly each of those rows is held; the checkpoint's own, else linear
    #[arg(long, value_enum)]
    pub rtc_schedule: Option<ScheduleMode>,
    /// rtc: the most that the pull is multiplied by; the checkpoint's own, else 10
    #[arg(long, value_name = "W", value_parser = above_zero)]
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
            interpolation: match self.interpolation {
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
    pub fn guided(&self, mut settings: GuidanceSettings) -> anyhow::Result<GuidanceSettings> {
        match self.rtc_mode {
            Some(ContinueMode::Guided) => settings.mode = GuidanceMode::Guided,
            Some(ContinueMode::Trained) => settings.mode = GuidanceMode::Trained,
            None => {}
        }
        let told = [
            ("--rtc-horizon", self.rtc_horizon.is_some()),
            ("--rtc-schedule", self.rtc_schedule.is_some()),
            ("--rtc-weight", self.rtc_weight.is_some()),
        ];
        if let (GuidanceMode::Trained, Some((option, _))) = (settings.mode, told.iter().find(|(_, is_told)| *is_told)) {
            anyhow::bail!(
                "rolling out: {option} is for guided chunks, and these are of the mode trained; expected --rtc-mode guided with it"
            );
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
