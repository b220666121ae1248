//! What `sinew dataset` takes.

use std::path::PathBuf;
use std::str::FromStr;

use clap::{ArgGroup, Args, Subcommand, ValueEnum};
use sinew_recorder::{Condition, Version};

use super::{Misuse, VideoArgs, values::viewer};

#[derive(Subcommand)]
pub enum DatasetCommand {
    /// Show a dataset's features, episodes and tasks
    #[command(after_help = "Examples:\n  sinew dataset info ./my_dataset --json\n  sinew dataset info lerobot/svla_so101_pickplace")]
    Info {
        /// A dataset: a folder, or owner/name[@revision] on the Hub
        dir: PathBuf,
        /// Print the result as JSON on standard output
        #[arg(long)]
        json: bool,
    },
    /// Check a dataset: numbering, times, lengths, statistics, and a picture for every row
    #[command(after_help = "Ends with exit code 1 if something is wrong. Pictures are decoded only with --deep.\n\n\
        Examples:\n  sinew dataset verify ./my_dataset\n  sinew dataset verify ./my_dataset --deep --json")]
    Verify {
        /// The folder of a dataset
        dir: PathBuf,
        /// Decode every picture and compare it with the statistics
        #[arg(long)]
        deep: bool,
        /// Print the result as JSON on standard output
        #[arg(long)]
        json: bool,
    },
    /// Repair a dataset that a killed recorder, a full disk or another tool left broken
    #[command(
        after_help = "Recovers rows from tables without a footer, rebuilds the episodes table, matches episodes with video frames, and \
        computes totals and statistics again. What can't be saved is listed before anything is changed.\n\n\
        Examples:\n  sinew dataset repair ./my_dataset --dry-run\n  sinew dataset repair ./my_dataset --out mended --yes"
    )]
    Repair {
        /// The folder of a dataset
        dir: PathBuf,
        /// Keep the rows that a short video has frames for, instead of dropping the episode
        #[arg(long)]
        cut_rows: bool,
        #[command(flatten)]
        edit: EditArgs,
    },
    /// Look at a dataset in the Rerun viewer, or as an HTML page that plays it
    #[command(
        after_help = "The page needs only a browser, and works when opened as a file. H.264 and AV1 video is embedded as it is; of other \
        images, up to 300 per episode are kept. Above 24 MB the page comes with a folder NAME_files; keep them together. \
        Space plays, the arrow keys move by frames, j and k by episodes.\n\n\
        Examples:\n  sinew dataset view ./my_dataset --html my_dataset.html\n  \
        sinew dataset view ./my_dataset --episodes 3,7-9\n  sinew dataset view ./my_dataset --connect 127.0.0.1:9876"
    )]
    View {
        /// A dataset: a folder, or owner/name[@revision] on the Hub
        dir: PathBuf,
        /// Write an HTML page that plays the cameras beside plots of every number. It needs no other file
        #[arg(long, value_name = "FILE", conflicts_with = "connect")]
        html: Option<PathBuf>,
        /// Show it in a running Rerun viewer, for example 127.0.0.1:9876, instead of starting one
        #[arg(long, value_name = "ADDR", value_parser = viewer)]
        connect: Option<String>,
        /// The episodes to show, for example 3,7-9 [default: all on a page (the first 50 from the Hub), the first 10 in Rerun]
        #[arg(long, value_name = "LIST")]
        episodes: Option<Episodes>,
        /// Print the result as JSON on standard output
        #[arg(long)]
        json: bool,
    },
    /// Export a dataset for another program
    #[command(
        group = ArgGroup::new("format").required(true),
        after_help = "Examples:\n  sinew dataset export ./my_dataset --rrd my_dataset.rrd --episodes 0-4\n  \
            sinew dataset export ./my_dataset --mcap my_dataset.mcap"
    )]
    Export {
        /// A dataset: a folder, or owner/name[@revision] on the Hub
        dir: PathBuf,
        /// Write a recording for Rerun
        #[arg(long, value_name = "FILE", group = "format")]
        rrd: Option<PathBuf>,
        /// Write a recording for Foxglove, ROS 2 and others: images as sensor_msgs/CompressedImage, numbers as JSON
        #[arg(long, value_name = "FILE", group = "format")]
        mcap: Option<PathBuf>,
        /// The episodes to export, for example 3,7-9 [default: all]
        #[arg(long, value_name = "LIST")]
        episodes: Option<Episodes>,
        /// Print the result as JSON on standard output
        #[arg(long)]
        json: bool,
    },
    /// Remove episodes
    #[command(after_help = "The following episodes are renumbered. Video is copied, not encoded again.\n\n\
        Examples:\n  \
        sinew dataset delete ./my_dataset --episodes 3,7-9\n  \
        sinew dataset delete ./my_dataset --where success=false\n  \
        sinew dataset delete ./my_dataset --where 'reason~time' --where 'length<30' \\\n      \
        --out without_them --yes")]
    Delete {
        /// The folder of a dataset
        dir: PathBuf,
        /// The episodes to remove, for example 3,7-9
        #[arg(long, value_name = "LIST")]
        episodes: Option<Episodes>,
        /// Only episodes that match: success=false, reason~TEXT (contains), task="pick it", length<30, seed=7. Given several
        /// times, all must match
        #[arg(long = "where", value_name = "CONDITION")]
        conditions: Vec<Condition>,
        #[command(flatten)]
        edit: EditArgs,
    },
    /// Split a dataset into several
    #[command(after_help = "Shares are taken in order. Each part is written to a folder of its name in --out.\n\n\
        Examples:\n  \
        sinew dataset split ./my_dataset --out parts --part train=0.8 --part val=0.2\n  \
        sinew dataset split ./my_dataset --out parts --part good=0-9,12 \\\n      \
        --part bad=10,11\n  \
        sinew dataset split ./my_dataset --out parts --part good=success=true \\\n      \
        --part bad=success=false\n  \
        sinew dataset split ./my_dataset --out parts --where success=true \\\n      \
        --part train=0.8 --part val=0.2")]
    Split {
        /// The folder of a dataset
        dir: PathBuf,
        /// A part, as NAME=SHARE (0.8 or 80%), NAME=EPISODES (0-9,12) or NAME=CONDITION (success=true)
        #[arg(long = "part", value_name = "NAME=WHAT", required = true)]
        parts: Vec<Part>,
        /// Only episodes that match, as for `sinew dataset delete`
        #[arg(long = "where", value_name = "CONDITION")]
        conditions: Vec<Condition>,
        /// Write the result to this folder, which must be new or empty
        #[arg(long, value_name = "DIR")]
        out: PathBuf,
        #[command(flatten)]
        how: HowArgs,
    },
    /// Merge datasets of the same robot, rate and features into one
    #[command(after_help = "Equal tasks are merged. Video is copied, not encoded again.\n\n\
        Example:\n  sinew dataset merge ./monday ./tuesday --out both")]
    Merge {
        /// The folders of two or more datasets
        #[arg(required = true, num_args = 2.., value_name = "DIR")]
        dirs: Vec<PathBuf>,
        /// Write the result to this folder, which must be new or empty
        #[arg(long, value_name = "DIR")]
        out: PathBuf,
        #[command(flatten)]
        how: HowArgs,
    },
    /// Convert a dataset to another version of the format, or its images to another form
    #[command(after_help = "Converting between versions loses nothing and decodes no picture.\n\n\
        Examples:\n  sinew dataset convert ./my_dataset --to v2.1 --out for_old_tools\n  \
        sinew dataset convert ./my_dataset --codec av1 --quality 30\n  sinew dataset convert ./my_dataset --images")]
    Convert {
        /// The folder of a dataset
        dir: PathBuf,
        /// The version of LeRobot's format to convert to
        #[arg(long, value_name = "VERSION")]
        to: Option<FormatVersion>,
        /// Store images as PNG in the tables instead of as video
        #[arg(long, conflicts_with_all = ["codec", "quality", "gop", "pix_fmt", "preset"])]
        images: bool,
        #[command(flatten)]
        video: VideoArgs,
        #[command(flatten)]
        edit: EditArgs,
    },
    /// Compute all statistics again
    #[command(after_help = "Example:\n  sinew dataset stats ./my_dataset")]
    Stats {
        /// The folder of a dataset
        dir: PathBuf,
        #[command(flatten)]
        edit: EditArgs,
    },
    /// Remove features, such as a camera
    #[command(after_help = "Example:\n  sinew dataset remove-feature ./my_dataset observation.images.wrist")]
    RemoveFeature {
        /// The folder of a dataset
        dir: PathBuf,
        /// The features to remove, for example observation.images.wrist
        #[arg(required = true)]
        names: Vec<String>,
        #[command(flatten)]
        edit: EditArgs,
    },
    /// Rename a task; renaming to an existing task merges them
    #[command(after_help = "Example:\n  \
        sinew dataset rename-task ./my_dataset \"pick cube\" \\\n      \
        \"Put the cube into the bin.\"")]
    RenameTask {
        /// The folder of a dataset
        dir: PathBuf,
        /// The task as it is called now
        from: String,
        /// The new words
        to: String,
        #[command(flatten)]
        edit: EditArgs,
    },
    /// Undo the last change made in place; a second undo redoes it
    #[command(
        after_help = "Shows what comes back and what goes. Episodes recorded after the change are kept unless --lose-newer is given.\n\n\
        Examples:\n  sinew dataset undo ./my_dataset\n  sinew dataset undo ./my_dataset --forget"
    )]
    Undo {
        /// The folder of a dataset
        dir: PathBuf,
        /// Also remove what was recorded or changed since. Undoing again brings it back, until the next change
        #[arg(long, conflicts_with = "forget")]
        lose_newer: bool,
        /// Free the space of what is kept for undo. The last change can then no longer be undone
        #[arg(long)]
        forget: bool,
        #[command(flatten)]
        how: HowArgs,
    },
    /// Recover the episode that was being recorded when the recorder was killed
    #[command(after_help = "Keeps the rows whose images all reached the disk.\n\nExample:\n  sinew dataset recover ./my_dataset")]
    Recover {
        /// The folder of a dataset
        dir: PathBuf,
        #[command(flatten)]
        how: HowArgs,
    },
    /// Discard the episode that was being recorded when the recorder was killed
    #[command(after_help = "Example:\n  sinew dataset discard ./my_dataset")]
    Discard {
        /// The folder of a dataset
        dir: PathBuf,
        #[command(flatten)]
        how: HowArgs,
    },
}

impl DatasetCommand {
    /// # Errors
    /// When it is not said what is to go.
    pub fn check(&self) -> Result<(), Misuse> {
        match self {
            Self::Delete { dir, episodes: None, conditions, .. } if conditions.is_empty() => {
                let which = "expected --episodes LIST or --where CONDITION, to say which";
                Err(Misuse(format!("deleting episodes of {}: {which}", dir.display())))
            }
            _ => Ok(()),
        }
    }
}

/// Where an edit goes and how it is carried out.
#[derive(Args)]
pub struct EditArgs {
    /// Write the result to this folder, which must be new or empty
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
    /// Print the result as JSON on standard output
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
        if matches!(name.trim(), "" | "." | "..") || name.contains('/') {
            return Err(format!("{name:?} makes no folder of its own, expected a plain name before the first ="));
        }
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
        for wrong in ["a", "a=", "a=x", "a=0.x", "=0.5", "../a=0.5"] {
            assert!(wrong.parse::<Part>().is_err(), "{wrong}");
        }
    }
}
