//! The options of `sinew record`.

use std::path::PathBuf;

use clap::Args;
use sinew_drivers::camera::CameraAddress;

use super::{HardwareArgs, LeaderArgs, RealtimeArgs, RecordingArgs, RigArgs, above_zero, zero_or_above};

#[derive(Args, Clone)]
#[command(
    after_help = "On a robot an episode takes --episode-time seconds, and --reset-time seconds between two of them are for setting up the\n\
        next, while the robot follows. Keys, as LeRobot's: → ends an episode, or the time between; ← drops the episode and has it again;\n\
        esc ends the recording. What is recorded is on the disk when an episode ends; begun again with --resume, a recording goes on.\n\n\
        Examples:\n  \
        sinew record --robot so101 --port /dev/ttyACM0 --id blue --teleop so101_leader --teleop-port /dev/ttyACM1 --teleop-id black \\\n      \
        --camera front=usb:200901010001,640x480@30 --task \"Put the cube into the bin.\" --episodes 50 --out my_dataset\n  \
        sinew record --robot so101 --sim --teleop scripted --task pick-place --episodes 100 --seed 1 --out my_dataset\n  \
        sinew record --robot so101 --sim --teleop scripted --task pick-place --episodes 20 --seed 101 --out my_dataset --resume"
)]
pub struct RecordArgs {
    #[command(flatten)]
    pub rig: RigArgs,
    /// Record in the embedded simulator
    #[arg(long, required_unless_present = "port", conflicts_with = "port")]
    pub sim: bool,
    #[command(flatten)]
    pub hardware: HardwareArgs,
    /// A camera and where its images come from: NAME=SOURCE[,WxH@FPS][,FORMAT][,KEY=VALUE…], with SOURCE usb:SERIAL, path:PORT or
    /// /dev/videoN (`sinew find-cameras` lists them), file:PATH, http://…, rtsp://…, zmq://HOST:PORT/NAME, pattern,
    /// sim:SOCKET (of `sinew emulate --world`), or zmq (of a LeKiwi's host); KEY rotate, crop, capture, resize, age, old, depth, exposure, wb
    /// or focus. Z16 makes it a depth camera, named as LeRobot names them: wrist_depth=/dev/video2,640x480@30,Z16. May be given several times; a robot has those that are given
    #[arg(long, value_name = "NAME=SOURCE", requires = "port", help_heading = "Hardware")]
    pub camera: Vec<CameraAddress>,
    #[command(flatten)]
    pub leader: LeaderArgs,
    /// Episodes to record; in the simulator those that fail are kept out and counted
    #[arg(long, default_value_t = 50)]
    pub episodes: u64,
    /// Seconds of an episode, on a robot
    #[arg(long, value_name = "S", default_value_t = 60.0, value_parser = above_zero, conflicts_with = "sim")]
    pub episode_time: f64,
    /// Seconds between two episodes, on a robot
    #[arg(long, value_name = "S", default_value_t = 60.0, value_parser = zero_or_above, conflicts_with = "sim")]
    pub reset_time: f64,
    /// Folder for the LeRobot dataset (must not exist or be empty, but with --resume)
    #[arg(long, value_name = "DIR")]
    pub out: PathBuf,
    #[command(flatten)]
    pub recording: RecordingArgs,
    #[command(flatten)]
    pub publish: PublishArgs,
    /// Real time instead of as fast as the machine can; a robot knows no other
    #[arg(long)]
    pub real_time: bool,
    /// A foot pedal, such as /dev/input/by-id/usb-PCsensor_FootSwitch-event-kbd; may be given several times. Its keys a, b and c are
    /// →, ← and esc, and e stops in an emergency
    #[arg(long, value_name = "DEVICE", requires = "port")]
    pub pedal: Vec<PathBuf>,
    /// Say what is next: by speech-dispatcher or espeak where one of them is installed, else by the bell
    #[arg(long, requires = "port")]
    pub say: bool,
    /// Stream to a running Rerun viewer, such as 127.0.0.1:9876
    #[arg(long, value_name = "ADDR", requires = "port")]
    pub rerun_connect: Option<String>,
    #[command(flatten)]
    pub realtime: RealtimeArgs,
    /// The result as one JSON line on stdout
    #[arg(long)]
    pub json: bool,
}

#[derive(Args, Clone)]
pub struct PublishArgs {
    /// Send the dataset to the Hub while it is recorded, and show it there when the recording ends. Without a network it waits;
    /// `sinew hub finish DIR` does later what is left
    #[arg(long, value_name = "OWNER/NAME", help_heading = "Publishing")]
    pub publish: Option<String>,
    /// Begin new files after so many episodes, so that the others can go
    #[arg(long, value_name = "N", default_value_t = 10, value_parser = clap::value_parser!(u64).range(1..), requires = "publish", help_heading = "Publishing")]
    pub publish_every: u64,
    /// For the owner's eyes alone
    #[arg(long, requires = "publish", help_heading = "Publishing")]
    pub publish_private: bool,
    /// Put the dataset in the place of another one that the repository holds
    #[arg(long, requires = "publish", help_heading = "Publishing")]
    pub publish_replace: bool,
    /// Megabytes a second to send at most
    #[arg(long, value_name = "MB/S", value_parser = above_zero, requires = "publish", help_heading = "Publishing")]
    pub publish_limit: Option<f64>,
}

impl PublishArgs {
    /// After how many episodes a file is closed, if for no other reason.
    pub fn file_episodes(&self) -> Option<u64> {
        self.publish.as_ref().map(|_| self.publish_every)
    }
}
