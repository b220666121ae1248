//! Both sides of LeRobot's protocol for LeKiwi, for `scripts/check_lekiwi_with_lerobot.sh`.
//!
//! ```text
//! lekiwi_network host COMMAND_PORT OBSERVATION_PORT SECONDS [TOKEN]     # over a robot that is not there, with a camera of 64x48
//! lekiwi_network client COMMAND_PORT OBSERVATION_PORT SECONDS           # drives what a host at 127.0.0.1 has
//! ```
//!
//! Without TOKEN the host serves LeRobot's clients.

#![allow(clippy::print_stdout, clippy::unwrap_used, reason = "an example says what it does, and shares what tests share")]

#[path = "../tests/common/mod.rs"]
mod common;
#[path = "../tests/network/mod.rs"]
mod network;

use std::error::Error;
use std::f64::consts::TAU;
use std::net::{IpAddr, Ipv4Addr};
use std::sync::Arc;
use std::time::Duration;

use common::RealClock;
use network::lekiwi::{Playing, decode, encode, with_camera};
use network::tick;
use sinew_core::{Armed, Cameras, Clock, Observation, Robot, Timestamp, Unwatched, Wanted};
use sinew_drivers::{LeKiwiCameras, LeKiwiClient, LeKiwiClientOptions, LeKiwiHost, LeKiwiHostOptions};

const PERIOD: Duration = Duration::from_nanos(33_333_333);

fn main() -> Result<(), Box<dyn Error>> {
    let args: Vec<String> = std::env::args().skip(1).collect();
    let (side, rest) = args.split_first().ok_or("say host or client")?;
    let [command_port, observation_port, seconds, token @ ..] = rest else { return Err("say two ports and for how long".into()) };
    let (command_port, observation_port) = (command_port.parse()?, observation_port.parse()?);
    let clock = RealClock::new();
    let end = clock.now() + Duration::from_secs_f64(seconds.parse()?);
    match side.as_str() {
        "host" => {
            let token = token.first().cloned();
            let lerobot_clients = token.is_none();
            let bind = lerobot_clients.then_some(IpAddr::V4(Ipv4Addr::LOCALHOST));
            let options =
                LeKiwiHostOptions { bind, command_port, observation_port, token, lerobot_clients, ..LeKiwiHostOptions::default() };
            let robot = with_camera(64, 48);
            let host = LeKiwiHost::open(Arc::new(robot.clone()), &options, clock.clone())?;
            let playing = Playing::start(&host, robot, &clock, Some(Box::new(encode)));
            println!("listening");
            while clock.now() < end {
                let goals = playing.goals();
                println!("{:.3} pan {:.4} x {:.4} theta {:.4}", clock.now().as_secs_f64(), goals[0], goals[6], goals[8]);
                clock.sleep_until(clock.now() + Duration::from_millis(50));
            }
            println!("{:?}", host.counts());
        }
        "client" => {
            let options =
                LeKiwiClientOptions { command_port, observation_port, within: Duration::from_secs(20), ..LeKiwiClientOptions::default() };
            let robot = Arc::new(with_camera(64, 48));
            let (mut client, cameras) = LeKiwiClient::connect(robot, "127.0.0.1", &options, Some(Box::new(decode)), clock.clone())?;
            let mut cameras = cameras.ok_or("there are no cameras")?;
            println!("{:6.2} s  connected; it has been told nothing", clock.now().as_secs_f64());
            let mut observation = Observation::for_robot(client.description());
            while clock.now() < end {
                if let Err(error) = drive(&mut client, &mut cameras, &clock, end, &mut observation) {
                    println!("{:6.2} s  the drive ended: {error}", clock.now().as_secs_f64());
                    while client.finish_read(&tick(clock.as_ref(), 0, PERIOD), clock.now(), &mut observation).is_err() && clock.now() < end
                    {
                        clock.sleep_until(clock.now() + PERIOD);
                    }
                    println!("{:6.2} s  the host is back", clock.now().as_secs_f64());
                    clock.sleep_until(clock.now() + Duration::from_millis(500));
                }
            }
            println!("{:6.2} s  {:?}", clock.now().as_secs_f64(), client.counts());
        }
        other => return Err(format!("say host or client, not {other}").into()),
    }
    Ok(())
}

/// Swings the arm about its foot and drives to and fro; an error ends it sooner.
fn drive(
    client: &mut LeKiwiClient,
    cameras: &mut LeKiwiCameras,
    clock: &RealClock,
    end: Timestamp,
    observation: &mut Observation,
) -> Result<(), Box<dyn Error>> {
    let description = client.description().clone();
    let mut armed = Armed::new(client, &Unwatched, clock, &tick(clock, 0, PERIOD), observation)?;
    println!("{:6.2} s  it is driven", clock.now().as_secs_f64());
    let begin = clock.now();
    let mut wanted = Wanted::for_robot(&description);
    wanted.goals.copy_from_slice(armed.commanded());
    let pan = wanted.goals[0];
    let (mut turn, mut failed, mut worst_pan, mut fastest, mut pictures) = (0_u32, 0, 0.0_f64, 0.0_f64, 0);
    let mut oldest = Duration::ZERO;
    while clock.now() < end {
        clock.sleep_until(begin + PERIOD * turn);
        turn += 1;
        let t = f64::from(turn) * PERIOD.as_secs_f64();
        wanted.goals[0] = pan + 0.2 * (TAU * t / 4.0).sin();
        wanted.goals[6] = 0.1 * (TAU * t / 4.0).sin();
        wanted.time = clock.now();
        failed += u32::from(armed.read(&tick(clock, turn.into(), PERIOD), observation).is_err());
        let before = observation.images[0].sequence;
        cameras.newest(&tick(clock, turn.into(), PERIOD), &mut observation.images)?;
        pictures += u32::from(observation.images[0].sequence != before);
        match armed.drive(Some(&wanted), observation, PERIOD.as_secs_f64()) {
            Ok(_) => {}
            Err(error) if error.is_transient() => failed += 1,
            Err(error) => {
                println!("{:6.2} s  {failed} calls failed in {turn} ticks", clock.now().as_secs_f64());
                return Err(error.into());
            }
        }
        if let (Some(at), true) = (observation.state.get(0), t > 2.0) {
            worst_pan = worst_pan.max((at - armed.commanded()[0]).abs());
        }
        fastest = fastest.max(observation.state.get(6).unwrap_or(0.0).abs());
        let time = observation.state.readings()[0].time.unwrap_or(begin);
        oldest = oldest.max(Duration::from_nanos(clock.now().nanos_since(time).unsigned_abs()));
    }
    println!(
        "{:6.2} s  {turn} ticks, {failed} calls failed, {pictures} new pictures; no value was older than {oldest:?}",
        clock.now().as_secs_f64()
    );
    println!("          the arm was at most {worst_pan:.4} rad from what was commanded last; the base went up to {fastest:.4} m/s");
    armed.disarm()?;
    println!("{:6.2} s  stopped", clock.now().as_secs_f64());
    Ok(())
}
