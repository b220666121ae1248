//! `sinew`: reads what the user typed, picks implementations, prints, and turns errors into exit
//! codes. Everything else lives in the crates below.

#![deny(unsafe_code)]
#![allow(
    rustdoc::broken_intra_doc_links,
    rustdoc::bare_urls,
    reason = "docstrings of arguments are help texts, in which brackets are none of rustdoc's"
)]

mod args;
mod arm;
mod buses;
mod calibrating;
mod cameras;
mod commands;
mod config;
mod contact_sheet;
mod cues;
mod daemon;
mod demo_policy;
mod desk;
mod devices;
mod hardware;
mod heaps;
mod host;
mod jpeg;
mod lead;
mod led;
mod led_afar;
mod lerobot_words;
mod licence;
mod live;
mod live_table;
mod locale;
mod log;
mod outlet;
mod prompt;
mod publishing;
mod recording;
mod remote;
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
mod whole;
mod wilson;

use std::io::Write as _;
use std::process::ExitCode;

use clap::FromArgMatches as _;
use clap::error::{ContextKind, ContextValue};
use sinew::{DatasetError, PretrainedError};
use sinew_hub::{HubError, ParseModelRefError};
use sinew_recorder::{RecordError, ToolError};
use sinew_sim::{RobotModelError, SimError};

use args::{Cli, Command, Misuse};

/// The exit code of a process that Ctrl-C ended, as shells have it: 128 + SIGINT.
const INTERRUPTED: u8 = 130;
/// The exit code for a command line that makes no sense, as clap has it.
const MISUSED: u8 = 2;
/// The exit code for help that could not be written.
const FAILED: i32 = 1;
/// The exit code where a loop's output had no reader left, as shells have it: 128 + SIGPIPE. What runs ends then, so it is no success.
const UNREAD: u8 = 141;
/// The same for SIGTERM.
const TERMINATED: u8 = 143;

/// What a verb ends with when nothing failed.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Done {
    Ok,
    /// Ended by Ctrl-C, in order.
    Interrupted,
    /// Ended by SIGTERM before anything was begun.
    Terminated,
    /// Told to end, which is what it waited for.
    Left,
    /// What was asked about is not so; the output says why.
    Refused,
}

fn main() -> ExitCode {
    heaps::keep_few();
    // Without its thread a panic is reported as ever.
    let _reports = sinew_runtime::panics::report_beside();
    let cli = match rig_file::expand(std::env::args_os().collect()) {
        Ok(expanded) => {
            let parsed = args::command().try_get_matches_from(&expanded.line).and_then(|matches| {
                let cli = Cli::from_arg_matches(&matches)?;
                Ok((matches, cli))
            });
            let (matches, cli) = parsed.unwrap_or_else(|error| {
                let hint = lerobot_words::hint(&error, &expanded.line);
                hint.iter().for_each(|hint| text::note!("{hint}\n"));
                // Who did not type it should know where to look.
                if let Some(ContextValue::String(option)) = error.get(ContextKind::InvalidArg)
                    && let Some((word, from)) = expanded.source_of(option.split(' ').next().unwrap_or_default())
                {
                    text::note!("{} comes from {from}\n", word.to_string_lossy());
                }
                refused(&tips::sort_out(error, &args::command(), hint.is_some()))
            });
            if let Some(Err(misuse)) = cli.command.as_ref().map(Command::check) {
                for option in misuse.0.split([' ', ',', ';', '=']).filter(|word| word.starts_with("--")) {
                    if let Some((word, from)) = expanded.source_of(option) {
                        text::note!("{} comes from {from}\n", word.to_string_lossy());
                    }
                }
                return ended(Err(misuse.into()));
            }
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
    let has_loop = cli.command.as_ref().is_none_or(Command::has_loop);
    if has_loop {
        outlet::begin();
    }
    log::begin();
    daemon::lifeline::hold_on();
    if cli.offline {
        sinew_hub::HubOptions::stay_offline();
    }
    let Some(command) = cli.command else { return ended(commands::rollout::demonstrate()) };
    let done = match command {
        Command::Rollout(args) => commands::rollout::run(&args),
        Command::Serve(args) => commands::serve::run(&args),
        Command::Daemon(args) => commands::daemon::run(&args),
        Command::Fleet(args) => commands::fleet::run(&args),
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
    };
    // A list whose reader has gone is none the worse; what a loop said is lost, and it may have ended for that.
    let was_read = match &done {
        Err(error) => !text::is_broken_pipe(error),
        Ok(_) => true,
    };
    let is_whole = matches!(done, Ok(Done::Ok));
    let code = ended(done);
    if has_loop && (!was_read || is_whole && text::is_unread()) { ExitCode::from(UNREAD) } else { code }
}

/// clap's refusal, or its help; ends the process.
fn refused(error: &clap::Error) -> ! {
    let in_ascii = || {
        let text = error.render().to_string();
        if error.use_stderr() { write!(text::stderr(), "{text}") } else { write!(text::stdout(), "{text}") }
    };
    let written = if locale::is_utf8() { error.print() } else { in_ascii() };
    let code = match written {
        // Help that was asked for and is lost is a failure; who refuses has said so by the exit code.
        Err(lost) if !error.use_stderr() && lost.kind() != std::io::ErrorKind::BrokenPipe => {
            text::note!("error: {}", text::not_written(&lost));
            FAILED
        }
        _ => error.exit_code(),
    };
    #[expect(clippy::exit, reason = "as clap does")]
    std::process::exit(code);
}

/// Whether the command line makes no sense: it names what sinew does not know, or asks for what nothing can be. What a file or a
/// machine does not have is another error.
pub(crate) fn is_misuse(error: &anyhow::Error) -> bool {
    let is_one = |cause: &(dyn std::error::Error + 'static)| {
        cause.is::<Misuse>()
            || matches!(cause.downcast_ref(), Some(SimError::UnknownTask { .. }))
            || matches!(cause.downcast_ref(), Some(RobotModelError::Unknown { .. }))
            || matches!(cause.downcast_ref(), Some(RecordError::Setup { .. }))
            || matches!(cause.downcast_ref(), Some(DatasetError::Name(name)) if !name.may_be_path())
            || matches!(cause.downcast_ref(), Some(PretrainedError::Name(name)) if !name.may_be_path())
            || cause.downcast_ref().is_some_and(|name: &ParseModelRefError| !name.may_be_path())
            || matches!(cause.downcast_ref(), Some(HubError::Pattern { .. }))
            || matches!(cause.downcast_ref(), Some(ToolError::Write(RecordError::Setup { .. })))
    };
    error.is::<Misuse>() || error.chain().any(is_one)
}

fn ended(result: anyhow::Result<Done>) -> ExitCode {
    let was_told_to_end = matches!(result, Ok(Done::Interrupted | Done::Terminated | Done::Left));
    // Whether it was written is known then.
    text::settle(was_told_to_end);
    let code = code_of(result);
    text::settle(was_told_to_end);
    code
}

fn code_of(result: anyhow::Result<Done>) -> ExitCode {
    match result {
        Ok(Done::Ok) => match text::lost() {
            None => ExitCode::SUCCESS,
            Some(error) => {
                text::note!("error: {error}");
                ExitCode::FAILURE
            }
        },
        Ok(Done::Left) => ExitCode::SUCCESS,
        Ok(Done::Refused) => ExitCode::FAILURE,
        Ok(Done::Interrupted) => ExitCode::from(INTERRUPTED),
        Ok(Done::Terminated) => ExitCode::from(TERMINATED),
        Err(error) if text::is_broken_pipe(&error) => ExitCode::SUCCESS,
        Err(error) => {
            text::note!("error: {}", text::chain(&error));
            if is_misuse(&error) { ExitCode::from(MISUSED) } else { ExitCode::FAILURE }
        }
    }
}
