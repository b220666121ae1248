//! `sinew daemon`: owns a robot and serves it, and what belongs to that: its token, pairing, and the start at boot.

use std::io::{Read as _, Write as _};
use std::net::{SocketAddr, TcpStream};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, bail};
use clap::FromArgMatches as _;
use sinew_core::service::{RobotInfo, Service};
use sinew_remote::ros2::{Ros2, Ros2Options};
use sinew_remote::wire::{Pairing, Problem};
use sinew_remote::{Announced, Beacon, Daemon, DaemonOptions, Fleet, Https, Keyring, Nearby, RobotName, nearby};
use sinew_runtime::{StopFlag, StopLevel};

use crate::args::{self, Cli, Command, DaemonArgs, DaemonCommand, InstallArgs, Misuse, RoleArg};
use crate::daemon::lock::{Holder, Lock, holders};
use crate::daemon::notify::Notify;
use crate::daemon::service::Served;
use crate::daemon::{Owned, begin_log, install};
use crate::text::{note, say};
use crate::watch::{Answer, Watch};
use crate::whole::{self, Readers};
use crate::{Done, config, is_misuse, lead, text};

/// How often it is looked whether to end.
const LOOK: Duration = Duration::from_millis(50);
/// How long the robot's thread may take to end where no work runs.
const AT_REST_ENDS_WITHIN: Duration = Duration::from_millis(700);
/// How long the running daemon may take to answer.
const ANSWERS_WITHIN: Duration = Duration::from_secs(5);

const UDEV_RULES: &str = include_str!("../../../../packaging/udev/70-sinew.rules");

pub fn run(args: &DaemonArgs) -> anyhow::Result<Done> {
    match &args.command {
        None => serve(args),
        Some(DaemonCommand::Pair { role, state, json }) => pair(*role, &folder(state.as_deref())?, *json),
        Some(DaemonCommand::Token { state }) => {
            let folder = folder(state.as_deref())?;
            make(&folder)?;
            let (_, token) = Keyring::open(&folder)?;
            say!("{token}");
            Ok(Done::Ok)
        }
        Some(DaemonCommand::Find { within, json }) => find(Duration::from_secs_f64(*within), *json),
        Some(DaemonCommand::Install(args)) => write_pieces(args),
    }
}

/// The daemon's own folder.
fn folder(given: Option<&Path>) -> anyhow::Result<PathBuf> {
    if let Some(given) = given {
        return Ok(given.to_owned());
    }
    let state = config::user_folder("XDG_STATE_HOME", ".local/state");
    Ok(state.context("looking for the daemon's folder: neither XDG_STATE_HOME nor HOME is set; --state names one")?.join("sinew"))
}

/// Makes it, for its user alone.
fn make(folder: &Path) -> anyhow::Result<()> {
    use std::os::unix::fs::DirBuilderExt as _;
    let made = std::fs::DirBuilder::new().recursive(true).mode(0o700).create(folder);
    made.with_context(|| format!("making the daemon's folder {}", folder.display()))
}

fn serve(args: &DaemonArgs) -> anyhow::Result<Done> {
    let state = folder(args.state.as_deref())?;
    if !args.listen.ip().is_loopback() && !Keyring::is_there(&state) {
        let why = format!(
            "--listen {} is reached by other machines, and {} has no token yet: expected one that `sinew daemon token` has made, or an address of this machine only, such as 127.0.0.1:{}",
            args.listen,
            state.display(),
            args.listen.port()
        );
        return Err(Misuse(why).into());
    }
    let name = name_of(args)?;
    make(&state)?;
    let mut lock = Lock::take(&state, args)?;
    let owned = Owned::of(args, args.datasets.clone().unwrap_or_else(|| state.join("datasets")), lock.beside("policies"))?;
    let stop = StopFlag::new();
    stop.escalate_on_signals().context("listening for Ctrl-C")?;
    // A camera or a port may be waited for; nobody who ends the daemon waits for it.
    let connecting = owned.clone();
    let rig = match owned.prepare(&stop, move || connecting.connect()) {
        Ok(None) => return Ok(Done::Left),
        Ok(Some(rig)) => Ok(rig),
        Err(error) => Err(error),
    };
    // What can't be right at any time is told at once; a robot that is not there may come.
    let rig = match rig {
        Err(error) if is_misuse(&error) => return Err(error),
        rig => rig,
    };
    let (keyring, token) = Keyring::open(&state)?;
    let served = Served(owned.clone());
    let robot = served.robot();
    let https = args.https.then(|| Https::open(&state.join("https"), &host(), &args.host, |line| note!("{line}"))).transpose()?;
    let certificate = https.as_ref().map(Https::certificate);
    let scheme = if args.https { "https" } else { "http" };
    let options = DaemonOptions { listen: args.listen, hosts: args.host.clone(), version: robot.version.clone(), https };
    let server = Daemon::serve(options, keyring, Arc::new(served)).context("starting the daemon: is another one running?")?;
    let address = server.address();
    let holder = Holder { pid: std::process::id(), robot: robot.name.clone(), address: reachable(address).to_string() };
    lock.write(&holder).context("writing the daemon's lock")?;
    if args.json {
        let ready = serde_json::json!({
            "ready": true, "address": address.to_string(), "token_file": state.join("token"), "certificate": certificate,
        });
        text::print_json(&ready)?;
    } else {
        say!("robot     {}{}, {} Hz", robot.title, if robot.is_simulated { ", simulated" } else { "" }, robot.rate_hz);
        // Where lines are kept, the token is not to be.
        if text::is_read_at_once() {
            say!("page      {scheme}://{}/#t={token}", reachable(address));
        } else {
            say!(
                "page      {scheme}://{}/ ; `sinew daemon token` prints the token, `sinew daemon pair` pairs another device",
                reachable(address)
            );
        }
        match &certificate {
            Some(certificate) => say!("SHA-256   {}", certificate.fingerprint),
            None if address.ip().is_loopback() => {}
            None => note!("warning: nothing is encrypted, not even the token; --https encrypts it"),
        }
        say!("Ctrl-C ends it");
    }
    // From here on who may look reads along.
    begin_log();
    let others = name.map(|name| join_others(args, &name, &server)).transpose()?;
    let beacon = announce(args, &robot, address);
    let notify = Notify::from_env().map(Arc::new);
    let keeper = owned.clone();
    let keeper = std::thread::Builder::new().name("robot".into()).spawn(move || keeper.keep(rig)).context("starting the robot's thread")?;
    if let Some(notify) = &notify {
        notify.say(&format!("READY=1\nSTATUS=owns {} at {scheme}://{}", robot.name, reachable(address)));
        notify.clone().watch(owned.clone());
    }
    while !stop.is_requested() && !keeper.is_finished() {
        std::thread::sleep(LOOK);
        owned.refresh();
    }
    if let Some(notify) = &notify {
        notify.say("STOPPING=1");
    }
    let mut level = stop.level();
    owned.end(level.min(StopLevel::Now));
    let mut waited = Duration::ZERO;
    while !keeper.is_finished() {
        if stop.level() > level {
            level = stop.level();
            owned.end(level.min(StopLevel::Now));
        }
        // Told once more after all: what it waits for may never come. A robot that has torque is not left.
        if stop.is_abandoned() && !owned.is_armed() {
            note!("leaving before all was saved, as you insist; the robot is in its safe state");
            break;
        }
        // What it waits for is a robot or a camera that does not come, and nothing is to be saved.
        if waited > AT_REST_ENDS_WITHIN && !owned.works() {
            break;
        }
        waited += LOOK;
        std::thread::sleep(LOOK);
    }
    let is_whole = !keeper.is_finished() || keeper.join().is_ok();
    drop((beacon, others));
    drop(server);
    drop(lock);
    anyhow::ensure!(is_whole, "owning {}: the thread that has the robot panicked; the log says where", robot.name);
    Ok(Done::Left)
}

/// What the robot is called by others, where it has any.
fn name_of(args: &DaemonArgs) -> anyhow::Result<Option<RobotName>> {
    if args.leader.fleet.is_none() && args.ros2.is_none() {
        return Ok(None);
    }
    let name = args.fleet_name.clone().or_else(RobotName::of_this_machine);
    let unnamed = || Misuse("this machine's name can't be a robot's in a fleet; expected --fleet-name NAME".to_owned());
    Ok(Some(name.ok_or_else(unnamed)?))
}

/// This machine's name, without what stands behind a dot.
fn host() -> String {
    RobotName::of_this_machine().map_or_else(|| "sinew".to_owned(), |host| host.as_str().to_owned())
}

/// Has it found by others on the network, where they reach it. That can't be is no reason not to serve.
fn announce(args: &DaemonArgs, robot: &RobotInfo, listens: SocketAddr) -> Option<Beacon> {
    if listens.ip().is_loopback() || args.no_mdns {
        return None;
    }
    let host = host();
    let name = args.fleet_name.as_ref().map_or_else(|| host.clone(), |name| name.as_str().to_owned());
    let announced = Announced { name, host, robot: robot.name.clone(), version: robot.version.clone(), is_https: args.https, listens };
    let started = Beacon::start(&announced, |line| note!("{line}"));
    started.inspect_err(|error| note!("warning: {error}; it is not found by its name")).ok()
}

/// Lists the daemons on the network.
fn find(within: Duration, json: bool) -> anyhow::Result<Done> {
    let found = nearby(within)?;
    if json {
        text::print_json(&found)?;
        return Ok(Done::Ok);
    }
    if found.is_empty() {
        note!("no daemon was found within {} s; `sinew daemon find -h` says which are", within.as_secs_f64());
        return Ok(Done::Ok);
    }
    let mut table = vec![["name", "robot", "version", "page"].map(str::to_owned).to_vec()];
    table.extend(found.iter().map(|Nearby { name, robot, version, urls, .. }| {
        vec![name.clone(), robot.clone(), version.clone(), urls.first().cloned().unwrap_or_default()]
    }));
    say!("{}", text::table(&table));
    Ok(Done::Ok)
}

/// Tells of the robot in its fleet and in ROS 2, until these are dropped.
fn join_others(args: &DaemonArgs, name: &RobotName, server: &Daemon) -> anyhow::Result<(Option<Fleet>, Option<Ros2>)> {
    let tell = |line: &str| note!("{line}");
    let fleet = args.leader.fleet.as_ref().map(|place| {
        lead::warn(place);
        Fleet::join(place.clone(), name.clone(), server, tell)
    });
    let ros2 = args.ros2.map(|domain| {
        lead::warn(&args.ros2_at);
        let (place, robot, takes_commands) = (args.ros2_at.clone(), name.clone(), args.ros2_commands);
        Ros2::join(Ros2Options { place, domain, robot, takes_commands }, server, tell)
    });
    Ok((fleet.transpose()?, ros2.transpose()?))
}

/// An address by which this machine reaches it.
fn reachable(address: SocketAddr) -> SocketAddr {
    match address {
        SocketAddr::V4(v4) if v4.ip().is_unspecified() => ([127, 0, 0, 1], v4.port()).into(),
        SocketAddr::V6(v6) if v6.ip().is_unspecified() => (std::net::Ipv6Addr::LOCALHOST, v6.port()).into(),
        address => address,
    }
}

/// Asks the daemon that runs for six digits.
fn pair(role: RoleArg, state: &Path, json: bool) -> anyhow::Result<Done> {
    anyhow::ensure!(Keyring::is_there(state), "pairing: {} has no token; is the daemon's folder another one (--state)?", state.display());
    let (_, token) = Keyring::open(state)?;
    let found = holders(state);
    let holder = match &found[..] {
        [holder] if !holder.address.is_empty() => holder,
        [] | [_] => bail!("pairing: no daemon runs with the folder {}; start it first", state.display()),
        several => {
            bail!("pairing: {} daemons run with the folder {}; expected one; --state names another folder", several.len(), state.display())
        }
    };
    let role = match role {
        RoleArg::Look => "look",
        RoleArg::Operate => "operate",
        RoleArg::Administer => "administer",
    };
    let answer = ask(&holder.address, &token, "/api/v1/pairing", &serde_json::json!({ "role": role }).to_string())
        .with_context(|| format!("asking the daemon at {}", holder.address))?;
    let pairing: Pairing = match serde_json::from_str(&answer) {
        Ok(pairing) => pairing,
        Err(_) => match serde_json::from_str::<Problem>(&answer) {
            Ok(problem) => bail!("pairing: {}", problem.error),
            Err(error) => return Err(error).with_context(|| format!("reading the answer of the daemon at {}", holder.address)),
        },
    };
    if json {
        text::print_json(&pairing)?;
    } else {
        say!("{}", pairing.code);
        note!("type these digits on the other device within {} s; it may then {role}", pairing.seconds_left);
    }
    Ok(Done::Ok)
}

/// The body of the answer to a POST.
fn ask(address: &str, token: &str, path: &str, body: &str) -> anyhow::Result<String> {
    let mut tcp = TcpStream::connect_timeout(&address.parse()?, ANSWERS_WITHIN)?;
    tcp.set_read_timeout(Some(ANSWERS_WITHIN))?;
    tcp.set_write_timeout(Some(ANSWERS_WITHIN))?;
    write!(
        tcp,
        "POST {path} HTTP/1.1\r\nHost: {address}\r\nAuthorization: Bearer {token}\r\nContent-Type: application/json\r\nContent-Length: {}\r\n\r\n{body}",
        body.len()
    )?;
    let mut answer = String::new();
    tcp.take(1 << 20).read_to_string(&mut answer)?;
    let (_, body) = answer.split_once("\r\n\r\n").context("found no HTTP answer")?;
    Ok(body.to_owned())
}

/// Who the daemon is to run as.
fn user(given: Option<&str>) -> anyhow::Result<install::User> {
    let called = |name: &str| std::env::var(name).ok().filter(|name| !name.is_empty() && name != "root");
    let name = given.map(str::to_owned).or_else(|| called("SUDO_USER")).or_else(|| called("USER"));
    let name = name.ok_or_else(|| Misuse("installing: expected --user NAME, whom the daemon runs as".to_owned()))?;
    let users = std::fs::read_to_string("/etc/passwd").context("reading /etc/passwd")?;
    let line = users.lines().map(|line| line.split(':').collect::<Vec<_>>()).find(|fields| fields.first() == Some(&&*name));
    match line.as_deref() {
        Some([_, _, _, _, _, home, ..]) => Ok(install::User { name, home: home.into() }),
        _ => bail!("installing: this machine has no user {name}"),
    }
}

fn write_pieces(args: &InstallArgs) -> anyhow::Result<Done> {
    let line = ["sinew", "daemon"].into_iter().map(str::to_owned).chain(args.options.iter().cloned());
    let matches =
        args::command().try_get_matches_from(line).map_err(|error| Misuse(error.to_string().trim_start_matches("error: ").to_owned()))?;
    match Cli::from_arg_matches(&matches)?.command {
        Some(Command::Daemon(daemon)) if daemon.command.is_none() && daemon.state.is_none() => {}
        _ => return Err(Misuse("expected options of the daemon behind --, without --state, which is /var/lib/sinew".to_owned()).into()),
    }
    if let Some(word) = args.options.iter().find(|word| !install::is_one_line(word)) {
        let why =
            format!("installing: the option {word:?} has a line break or another control character, which no unit of systemd can hold");
        return Err(Misuse(why).into());
    }
    let program = std::env::current_exe().context("finding this program")?;
    let user = user(args.user.as_deref())?;
    for (what, path) in [("this program", &program), ("the user's home", &user.home)] {
        let is_fit = path.to_str().is_some_and(install::is_one_line);
        anyhow::ensure!(is_fit, "installing: {what} is at {}, expected a path in UTF-8 without control characters", path.display());
    }
    let pieces = install::pieces(&program, &user, &args.options, UDEV_RULES);
    for piece in &pieces {
        say!("── {}\n{}", args.image.join(&piece.path).display(), piece.text);
    }
    if args.dry_run {
        return Ok(Done::Ok);
    }
    for piece in &pieces {
        let path = args.image.join(&piece.path);
        let is_ours = install::is_ours(&path).with_context(|| format!("reading {}", path.display()))?;
        anyhow::ensure!(is_ours, "installing: {} is there, and this command did not write it; move it away first", path.display());
    }
    if !args.yes {
        let watch = Watch::start()?;
        match watch.ask(&format!("write these {} files?", pieces.len()), "--yes answers")? {
            Answer::Yes => {}
            Answer::No => {
                note!("nothing was written");
                return Ok(Done::Ok);
            }
            Answer::Interrupted => return Ok(watch.ended()),
        }
    }
    for piece in &pieces {
        let path = args.image.join(&piece.path);
        let write = || {
            path.parent().map_or(Ok(()), std::fs::create_dir_all)?;
            whole::write(&path, piece.text.as_bytes(), Readers::Usual)
        };
        write().with_context(|| format!("writing {}", path.display()))?;
    }
    say!(
        "next\nsudo udevadm control --reload && sudo udevadm trigger\nsudo systemctl daemon-reload\nsudo systemctl enable --now sinew-daemon\nsudo sinew daemon token --state /var/lib/sinew"
    );
    Ok(Done::Ok)
}
