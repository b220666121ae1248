//! The options of `sinew fleet`.

use std::path::PathBuf;

use clap::{Args, Subcommand, ValueEnum};
use sinew_remote::{FleetPlace, RobotName};

use super::{Misuse, above_zero};

#[derive(Args, Clone)]
#[command(after_help = "Robots are in a fleet when their daemons run with --fleet. PLACE is the address of a zenoh router, such as \
        tcp/router.local:7447, or a file of zenoh's configuration (JSON5) with addresses, certificates and rights. To leave it out, set a \
        default: sinew config set all.fleet PLACE.\n\n\
        Examples:\n  sinew fleet list --fleet tcp/router.local:7447\n  sinew fleet watch kitchen-1 --fleet ./operator.json5\n  \
        sinew fleet stop --all --fleet ./operator.json5")]
pub struct FleetArgs {
    #[command(subcommand)]
    pub command: FleetCommand,
}

/// Where robots meet.
#[derive(Args, Clone)]
pub struct PlaceArgs {
    /// Where the robots meet over zenoh: tcp/HOST:PORT, or a file of zenoh's configuration (JSON5)
    #[arg(long, value_name = "PLACE")]
    pub fleet: Option<FleetPlace>,
}

impl FleetArgs {
    /// # Errors
    /// When it is not said where the robots meet, or this machine would have to be the place.
    pub fn place(&self) -> Result<FleetPlace, Misuse> {
        let (FleetCommand::List { place, .. } | FleetCommand::Watch { place, .. } | FleetCommand::Stop { place, .. }) = &self.command;
        match &place.fleet {
            None => Err(Misuse("expected --fleet PLACE, where the robots meet".to_owned())),
            Some(FleetPlace::Here(address)) => {
                Err(Misuse(format!("--fleet listen:{address}: a fleet is looked at from outside; expected {address}, or a file")))
            }
            Some(place) => Ok(place.clone()),
        }
    }
}

#[derive(Subcommand, Clone)]
pub enum FleetCommand {
    /// List the robots that are there, and what each does
    #[command(
        after_help = "Examples:\n  sinew fleet list --fleet tcp/router.local:7447\n  sinew fleet list --fleet ./operator.json5 --json"
    )]
    List {
        #[command(flatten)]
        place: PlaceArgs,
        /// How long to wait for answers, in seconds
        #[arg(long, value_name = "S", default_value_t = 1.0, value_parser = above_zero)]
        within: f64,
        /// Print the result as JSON on standard output
        #[arg(long)]
        json: bool,
    },
    /// Watch a robot: its state once a second, and what happens
    #[command(after_help = "With --json it prints each state and event as a line. Ends with exit code 1 if the robot was never there.\n\n\
        Examples:\n  sinew fleet watch kitchen-1 --fleet tcp/router.local:7447\n  \
        sinew fleet watch kitchen-1 --images seen --seconds 60")]
    Watch {
        #[command(flatten)]
        place: PlaceArgs,
        /// The robot's name
        robot: RobotName,
        /// Write the newest image of each camera into this folder, as CAMERA.jpg
        #[arg(long, value_name = "DIR")]
        images: Option<PathBuf>,
        /// Stop watching after this many seconds [default: at Ctrl-C]
        #[arg(long, value_name = "S", value_parser = above_zero)]
        seconds: Option<f64>,
        /// Print the result as JSON on standard output
        #[arg(long)]
        json: bool,
    },
    /// Stop robots, or all of them
    #[command(after_help = "Each robot says whether its control loop was told to stop. Ends with exit code 1 if one did not, for example \
        because it is gone, hangs, or you may not stop it.\n\n\
        Examples:\n  sinew fleet stop kitchen-1 --fleet tcp/router.local:7447\n  \
        sinew fleet stop --all --how emergency --fleet ./operator.json5")]
    Stop {
        #[command(flatten)]
        place: PlaceArgs,
        /// The robots' names
        #[arg(required_unless_present = "all", value_name = "ROBOT")]
        robots: Vec<RobotName>,
        /// All robots that are there
        #[arg(long, conflicts_with = "robots")]
        all: bool,
        /// How far the stop goes
        #[arg(long, value_enum, default_value_t = How::Now)]
        how: How,
        /// How long to wait for answers, in seconds
        #[arg(long, value_name = "S", default_value_t = 5.0, value_parser = above_zero)]
        within: f64,
        /// Print the result as JSON on standard output
        #[arg(long)]
        json: bool,
    },
}

/// How far a stop goes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum How {
    /// What runs ends in order; an episode that may be kept is
    Stop,
    /// The robot's safe action at once
    Now,
    /// The same, and nothing begins until the emergency is cleared at the robot's daemon
    Emergency,
}
