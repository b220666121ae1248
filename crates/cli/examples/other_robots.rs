//! Two robots that are not one serial arm run the whole loop on fakes and are recorded: two arms on two buses, led by
//! a teleoperator, and a base on three wheels with an arm, driven by a policy.
//!
//! ```text
//! other_robots FOLDER [episodes=2] [ticks=60]
//! ```
//!
//! Leaves the datasets `FOLDER/two_arms` and `FOLDER/rover`. `scripts/check_dataset_with_lerobot.sh FOLDER/rover` has
//! LeRobot open one.

#![allow(clippy::print_stdout, reason = "printing is what it is for")]

#[path = "../tests/common/fakes.rs"]
mod fakes;

use std::path::PathBuf;

use anyhow::Context;

fn main() -> anyhow::Result<()> {
    let mut args = std::env::args().skip(1);
    let root = PathBuf::from(args.next().context("reading the arguments: expected a folder")?);
    let mut number = |otherwise| args.next().map_or(Ok(otherwise), |text| text.parse()).context("reading the arguments: expected a number");
    let (episodes, ticks) = (number(2)?, number(60)?);
    for (name, toml, driver) in fakes::ROBOTS {
        let robot = fakes::robot(name, toml)?;
        let reports = fakes::record(&robot, driver, &root.join(name), episodes, ticks)?;
        println!("{}: {} episodes in {}", robot.title, reports.len(), root.join(name).display());
    }
    Ok(())
}
