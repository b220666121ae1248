//! The options of `sinew record`.

use std::path::PathBuf;

use clap::Args;
use sinew_drivers::camera::CameraAddress;

use super::{
    HardwareArgs, LeaderArgs, Misuse, NEEDS_PORT, Pace, RealtimeArgs, RecordingArgs, RigArgs, above_zero, at_least_one, refuse_given,
    values::viewer, zero_or_above,
};

const EPISODES: &str = "Episodes";

#[derive(Args, Clone)]
#[command(after_help = "On a robot, an episode takes --episode-time seconds. Then you have --reset-time seconds to set up the next one, \
        while the robot follows. Keys, as in LeRobot: → ends the episode or the pause; ← drops the episode and records \
        it again; esc ends the recording. Each episode is safe on the disk when it ends. --resume continues a \
        recording.\n\n\
        Examples:\n  \
        sinew record --robot so101 --port /dev/ttyACM0 --id blue \\\n      \
        --teleop so101_leader --teleop-port /dev/ttyACM1 --teleop-id black \\\n      \
        --camera front=usb:200901010001,640x480@30 \\\n      \
        --instruction \"Put the cube into the bin.\" --episodes 50 \\\n      \
        --out my_dataset\n  \
        sinew record --robot so101 --teleop scripted --task pick-place \\\n      \
        --episodes 100 --seed 1 --out my_dataset\n  \
        sinew record --robot so101 --teleop scripted --task pick-place --episodes 20 \\\n      \
        --seed 101 --out my_dataset --resume")]
pub struct RecordArgs {
    #[command(flatten)]
    pub rig: RigArgs,
    /// Record in the embedded simulator. This is the default without --port
    #[arg(long, conflicts_with = "port", hide_short_help = true)]
    pub sim: bool,
    #[command(flatten)]
    pub hardware: HardwareArgs,
    /// A camera, such as front=/dev/video0,640x480@30. Give it once for each
    ///
    /// It is NAME=SOURCE[,WIDTHxHEIGHT@FPS][,FORMAT][,KEY=VALUE…]. SOURCE is usb:SERIAL, path:PORT or /dev/videoN (`sinew find-cameras` lists them), file:PATH, http://…, rtsp://…, zmq://HOST:PORT/NAME, pattern, sim:SOCKET (from `sinew emulate --world`), or zmq (a LeKiwi's host). KEY is rotate, crop, capture, resize, age, old, depth, exposure, wb or focus. The format Z16 makes it a depth camera, named as LeRobot names them: wrist_depth=/dev/video2,640x480@30,Z16.
    #[arg(long, value_name = "NAME=SOURCE", help_heading = "Hardware")]
    pub camera: Vec<CameraAddress>,
    #[command(flatten)]
    pub leader: LeaderArgs,
    /// The number of episodes to record
    ///
    /// In the simulator, failed attempts are left out and do not count.
    #[arg(long, default_value_t = 50, value_parser = at_least_one, help_heading = EPISODES)]
    pub episodes: u64,
    /// Seconds per episode, on a robot [default: 60]
    #[arg(long, value_name = "S", value_parser = above_zero, help_heading = EPISODES)]
    pub episode_time: Option<f64>,
    /// Seconds between episodes, on a robot [default: 60]
    #[arg(long, value_name = "S", value_parser = zero_or_above, help_heading = EPISODES)]
    pub reset_time: Option<f64>,
    /// Record to this folder
    ///
    /// It must be new or empty, unless --resume is given.
    #[arg(long, value_name = "DIR", help_heading = EPISODES)]
    pub out: PathBuf,
    #[command(flatten)]
    pub recording: RecordingArgs,
    #[command(flatten)]
    pub publish: PublishArgs,
    /// Run the simulator in real time, or as fast as the machine can [default: fast]
    #[arg(long, value_enum, conflicts_with = "port", hide_short_help = true)]
    pub pace: Option<Pace>,
    #[arg(long, hide = true, conflicts_with = "pace")]
    pub real_time: bool,
    /// Listen to a foot pedal, for example /dev/input/by-id/usb-PCsensor_FootSwitch-event-kbd. Its keys a, b and c mean →, ← and esc; e is an emergency stop. Give it once for each pedal
    #[arg(long, value_name = "DEVICE", hide_short_help = true)]
    pub pedal: Vec<PathBuf>,
    /// Say what comes next, with speech-dispatcher or espeak if one is installed, else with the terminal's bell
    #[arg(long, hide_short_help = true)]
    pub say: bool,
    /// Stream to a running Rerun viewer, for example 127.0.0.1:9876
    #[arg(long, value_name = "ADDR", value_parser = viewer, hide_short_help = true, help_heading = "Output")]
    pub rerun_connect: Option<String>,
    #[command(flatten)]
    pub realtime: RealtimeArgs,
    /// Print the result as JSON on standard output
    #[arg(long, help_heading = "Output")]
    pub json: bool,
}

/// What an episode, and the time after it, take where nothing is said, seconds; LeRobot's.
const EPISODE_S: f64 = 60.0;

impl RecordArgs {
    /// Refuses options that mean nothing in the simulator.
    ///
    /// # Errors
    /// When one was given there.
    pub fn check(&self) -> Result<(), Misuse> {
        self.leader.check_fleet()?;
        if !self.is_simulated() {
            return Ok(());
        }
        refuse_given(&self.hardware.given(), NEEDS_PORT)?;
        refuse_given(&self.leader.given(), NEEDS_PORT)?;
        refuse_given(
            &[
                ("--camera", !self.camera.is_empty()),
                ("--episode-time", self.episode_time.is_some()),
                ("--reset-time", self.reset_time.is_some()),
                ("--say", self.say),
                ("--pedal", !self.pedal.is_empty()),
                ("--rerun-connect", self.rerun_connect.is_some()),
            ],
            NEEDS_PORT,
        )
    }

    /// Whether there is no robot behind a port.
    pub fn is_simulated(&self) -> bool {
        self.hardware.port.is_empty()
    }

    pub fn is_real_time(&self) -> bool {
        !self.is_simulated() || self.real_time || self.pace == Some(Pace::Real)
    }

    pub fn episode_s(&self) -> f64 {
        self.episode_time.unwrap_or(EPISODE_S)
    }

    pub fn reset_s(&self) -> f64 {
        self.reset_time.unwrap_or(EPISODE_S)
    }
}

#[derive(Args, Clone)]
pub struct PublishArgs {
    /// Upload the dataset to this repository while it is recorded, and make it visible at the end. Without a network the upload waits; `sinew hub finish DIR` completes it later
    #[arg(long, value_name = "OWNER/NAME", help_heading = "Publishing")]
    pub publish: Option<String>,
    /// Start new files after this many episodes, so that the finished ones can be uploaded
    #[arg(long, value_name = "N", default_value_t = 10, value_parser = at_least_one, requires = "publish", help_heading = "Publishing", hide_short_help = true)]
    pub publish_every: u64,
    /// Create the repository as private
    #[arg(long, requires = "publish", help_heading = "Publishing", hide_short_help = true)]
    pub publish_private: bool,
    /// Replace another dataset that the repository holds
    #[arg(long, requires = "publish", help_heading = "Publishing", hide_short_help = true)]
    pub publish_replace: bool,
    /// Limit the upload to this many megabytes per second
    #[arg(long, value_name = "MB/S", value_parser = above_zero, requires = "publish", help_heading = "Publishing", hide_short_help = true)]
    pub publish_limit: Option<f64>,
}

impl PublishArgs {
    /// After how many episodes a file is closed, if for no other reason.
    pub fn file_episodes(&self) -> Option<u64> {
        self.publish.as_ref().map(|_| self.publish_every)
    }
}
