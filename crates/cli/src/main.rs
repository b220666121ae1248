//! `sinew`: reads what the user typed, picks implementations, prints, and turns errors into exit
//! codes. Everything else lives in the crates below.

#![deny(unsafe_code)]

mod args;
mod arm;
mod buses;
mod cameras;
mod commands;
mod config;
mod contact_sheet;
mod cues;
mod demo_policy;
mod desk;
mod devices;
mod hardware;
mod jpeg;
mod led;
mod lerobot_words;
mod licence;
mod live;
mod live_table;
mod locale;
mod prompt;
mod publishing;
mod recording;
mod replay;
mod rig;
mod rig_file;
mod sim_socket;
mod source;
mod standby;
mod terminal;
mod text;
mod tips;
mod transfer;
mod watch;
mod way;
mod wilson;

use std::io::Write as _;
use std::process::ExitCode;

use clap::error::{ContextKind, ContextValue};
use clap::{CommandFactory as _, FromArgMatches as _};

use args::{Cli, Command, Misuse};

/// The exit code of a process that Ctrl-C ended, as shells have it: 128 + SIGINT.
const INTERRUPTED: u8 = 130;
/// The exit code for a command line that makes no sense, as clap has it.
const MISUSED: u8 = 2;
/// The same for SIGTERM.
const TERMINATED: u8 = 143;

/// What is logged unless the user says otherwise. Hugging Face's crates tell their own troubles in many lines, of which what
/// matters comes back as an error.
const LOGGED: &str = "warn,hf_hub=off,xet=off,xet_client=off,xet_core_structures=off,xet_data=off,xet_runtime=off";

/// What a verb ends with when nothing failed.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Done {
    Ok,
    /// Ended by Ctrl-C, in order.
    Interrupted,
    /// Ended by SIGTERM before anything was begun.
    Terminated,
    /// What was asked about is not so; the output says why.
    Refused,
}

/// glibc gives threads heaps of their own, up to eight a processor, and each keeps the most that was ever in it. An encoder takes
/// 13 MB, and each episode's run on new threads, so that a long recording would fill all of them.
#[cfg(all(target_os = "linux", target_env = "gnu"))]
fn keep_heaps_few() {
    const HEAPS: libc::c_int = 8;
    // SAFETY: it sets a number of the allocator's, before there are threads.
    #[allow(unsafe_code, reason = "the allocator takes the number from nowhere else but the environment")]
    unsafe {
        // One that it does not know stays as it is.
        libc::mallopt(libc::M_ARENA_MAX, HEAPS);
    }
}

fn main() -> ExitCode {
    #[cfg(all(target_os = "linux", target_env = "gnu"))]
    keep_heaps_few();
    // Without its thread a panic is reported as ever.
    let _reports = sinew_runtime::panics::report_beside();
    let cli = match rig_file::expand(std::env::args_os().collect()) {
        Ok(expanded) => {
            let parsed = Cli::command().try_get_matches_from(&expanded.line).and_then(|matches| {
                let cli = Cli::from_arg_matches(&matches)?;
                Ok((matches, cli))
            });
            let (matches, cli) = parsed.unwrap_or_else(|error| {
                let hint = lerobot_words::hint(&error);
                hint.iter().for_each(|hint| text::note!("{hint}\n"));
                // Who did not type it should know where to look.
                if let Some(ContextValue::String(option)) = error.get(ContextKind::InvalidArg)
                    && let Some((word, from)) = expanded.source_of(option.split(' ').next().unwrap_or_default())
                {
                    text::note!("{} comes from {from}\n", word.to_string_lossy());
                }
                refused(&tips::sort_out(error, &Cli::command(), hint.is_some()))
            });
            if cli.explain {
                return ended(commands::config::explain(&matches, &expanded));
            }
            cli
        }
        Err(error) => {
            text::note!("error: {}", text::chain(&error));
            return ExitCode::FAILURE;
        }
    };
    let filter = tracing_subscriber::EnvFilter::try_from_env("SINEW_LOG").unwrap_or_else(|_| tracing_subscriber::EnvFilter::new(LOGGED));
    // What can't be logged because the terminal has gone is no reason to panic.
    let log = tracing_subscriber::fmt().with_env_filter(filter).with_writer(std::io::stderr).log_internal_errors(false);
    log.with_ansi(std::io::IsTerminal::is_terminal(&std::io::stderr())).init();
    let Some(command) = cli.command else { return ended(commands::rollout::demonstrate()) };
    ended(match command {
        Command::Rollout(args) => commands::rollout::run(&args),
        Command::Eval(args) => commands::eval::run(&args),
        Command::Teleop(args) => commands::teleop::run(&args),
        Command::LekiwiHost(args) => commands::lekiwi_host::run(&args),
        Command::Record(args) => commands::record::run(&args),
        Command::Replay(args) => commands::replay::run(&args),
        Command::Policy { command } => commands::policy::run(&command),
        Command::Dataset { command } => commands::dataset::run(&command),
        Command::Hub { command } => commands::hub::run(&command),
        Command::Train(args) => commands::train::run(&args),
        Command::Calibrate(args) => commands::calibrate::run(&args),
        Command::FindPort(args) => commands::find_port::run(&args),
        Command::FindCameras(args) => commands::find_cameras::run(&args),
        Command::SetupMotors(args) => commands::setup_motors::run(&args),
        Command::Config { command, json } => commands::config::run(command.as_ref(), json),
        Command::Doctor { json } => commands::doctor::run(json),
        Command::Emulate(args) => commands::emulate::run(&args),
        Command::Rig { command } => commands::rig::run(&command),
        Command::Robots(args) => commands::robots::run(&args),
        Command::Sim { command } => commands::sim::run(&command),
        Command::Watchdog { title, fifo } => commands::watchdog::run(&title, fifo),
        Command::Completions { shell } => commands::completions::run(shell),
        Command::ManPages { folder } => commands::man_pages::run(&folder),
    })
}

/// clap's refusal, or its help; ends the process.
fn refused(error: &clap::Error) -> ! {
    if locale::is_utf8() {
        error.exit()
    }
    let text = error.render().to_string();
    let written = if error.use_stderr() { write!(text::stderr(), "{text}") } else { write!(text::stdout(), "{text}") };
    // Nobody is there to read it.
    drop(written);
    #[expect(clippy::exit, reason = "as clap does")]
    std::process::exit(error.exit_code());
}

fn ended(result: anyhow::Result<Done>) -> ExitCode {
    match result {
        Ok(Done::Ok) => ExitCode::SUCCESS,
        Ok(Done::Refused) => ExitCode::FAILURE,
        Ok(Done::Interrupted) => ExitCode::from(INTERRUPTED),
        Ok(Done::Terminated) => ExitCode::from(TERMINATED),
        Err(error) if text::is_broken_pipe(&error) => ExitCode::SUCCESS,
        Err(error) => {
            text::note!("error: {}", text::chain(&error));
            if error.is::<Misuse>() { ExitCode::from(MISUSED) } else { ExitCode::FAILURE }
        }
    }
}
