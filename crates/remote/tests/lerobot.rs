//! LeRobot's remote inference from the client's side, with a server that does what a server should not, and a network that goes dark.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "what fails here fails the test")]

mod asker;
mod deployment;
mod faulty;

use std::net::SocketAddr;
use std::sync::atomic::Ordering::SeqCst;
use std::time::{Duration, Instant};

use asker::{Allowed, Asker, keys, robot};
use deployment::{Deployment, Fault, Options, SEMANTICS};
use faulty::Network;
use sinew_core::{Continuation, Observation, Policy as _, Timestamp};
use sinew_remote::{Continues, LinkReport, RemoteError, RemoteOptions, RemotePolicy};

/// An answer is awaited so long.
const DEADLINE: Duration = Duration::from_millis(300);
const ALLOWED: Allowed = Allowed { late: Duration::from_millis(250), value: 1e-6, pause: Duration::from_millis(5) };

fn options(address: SocketAddr) -> RemoteOptions {
    RemoteOptions {
        deadline: Some(DEADLINE),
        semantics: Some(SEMANTICS.into()),
        ..RemoteOptions::new(format!("zenoh://{address}/pick").parse().unwrap())
    }
}

fn start() -> (Deployment, Asker) {
    let server = deployment::start(Options::default());
    let asker = Asker::new(&options(server.address), ALLOWED);
    (server, asker)
}

#[test]
fn questions_are_answered_and_counted() {
    let (server, mut asker) = start();
    for _ in 0..20 {
        asker.ask().unwrap();
    }
    let report = asker.report();
    // Two before, at rest.
    assert_eq!((report.requests, report.answers, report.errors, report.reconnects), (22, 20, 0, 0));
    assert_eq!((report.missed, report.late, report.repeated, report.refused), (0, 0, 0, 0));
    assert_eq!(report.server_ms.quantile(0.5), Some(3.0));
    assert!(report.bytes_sent > 22 * 6 * 8 * 3 && report.bytes_received > 22 * 4 * 2 * 4);
    println!("{:?} ms in all", report.total_ms.quantile(0.5));
    // The first instruction and another, for which the motion begins anew.
    let heard = server.heard.lock().unwrap().clone();
    assert_eq!((&*heard[0].task, &*heard[2].task, heard[0].generation, heard[2].generation), ("", "wave", 0, 1));
    assert_eq!((&*heard[0].encoding, heard[0].delay, &heard[0].model), ("raw", 0, &None));
    drop(asker);
    let began = Instant::now();
    while server.controls.lock().unwrap().last() != Some(&("close".into(), 1)) {
        assert!(began.elapsed() < Duration::from_secs(2), "{:?}", server.controls);
        std::thread::sleep(Duration::from_millis(5));
    }
    let controls = server.controls.lock().unwrap().clone();
    assert_eq!(controls, [("reset".into(), 0), ("invalidate".into(), 1), ("close".into(), 1)]);
}

#[test]
fn an_episode_begins_with_a_reset_in_a_new_generation() {
    let server = deployment::start(Options::default());
    let mut policy = RemotePolicy::connect(&options(server.address), &robot()).unwrap();
    policy.reset(7);
    let observation = Observation::for_robot(&robot());
    policy.infer(std::slice::from_ref(&observation), "").unwrap();
    policy.infer(&[observation], "").unwrap();
    assert_eq!(*server.controls.lock().unwrap(), [("reset".into(), 0), ("reset".into(), 1)]);
    assert_eq!(server.heard.lock().unwrap().iter().map(|heard| heard.generation).collect::<Vec<_>>(), [0, 0, 1, 1]);
}

/// What a fault is counted as.
type Counted = fn(&LinkReport) -> u64;

#[test]
fn what_is_no_answer_to_the_question_never_is_one() {
    let (server, mut asker) = start();
    let refused: Counted = |report| report.refused;
    for (fault, counted) in [
        (Fault::OtherInstance, refused),
        (Fault::OtherSession, refused),
        (Fault::OtherGeneration, refused),
        (Fault::OtherRequest, |report| report.late),
        (Fault::OtherObservation, refused),
        (Fault::NoMsgpack, refused),
        (Fault::NoEnvelope, refused),
        (Fault::OtherVersion, refused),
        (Fault::NotANumber, refused),
        (Fault::Wide, refused),
        (Fault::Short, refused),
        (Fault::Doubles, refused),
        (Fault::NoActions, refused),
        (Fault::Hang, |report| report.missed),
        (Fault::Failure, |report| report.errors),
        (Fault::Stale, |report| report.errors),
        (Fault::Closes, |report| report.reconnects),
        (Fault::Huge, |report| report.missed),
    ] {
        let before = counted(&asker.report());
        server.does(fault);
        let why = asker.ask().expect_err(&format!("{fault:?}"));
        server.does(Fault::None);
        let back = asker.is_back_within(Duration::from_secs(4));
        println!("{fault:?}: {why}; back after {back:?}");
        assert!(counted(&asker.report()) > before, "{fault:?}: {:?}", asker.report());
        asker.ask().unwrap();
    }
}

#[test]
fn late_and_repeated_answers_are_none() {
    let (server, mut asker) = start();
    server.does(Fault::Late(450));
    asker.ask().expect_err("too late");
    server.does(Fault::None);
    asker.is_back_within(Duration::from_secs(1));
    assert_eq!((asker.report().late, asker.report().missed, asker.report().reconnects), (1, 1, 0));
    server.does(Fault::Twice);
    for _ in 0..5 {
        asker.ask().unwrap();
    }
    server.does(Fault::None);
    asker.ask().unwrap();
    assert_eq!((asker.report().repeated, asker.report().reconnects), (5, 0));
    // So many that they don't fit: the session is made anew.
    server.does(Fault::Flood);
    drop(asker.ask());
    server.does(Fault::None);
    let began = Instant::now();
    while asker.report().reconnects == 0 {
        drop(asker.ask());
        assert!(began.elapsed() < Duration::from_secs(4), "{:?}", asker.report());
        std::thread::sleep(Duration::from_millis(20));
    }
    asker.is_back_within(Duration::from_secs(2));
}

#[test]
fn a_slow_server_is_waited_for_and_not_left() {
    let (server, mut asker) = start();
    server.does(Fault::Late(600));
    let began = Instant::now();
    let mut told = 0;
    while began.elapsed() < Duration::from_secs(3) {
        asker.ask().expect_err("too late each time");
        told += 1;
    }
    assert!(told > 10, "{told}: who asks is told soon");
    server.does(Fault::None);
    asker.is_back_within(Duration::from_secs(2));
    assert_eq!(asker.report().reconnects, 0, "{:?}", asker.report().last_error);
}

#[test]
fn a_server_that_is_gone_and_back_is_used_again() {
    let (server, mut asker) = start();
    asker.ask().unwrap();
    let port = server.address.port();
    server.end();
    let gone = Instant::now();
    while gone.elapsed() < Duration::from_secs(2) {
        asker.ask().expect_err("nobody is there");
    }
    let server = deployment::start_at(port, Options::default());
    let back = asker.is_back_within(Duration::from_secs(3));
    println!("back after {back:?}");
    assert_eq!((server.sessions.load(SeqCst), asker.report().reconnects), (1, 1));
    server.end();
    let server = deployment::start_at(port, Options { artifact: "team/policy@2".into(), ..Options::default() });
    let began = Instant::now();
    while began.elapsed() < Duration::from_secs(3) {
        asker.ask().expect_err("another policy");
    }
    let error = asker.report().last_error.unwrap();
    assert!(error.contains("there is another policy now than at first"), "{error}");
    assert_eq!(server.sessions.load(SeqCst), 0);
}

#[test]
fn a_black_out_of_five_seconds_is_over_two_seconds_later() {
    let server = deployment::start(Options::default());
    let network = Network::before(server.address);
    let mut asker = Asker::new(&options(network.address), ALLOWED);
    asker.ask().unwrap();
    network.switch().store(true, SeqCst);
    let dark = Instant::now();
    let mut refused = 0;
    while dark.elapsed() < Duration::from_secs(5) {
        asker.ask().expect_err("in the dark");
        refused += 1;
    }
    assert!(refused > 20, "{refused}: who asks is told soon, not only at the deadline");
    network.switch().store(false, SeqCst);
    let back = asker.is_back_within(Duration::from_secs(2));
    println!("back after {back:?}");
    asker.ask().unwrap();
    assert_eq!(server.sessions.load(SeqCst), 1, "the same session, in a new generation");
    // The server misses the connection of before, and not the client.
    let began = Instant::now();
    while began.elapsed() < Duration::from_secs(12) {
        std::thread::sleep(Duration::from_millis(200));
        asker.is_back_within(Duration::from_secs(2));
    }
}

#[test]
fn a_second_client_waits_for_the_first() {
    let (server, asker) = start();
    let error = RemotePolicy::connect(&options(server.address), &robot()).unwrap_err().to_string();
    assert!(error.contains("the server has another client: somebody has it"), "{error}");
    let address = server.address;
    let second = std::thread::spawn(move || RemotePolicy::connect(&options(address), &robot()).map(|_| ()));
    std::thread::sleep(Duration::from_millis(300));
    drop(asker);
    second.join().unwrap().unwrap();
}

#[test]
fn both_sides_are_compared_before_anything_is_opened() {
    let mismatch = |change: Options, ask: fn(RemoteOptions) -> RemoteOptions| {
        let server = deployment::start(change);
        let error = RemotePolicy::connect(&ask(options(server.address)), &robot()).unwrap_err();
        assert_eq!(server.sessions.load(SeqCst), 0);
        let RemoteError::Mismatch { fit, .. } = error else { panic!("{error}") };
        fit.rows.into_iter().filter(|row| !row.fits).map(|row| row.what).collect::<Vec<_>>()
    };
    let same = |options| options;
    let unsaid = |options| RemoteOptions { semantics: None, ..options };
    assert_eq!(mismatch(Options::default(), unsaid), ["semantics"]);
    assert_eq!(mismatch(Options { semantics: "radians".into(), ..Options::default() }, same), ["semantics"]);
    assert_eq!(mismatch(Options { state_names: vec!["elbow.pos", "shoulder.pos"], ..Options::default() }, same), ["observation.state"]);
    assert_eq!(mismatch(Options { modes: vec!["rtc_guided"], ..Options::default() }, same), ["mode"]);
    let continues = |options| RemoteOptions { continues: Some(Continues::Trained), ..options };
    assert_eq!(mismatch(Options { modes: vec!["chunk", "rtc_guided"], ..Options::default() }, continues), ["mode"]);
    // What `sinew serve` says of itself is known.
    let server = deployment::start(Options { semantics: sinew_remote::SEMANTICS.into(), ..Options::default() });
    let policy = RemotePolicy::connect(&unsaid(options(server.address)), &robot()).unwrap();
    assert!(policy.fit().is_fit() && !policy.can_continue() && policy.info().n_action_steps == 4);
}

#[test]
fn images_are_jpegs_where_the_key_map_says_a_quality() {
    let server = deployment::start(Options::default());
    let map = keys(
        "units = \"lerobot\"\n[[image]]\nkey = \"observation.images.front\"\ncamera = \"front\"\nquality = 80\n[[state]]\nkey = \"observation.state\"\n",
    );
    RemotePolicy::connect(&RemoteOptions { keys: Some(map), ..options(server.address) }, &robot()).unwrap();
    assert_eq!(server.heard.lock().unwrap()[0].encoding, "jpeg");
}

#[test]
fn an_answer_follows_the_one_that_is_being_executed() {
    for (continues, mode, most) in [(Continues::Guided, "rtc_guided", None), (Continues::Trained, "rtc_trained", Some(2))] {
        let server =
            deployment::start(Options { modes: vec!["chunk", mode], training_max_delay: 2, model_width: Some(3), ..Options::default() });
        let options = RemoteOptions { continues: Some(continues), ..options(server.address) };
        let mut policy = RemotePolicy::connect(&options, &robot()).unwrap();
        assert_eq!((policy.can_continue(), policy.most_delay_rows(), policy.info().chunk_size), (true, most, 6));
        policy.reset(1);
        let mut ask = |state: f64, continuing: Option<Continuation>| {
            let mut observation = Observation::for_robot(&robot());
            observation.state.set(0, state, Timestamp::ZERO);
            let chunk = match continuing {
                None => policy.infer(&[observation], "wave"),
                Some(continuing) => policy.infer_continuing(&[observation], "wave", continuing),
            };
            assert_eq!(chunk.unwrap().len(), 6);
        };
        let follow = |rows_left, delay_rows, newest_is_unused| Some(Continuation { rows_left, delay_rows, newest_is_unused });
        ask(0.1, None);
        ask(0.2, follow(4, 1, false));
        // The second came too late: the first is still being executed.
        ask(0.3, follow(2, 2, true));
        ask(0.4, follow(9, 0, false));
        ask(0.5, follow(0, 0, false));
        let heard: Vec<_> = server.heard.lock().unwrap().drain(..).skip(2).collect();
        let first = |of: &Option<(Vec<usize>, Vec<f64>)>| of.as_ref().map(|(shape, values)| (shape.clone(), values[0]));
        let about =
            |of: &Option<(Vec<usize>, Vec<f64>)>| first(of).map(|(shape, value)| (shape, (value.to_radians() * 10.0).round() as i64));
        assert_eq!((first(&heard[0].model), first(&heard[0].canonical), heard[0].delay), (None, None, 0));
        assert_eq!((first(&heard[1].model), heard[1].delay), (Some((vec![4, 3], 20.0)), 1));
        assert_eq!(about(&heard[1].canonical), Some((vec![4, 2], 1)));
        assert_eq!((first(&heard[2].model), heard[2].delay), (Some((vec![2, 3], 40.0)), 2));
        assert_eq!(about(&heard[2].canonical), Some((vec![2, 2], 1)));
        assert_eq!((first(&heard[3].model), about(&heard[3].canonical)), (Some((vec![6, 3], 0.0)), Some((vec![6, 2], 3))));
        assert_eq!((first(&heard[4].model), heard[4].delay), (None, 0));
    }
}

#[test]
fn where_nobody_listens_the_address_is_named() {
    let port = deployment::free_port();
    let began = Instant::now();
    let error = RemotePolicy::connect(&options(([127, 0, 0, 1], port).into()), &robot()).unwrap_err().to_string();
    assert!(error.starts_with(&format!("connecting to zenoh://127.0.0.1:{port}/pick: ")), "{error}");
    assert!(began.elapsed() < Duration::from_secs(12), "{:?}", began.elapsed());
    let server = deployment::start(Options::default());
    let other = format!("zenoh://{}/place", server.address).parse().unwrap();
    let error = RemotePolicy::connect(&RemoteOptions::new(other), &robot()).unwrap_err().to_string();
    assert!(error.contains("nobody is there to answer lerobot/inference/v1/deployments/place/describe"), "{error}");
}
