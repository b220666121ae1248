//! `sinew lekiwi-host`: a LeKiwi that hangs on this machine, offered to clients of the network.

use std::fs::File;
use std::io::Read;
use std::sync::Arc;

use anyhow::Context;
use sinew_core::{Clock, Identity, RobotDescription};
use sinew_drivers::{EncodeJpeg, LeKiwiHost, LeKiwiHostOptions};
use sinew_runtime::{AsItIs, MonotonicClock, ReturnToRest, Series, Session, SessionConfig, Stage, StopFlag, TeleopThread};

use crate::args::{LekiwiHostArgs, Misuse, misuse};
use crate::commands::rollout::report::{fail_on_faults, print_lateness};
use crate::commands::teleop::{Line, Watching};
use crate::desk::Desk;
use crate::live::{self, LiveLine};
use crate::text::{note, say};
use crate::{Done, hardware, jpeg, standby, text};

pub fn run(args: &LekiwiHostArgs) -> anyhow::Result<Done> {
    let (options, is_made_up) = options(args)?;
    let description = describe(args)?;
    let stop = StopFlag::new();
    stop.escalate_on_signals().context("listening for Ctrl-C")?;
    let clock: Arc<dyn Clock> = Arc::new(MonotonicClock::new());
    // First, as it may be refused; clients who come already wait for the robot.
    let host = LeKiwiHost::open(Arc::new(description.clone()), &options, clock.clone())?;
    let mut connected = hardware::connect(description, &args.hardware, &args.camera, clock.clone())?;
    let robot = connected.robot.description().clone();
    let width = robot.action_channels().len();
    let human = TeleopThread::spawn(Box::new(host.teleoperator()), Identity { width }, &robot);
    let mut human = human.context("starting the thread that acts for clients")?;
    let encode = (!robot.cameras.is_empty()).then(|| Box::new(jpeg::encode) as EncodeJpeg);
    let mut publisher = host.publisher(encode);

    let config = SessionConfig { return_to_rest: ReturnToRest::Never, realtime: args.realtime.request(), ..SessionConfig::default() };
    let mut session = Session::new(config, clock, stop.clone());
    session = session.watched_by(standby::watch(&robot, &stop, args.realtime.request().priority)?);
    let desk = Desk::new(session.operator(), stop.clone(), None).without_episodes();
    let keys = desk.hear_keys(None)?;
    let [commands, observations] = host.addresses();
    if args.lerobot_clients {
        note!("warning: no token is asked for: whoever reaches {commands} can drive this robot, and who reaches {observations} sees it");
    }
    if let (Some(token), true) = (&options.token, is_made_up) {
        note!("token     {token}   (for clients: {}=… or --token; it is shown this once)", hardware::TOKEN);
    }
    if !args.json {
        say!("robot     {}{}, {} Hz", robot.title, connected.calibrated(), robot.control_rate_hz);
        say!("commands  {commands}");
        say!("observes  {observations}");
        if keys.is_some() {
            say!("keys      {}", desk.legend());
        }
    }
    live::leave_when_abandoned(session.progress(), stop.clone());
    let line = LiveLine::start(session.progress(), live::of_one(), stop.clone());
    let ticks = args.seconds.map_or(u64::MAX, |seconds| (seconds * f64::from(robot.control_rate_hz)).ceil() as u64);
    let mut scene = AsItIs { task: String::new(), ticks };
    let stage = Stage {
        robot: &mut *connected.robot,
        cameras: &mut *connected.cameras.cameras,
        environment: &mut scene,
        policy: None,
        human: Some(&mut human),
        recorder: None,
        viewer: Some(&mut publisher),
    };
    let end = session.run_series(&Series::of(1, 0), stage, &mut Watching { desk: &desk })?;
    drop(line);
    drop(session);
    drop(keys);
    let clients = host.counts();
    drop(host);
    let motors = connected.robot.report();
    if let Some(report) = end.reports.first() {
        if args.json {
            text::print_json(&Report { line: Line::of(report, &motors), clients: Clients::from(clients) })?;
        } else {
            print_lateness(&report.cadence);
            say!(
                "limited   {} by the safety gate; {} missed",
                text::plural(report.interventions.total().into(), "command"),
                text::plural(report.missed_ticks, "tick")
            );
            let Clients { commands, refused_commands, refused_clients, replaced_observations } = clients.into();
            say!(
                "clients   {commands} commands, {refused_commands} refused; {refused_clients} connections refused; \
                 {replaced_observations} observations replaced by newer ones"
            );
            say!("\n{}", motors.table());
        }
        for left in &report.detached {
            note!("left behind: {left}");
        }
        fail_on_faults(report, || format!("offering {}", robot.name))?;
    }
    standby::say_why_it_ended(&stop);
    Ok(if stop.is_requested() { Done::Interrupted } else { Done::Ok })
}

/// Who is served, and whether the token was made up.
fn options(args: &LekiwiHostArgs) -> anyhow::Result<(LeKiwiHostOptions, bool)> {
    let given = hardware::token(args.hardware.token.as_deref());
    if args.lerobot_clients {
        anyhow::ensure!(
            args.bind.is_some(),
            Misuse(
                "--lerobot-clients serves everybody who reaches the robot; expected --bind ADDR to say where that is, 127.0.0.1 for \
                 this machine only"
                    .to_owned()
            )
        );
        let tokenless =
            format!("--lerobot-clients serves clients that send no token; expected neither --token nor {} with it", hardware::TOKEN);
        anyhow::ensure!(given.is_none(), Misuse(tokenless));
    }
    let is_made_up = given.is_none() && !args.lerobot_clients;
    let token = if is_made_up { Some(make_token()?) } else { given };
    let options = LeKiwiHostOptions {
        bind: args.bind,
        command_port: args.command_port,
        observation_port: args.observation_port,
        token,
        lerobot_clients: args.lerobot_clients,
        ..LeKiwiHostOptions::default()
    };
    Ok((options, is_made_up))
}

fn describe(args: &LekiwiHostArgs) -> anyhow::Result<RobotDescription> {
    let mut hardware = args.hardware.clone();
    // That is for clients here.
    hardware.token = None;
    let description = hardware::describe_unit(&args.robot, &hardware, &args.camera)?;
    hardware::serial_ports(&description, &args.hardware.port, "--port")
        .with_context(|| format!("offering {}: expected the port that its motors hang on", args.robot))?;
    if description.base.is_none() {
        misuse!("offering {}: expected a LeKiwi, or a robot like it with an arm and a base, found one without a base", args.robot);
    }
    Ok(description)
}

/// 128 bits that nobody guesses, as 32 digits.
fn make_token() -> anyhow::Result<String> {
    let mut bytes = [0; 16];
    File::open("/dev/urandom").and_then(|mut file| file.read_exact(&mut bytes)).context("making up a token: reading /dev/urandom")?;
    Ok(bytes.iter().map(|byte| format!("{byte:02x}")).collect())
}

/// What a script reads.
#[derive(serde::Serialize)]
struct Report<'a> {
    #[serde(flatten)]
    line: Line<'a>,
    clients: Clients,
}

#[derive(serde::Serialize)]
struct Clients {
    commands: u64,
    refused_commands: u64,
    refused_clients: u64,
    replaced_observations: u64,
}

impl From<sinew_drivers::LeKiwiHostCounts> for Clients {
    fn from(counts: sinew_drivers::LeKiwiHostCounts) -> Self {
        let sinew_drivers::LeKiwiHostCounts { commands, refused_commands, refused_clients, replaced } = counts;
        Self { commands, refused_commands, refused_clients, replaced_observations: replaced }
    }
}
