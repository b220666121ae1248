//! What `sinew dataset` takes.

use std::path::PathBuf;
use std::str::FromStr;

use clap::{ArgGroup, Args, Subcommand, ValueEnum};
use sinew_recorder::{Condition, Version};

use super::VideoArgs;

#[derive(Subcommand)]
pub enum DatasetCommand {
    /// What a dataset holds, by LeRobot's key names
    #[command(after_help = "Examples:\n  sinew dataset info ./my_dataset --json\n  sinew dataset info lerobot/svla_so101_pickplace")]
    Info {
        /// A folder, or owner/name[@revision] on the Hub
        dir: PathBuf,
        #[arg(long)]
        json: bool,
    },
    /// Check that a dataset is whole: numbering, times, lengths, statistics, and a picture for every row
    #[command(after_help = "Ends with 1 when something is wrong. Without --deep no picture is decoded.\n\n\
        Examples:\n  sinew dataset verify ./my_dataset\n  sinew dataset verify ./my_dataset --deep --json")]
    Verify {
        dir: PathBuf,
        /// Decode every picture and hold it against the statistics
        #[arg(long)]
        deep: bool,
        /// One JSON line a fault
        #[arg(long)]
        json: bool,
    },
    /// Mend a dataset that a killed recorder, a full disk or another tool left broken
    #[command(after_help = "Finds the rows of a table without a footer, makes the episodes table anew, gives episodes their frames\n\
        of the videos, and computes totals and statistics again. What can't be saved is listed before anything is done.\n\n\
        Examples:\n  sinew dataset repair ./my_dataset --dry-run\n  sinew dataset repair ./my_dataset --out mended --yes")]
    Repair {
        dir: PathBuf,
        /// Keep the rows of an episode that its video has frames for, where it is short; without it the episode goes
        #[arg(long)]
        cut_rows: bool,
        #[command(flatten)]
        edit: EditArgs,
    },
    /// Look at a dataset in the Rerun viewer, or as an HTML page that plays it
    #[command(
        after_help = "The page needs a browser and nothing else, also when it is opened as a file. Video in H.264 or AV1 is put into it\n\
        as it is; of other images up to 300 an episode are kept. A page above 24 MB is a small one beside a folder of its\n\
        files, NAME_files, which belongs with it. Space plays, arrows move by frames, j and k by episodes.\n\n\
        Examples:\n  sinew dataset view ./my_dataset --html my_dataset.html\n  \
        sinew dataset view ./my_dataset --episodes 3,7-9\n  sinew dataset view ./my_dataset --connect 127.0.0.1:9876"
    )]
    View {
        /// A folder, or owner/name[@revision] on the Hub, of which what is shown is fetched
        dir: PathBuf,
        /// Write a page that needs nothing else: it plays cameras beside plots of every number
        #[arg(long, value_name = "FILE", conflicts_with = "connect")]
        html: Option<PathBuf>,
        /// Show it in a Rerun viewer that runs, such as 127.0.0.1:9876, instead of starting one
        #[arg(long, value_name = "ADDR")]
        connect: Option<String>,
        /// Which episodes, such as 3,7-9; without it all on a page (of a dataset on the Hub the first 50), the first 10 in Rerun
        #[arg(long, value_name = "LIST")]
        episodes: Option<Episodes>,
        /// The result as one JSON line on stdout
        #[arg(long)]
        json: bool,
    },
    /// Write a dataset as a recording for another program
    #[command(
        group = ArgGroup::new("format").required(true),
        after_help = "Examples:\n  sinew dataset export ./my_dataset --rrd my_dataset.rrd --episodes 0-4\n  \
            sinew dataset export ./my_dataset --mcap my_dataset.mcap"
    )]
    Export {
        /// A folder, or owner/name[@revision] on the Hub, of which what is written is fetched
        dir: PathBuf,
        /// For Rerun
        #[arg(long, value_name = "FILE", group = "format")]
        rrd: Option<PathBuf>,
        /// For Foxglove, ROS 2 and others: images as sensor_msgs/CompressedImage, numbers by name as JSON
        #[arg(long, value_name = "FILE", group = "format")]
        mcap: Option<PathBuf>,
        /// Which episodes, such as 3,7-9; without it all
        #[arg(long, value_name = "LIST")]
        episodes: Option<Episodes>,
        /// The result as one JSON line on stdout
        #[arg(long)]
        json: bool,
    },
    /// Remove episodes
    #[command(after_help = "The episodes that follow are numbered anew. Video is copied, not encoded again.\n\n\
        Examples:\n  sinew dataset delete ./my_dataset --episodes 3,7-9\n  sinew dataset delete ./my_dataset --where success=false\n  \
        sinew dataset delete ./my_dataset --where 'reason~time' --where 'length<30' --out without_them --yes")]
    Delete {
        dir: PathBuf,
        /// Which episodes, such as 3,7-9
        #[arg(long, value_name = "LIST", required_unless_present = "conditions")]
        episodes: Option<Episodes>,
        /// Those that are so, of --episodes or of all: success=false, reason~TEXT (contains), task="pick it", length<30, seed=7;
        /// given several times, all must hold
        #[arg(long = "where", value_name = "CONDITION")]
        conditions: Vec<Condition>,
        #[command(flatten)]
        edit: EditArgs,
    },
    /// Make several datasets of one
    #[command(after_help = "Shares are taken in order. Each part becomes the folder of its name in --out.\n\n\
        Examples:\n  sinew dataset split ./my_dataset --out parts --part train=0.8 --part val=0.2\n  \
        sinew dataset split ./my_dataset --out parts --part good=0-9,12 --part bad=10,11\n  \
        sinew dataset split ./my_dataset --out parts --part good=success=true --part bad=success=false\n  \
        sinew dataset split ./my_dataset --out parts --where success=true --part train=0.8 --part val=0.2")]
    Split {
        dir: PathBuf,
        /// NAME=SHARE (0.8 or 80%), NAME=EPISODES (0-9,12) or NAME=CONDITION (success=true)
        #[arg(long = "part", value_name = "NAME=WHAT", required = true)]
        parts: Vec<Part>,
        /// Only of episodes that are so, as `sinew dataset delete --help` says
        #[arg(long = "where", value_name = "CONDITION")]
        conditions: Vec<Condition>,
        /// Folder for the parts (must not exist or be empty)
        #[arg(long, value_name = "DIR")]
        out: PathBuf,
        #[command(flatten)]
        how: HowArgs,
    },
    /// Join datasets of the same robot, rate and features into one
    #[command(after_help = "Tasks of the same words become one. Video is copied, not encoded again.\n\n\
        Example:\n  sinew dataset merge ./monday ./tuesday --out both")]
    Merge {
        #[arg(required = true, num_args = 2..)]
        dirs: Vec<PathBuf>,
        /// Folder for the result (must not exist or be empty)
        #[arg(long, value_name = "DIR")]
        out: PathBuf,
        #[command(flatten)]
        how: HowArgs,
    },
    /// Bring a dataset into another version of the format, or its images into another form
    #[command(after_help = "Between versions nothing is lost, and no picture is decoded.\n\n\
        Examples:\n  sinew dataset convert ./my_dataset --to v2.1 --out for_old_tools\n  \
        sinew dataset convert ./my_dataset --codec av1 --quality 30\n  sinew dataset convert ./my_dataset --images")]
    Convert {
        dir: PathBuf,
        /// The version of LeRobot's format
        #[arg(long, value_name = "VERSION")]
        to: Option<FormatVersion>,
        /// Keep images as PNG in the tables instead of as video
        #[arg(long, conflicts_with_all = ["codec", "quality", "gop", "pix_fmt", "preset"])]
        images: bool,
        #[command(flatten)]
        video: VideoArgs,
        #[command(flatten)]
        edit: EditArgs,
    },
    /// Compute all statistics anew
    #[command(after_help = "Example:\n  sinew dataset stats ./my_dataset")]
    Stats {
        dir: PathBuf,
        #[command(flatten)]
        edit: EditArgs,
    },
    /// Remove features, such as a camera
    #[command(after_help = "Example:\n  sinew dataset remove-feature ./my_dataset observation.images.wrist")]
    RemoveFeature {
        dir: PathBuf,
        #[arg(required = true)]
        names: Vec<String>,
        #[command(flatten)]
        edit: EditArgs,
    },
    /// Give a task other words; those of another task make them one
    #[command(after_help = "Example:\n  sinew dataset rename-task ./my_dataset \"pick cube\" \"Put the cube into the bin.\"")]
    RenameTask {
        dir: PathBuf,
        from: String,
        to: String,
        #[command(flatten)]
        edit: EditArgs,
    },
    /// Bring back what was there before the last change in place; a second time brings the change back
    #[command(after_help = "Says what comes back and what goes. Episodes that were recorded after the change are not taken away\n\
        unless --lose-newer is given.\n\n\
        Examples:\n  sinew dataset undo ./my_dataset\n  sinew dataset undo ./my_dataset --forget")]
    Undo {
        dir: PathBuf,
        /// Also take away what was recorded or changed since; until the next change, undoing again brings it back
        #[arg(long, conflicts_with = "forget")]
        lose_newer: bool,
        /// Remove what is kept instead, which frees its room; the last change can't be undone any more
        #[arg(long)]
        forget: bool,
        #[command(flatten)]
        how: HowArgs,
    },
    /// Make an episode of the one that was being recorded when the recorder was killed
    #[command(after_help = "Keeps the rows all of whose images reached the disk.\n\nExample:\n  sinew dataset recover ./my_dataset")]
    Recover {
        dir: PathBuf,
        #[command(flatten)]
        how: HowArgs,
    },
    /// Remove the episode that was being recorded when the recorder was killed
    #[command(after_help = "Example:\n  sinew dataset discard ./my_dataset")]
    Discard {
        dir: PathBuf,
        #[command(flatten)]
        how: HowArgs,
    },
}

/// Where an edit goes and how it is carried out.
#[derive(Args)]
pub struct EditArgs {
    /// Folder for the result (must not exist or be empty); without it the result takes the dataset's place, and `sinew dataset undo` brings back what was there
    #[arg(long, value_name = "DIR")]
    pub out: Option<PathBuf>,
    #[command(flatten)]
    pub how: HowArgs,
}

#[derive(Args)]
pub struct HowArgs {
    /// Do it without asking
    #[arg(long, short = 'y')]
    pub yes: bool,
    /// Show what would be done, and do nothing
    #[arg(long, conflicts_with = "yes")]
    pub dry_run: bool,
    /// What is planned and whether it was done as one JSON line on stdout
    #[arg(long)]
    pub json: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum FormatVersion {
    #[value(name = "v2.0")]
    V20,
    #[value(name = "v2.1")]
    V21,
    #[value(name = "v3.0")]
    V30,
}

impl From<FormatVersion> for Version {
    fn from(version: FormatVersion) -> Self {
        match version {
            FormatVersion::V20 => Self::V20,
            FormatVersion::V21 => Self::V21,
            FormatVersion::V30 => Self::V30,
        }
    }
}

/// Episode numbers as they are typed: `3,7-9`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Episodes(pub Vec<u64>);

/// More than a dataset has, so a slip of the finger fills no memory.
const MOST_EPISODES: u64 = 1_000_000;

impl FromStr for Episodes {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let number = |text: &str| text.trim().parse::<u64>().map_err(|_| format!("{text:?} is no episode, expected numbers such as 3,7-9"));
        let mut episodes = Vec::new();
        for range in text.split(',') {
            let (first, last) = match range.split_once('-') {
                Some((first, last)) => (number(first)?, number(last)?),
                None => (number(range)?, number(range)?),
            };
            if last < first || last - first >= MOST_EPISODES {
                return Err(format!("{range:?} is no range of episodes, expected one such as 7-9"));
            }
            episodes.extend(first..=last);
        }
        Ok(Self(episodes))
    }
}

/// A part of a dataset: its name, and what goes there.
#[derive(Clone, Debug, PartialEq)]
pub struct Part {
    pub name: String,
    pub what: PartOf,
}

#[derive(Clone, Debug, PartialEq)]
pub enum PartOf {
    /// Of all episodes.
    Share(f64),
    Episodes(Vec<u64>),
    Where(Condition),
}

impl FromStr for Part {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let (name, what) = text.split_once('=').ok_or("expected NAME=SHARE, NAME=EPISODES or NAME=CONDITION")?;
        let share = |text: &str, of: f64| text.trim().parse::<f64>().map_err(|_| format!("{text:?} is no share")).map(|share| share / of);
        let what = match what.strip_suffix('%') {
            Some(percent) => PartOf::Share(share(percent, 100.0)?),
            None if what.contains('.') && !what.contains(['=', '<', '>', '~']) => PartOf::Share(share(what, 1.0)?),
            None if what.contains(['=', '<', '>', '~']) => PartOf::Where(what.parse()?),
            None => PartOf::Episodes(Episodes::from_str(what)?.0),
        };
        Ok(Self { name: name.to_owned(), what })
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "what fails here fails the test")]

    use super::*;

    #[test]
    fn episodes_and_parts_are_read_as_they_are_typed() {
        assert_eq!("3,7-9".parse(), Ok(Episodes(vec![3, 7, 8, 9])));
        for wrong in ["", "a", "3-", "-3", "9-7", "0-18446744073709551615", "1,,2"] {
            assert!(wrong.parse::<Episodes>().is_err(), "{wrong}");
        }
        assert_eq!("a=0-1".parse::<Part>().unwrap().what, PartOf::Episodes(vec![0, 1]));
        assert_eq!("a=80%".parse::<Part>().unwrap().what, PartOf::Share(0.8));
        assert_eq!("a=success=false".parse::<Part>().unwrap().what, PartOf::Where("success=false".parse().unwrap()));
        assert_eq!("a=.5".parse::<Part>().unwrap().what, PartOf::Share(0.5));
        for wrong in ["a", "a=", "a=x", "a=0.x"] {
            assert!(wrong.parse::<Part>().is_err(), "{wrong}");
        }
    }
}
