//! Robots that are not there: motors with their registers behind a real terminal device, for drivers, tests and people
//! without hardware.
//!
//! An [`Emulator`] opens a pseudo-terminal and plays the motors of a [`Robot`] on it, which comes from a robot's description
//! ([`Robot::from_description`]), in a thread of its own: bytes take
//! the time that they take on the wire, motors wait their return delay before they answer, and they move, get warm,
//! overload and forget as theirs do. Whatever opens serial ports may use it, also the makers' own programs
//! (`scripts/check_emulator_with_sdks.sh`). It is not kinder than the world: what real motors lose, garble or refuse, these
//! do too, and [`Fault`]s come by schedule or by chance.
//!
//! ```no_run
//! use sinew_emulator::{Emulator, Options, Robot};
//!
//! let robot = Robot::so101_follower();
//! let emulator = Emulator::start(&robot, "/tmp/so101".as_ref(), Options::default())?;
//! println!("{}", emulator.port().display());
//! # Ok::<(), sinew_emulator::EmulatorError>(())
//! ```

#![forbid(unsafe_code)]

mod bus;
mod console;
mod emulator;
mod fault;
mod line;
mod log;
mod motor;
mod port;
mod robots;

pub use console::{COMMANDS, ConsoleError, FAULTS, FaultOption, obey};
pub use emulator::{Emulator, EmulatorError, Options};
pub use fault::{Event, Fault, Rates};
pub use log::{Asked, Entry, Log, Said};
pub use motor::{Firmware, Joint, Motor};
pub use robots::{Robot, RobotError};
