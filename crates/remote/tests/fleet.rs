//! A fleet over loopback: robots are found, watched and stopped, by those who may.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "what fails here fails the test")]

mod robot;

use std::net::TcpListener;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use robot::{Served, served};
use sinew_core::service::{Mode, StopWish};
use sinew_remote::{Event, Fleet, FleetPlace, FleetView, RobotName, Seen, StopAnswer, Stopped};
use zenoh::Wait as _;

const WITHIN: Duration = Duration::from_secs(1);

fn port() -> u16 {
    TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port()
}

fn name(text: &str) -> RobotName {
    text.parse().unwrap()
}

/// What a robot said about its place.
type Told = Arc<Mutex<Vec<String>>>;

fn join(place: &FleetPlace, called: &str, served: &Served) -> (Fleet, Told) {
    let told: Told = Arc::default();
    let heard = told.clone();
    let fleet =
        Fleet::join(place.clone(), name(called), served.daemon.as_ref().unwrap(), move |line| heard.lock().unwrap().push(line.into()));
    (fleet.unwrap(), told)
}

#[track_caller]
fn until(what: &str, mut is_so: impl FnMut() -> bool) {
    let begun = Instant::now();
    while !is_so() {
        assert!(begun.elapsed() < Duration::from_secs(10), "{what}");
        std::thread::sleep(Duration::from_millis(20));
    }
}

/// Where robots meet, and the way there.
fn meeting() -> (FleetPlace, FleetPlace) {
    let address = format!("tcp/127.0.0.1:{}", port());
    (format!("listen:{address}").parse().unwrap(), address.parse().unwrap())
}

fn stops(served: &Served) -> Vec<StopWish> {
    served.robot.stops.lock().unwrap().clone()
}

#[test]
fn robots_are_found_watched_and_stopped() {
    let (here, there) = meeting();
    let (kitchen, lab) = (served(900), served(900));
    let (fleet, _) = join(&here, "kitchen-1", &kitchen);
    until("nobody listens", || FleetView::open(there.clone()).is_ok());
    let (other, _) = join(&there, "lab", &lab);
    let view = FleetView::open(there.clone()).unwrap();
    until("both are there", || view.robots(WITHIN).unwrap().len() == 2);
    let robots = view.robots(WITHIN).unwrap();
    for robot in ["kitchen-1", "lab"] {
        let found = &robots[robot];
        assert_eq!((found.answers, &*found.info.as_ref().unwrap().name), (1, "fake"), "{robot}");
        assert_eq!(found.state.as_ref().unwrap().position, [Some(0.5)], "{robot}");
    }
    assert_eq!(view.ask(&name("lab"), "datasets", WITHIN).unwrap(), serde_json::json!([]));
    let error = view.ask(&name("lab"), "policies", WITHIN).unwrap_err().to_string();
    assert!(error.contains("lab answers: the daemon panicked"), "{error}");
    let error = view.ask(&name("nobody"), "state", WITHIN).unwrap_err().to_string();
    assert!(error.contains("nobody does not answer"), "{error}");

    // Ten states and five images a second, of the hundred that there are, newest only.
    let watching = view.watch(&name("kitchen-1"), true).unwrap();
    let (mut states, mut images, mut events, mut is_there) = (Vec::new(), 0, 0, false);
    let begun = Instant::now();
    while begun.elapsed() < Duration::from_secs(3) {
        match watching.next(Duration::from_millis(100)) {
            Some(Seen::State(state)) => states.push(state.sequence),
            Some(Seen::Image(camera, jpeg, about)) => {
                assert_eq!((&*camera, jpeg.len(), about["width"].as_u64()), ("front", 900, Some(8)));
                images += 1;
            }
            Some(Seen::Event(Event::Log(line))) => {
                assert_eq!(line.text, "a line");
                events += 1;
            }
            Some(Seen::Alive(alive)) => is_there = alive,
            Some(other) => panic!("{other:?}"),
            None => {}
        }
    }
    assert!(
        is_there && (20..=32).contains(&states.len()) && (9..=17).contains(&images) && events > 10,
        "{} {images} {events}",
        states.len()
    );
    assert!(states.windows(2).all(|pair| pair[0] < pair[1]), "{states:?}");
    let (encoded, unseen) =
        (kitchen.robot.encoded.load(std::sync::atomic::Ordering::SeqCst), lab.robot.encoded.load(std::sync::atomic::Ordering::SeqCst));
    assert!(encoded > 8 && unseen == 0, "an image of which nobody looks at is not made: {encoded} {unseen}");

    let stopped = view.stop(&[name("lab")], StopWish::Stop, WITHIN).unwrap();
    let confirmed = |stop| Stopped::Confirmed(StopAnswer { stop, was: Mode::Idle });
    assert_eq!((stopped.len(), &stopped["lab"]), (1, &confirmed(StopWish::Stop)));
    assert_eq!((stops(&kitchen), stops(&lab)), (vec![], vec![StopWish::Stop]));
    let stopped = view.stop(&[], StopWish::Emergency, WITHIN).unwrap();
    assert_eq!(stopped.len(), 2);
    assert!(stopped.values().all(|how| *how == confirmed(StopWish::Emergency)), "{stopped:?}");
    assert!(stops(&kitchen).contains(&StopWish::Emergency) && stops(&lab).contains(&StopWish::Emergency));
    // One that is not there is told, and does not keep the others waiting.
    let stopped = view.stop(&[name("lab"), name("gone")], StopWish::Now, WITHIN).unwrap();
    assert_eq!((&stopped["lab"], &stopped["gone"]), (&confirmed(StopWish::Now), &Stopped::Silent));

    drop(other);
    until("who leaves is seen to", || !view.robots(WITHIN).unwrap().contains_key("lab"));
    drop(fleet);
    until("it is seen to leave", || watching.next(WITHIN) == Some(Seen::Alive(false)));
}

#[test]
fn one_that_is_hung_or_has_another_version_is_told_and_a_name_is_had_once() {
    let (here, there) = meeting();
    let kitchen = served(10);
    let (_fleet, told) = join(&here, "kitchen-1", &kitchen);
    until("it listens", || told.lock().unwrap().iter().any(|line| line.contains("sees this robot as kitchen-1")));
    let (second, told) = join(&there, "kitchen-1", &kitchen);
    until("the name is had", || told.lock().unwrap().iter().any(|line| line.contains("another robot there is called kitchen-1")));
    assert_eq!(told.lock().unwrap().len(), 1, "it is told once, however often it is tried");
    drop(second);
    // Somebody who is alive and takes a query without ever answering it, and one who answers with nonsense.
    let mut config = zenoh::Config::default();
    let FleetPlace::At(address) = &there else { panic!() };
    for (key, value) in
        [("mode", "\"client\""), ("scouting/multicast/enabled", "false"), ("connect/endpoints", &*format!("[\"{address}\"]"))]
    {
        config.insert_json5(key, value).unwrap();
    }
    let session = zenoh::open(config).wait().unwrap();
    let held: Arc<Mutex<Vec<zenoh::query::Query>>> = Arc::default();
    let hold = held.clone();
    let _hung = session.declare_queryable("sinew/v1/hung/rpc/stop").callback(move |query| hold.lock().unwrap().push(query)).wait().unwrap();
    let _token = session.liveliness().declare_token("sinew/v1/hung/alive").wait().unwrap();
    let odd = session.declare_queryable("sinew/v1/odd/rpc/stop");
    let _odd = odd.callback(|query| drop(query.reply("sinew/v1/odd/rpc/stop", "{\"halt\":1}").wait())).wait().unwrap();
    let _token = session.liveliness().declare_token("sinew/v1/odd/alive").wait().unwrap();
    let view = FleetView::open(there.clone()).unwrap();
    until("all are there", || view.robots(WITHIN).unwrap().len() == 3);
    let begun = Instant::now();
    let stopped = view.stop(&[], StopWish::Now, Duration::from_secs(3)).unwrap();
    assert!(begun.elapsed() < Duration::from_secs(5), "{:?}", begun.elapsed());
    assert!(matches!(stopped["kitchen-1"], Stopped::Confirmed(_)), "{stopped:?}");
    assert_eq!((&stopped["hung"], &stopped["odd"]), (&Stopped::Silent, &Stopped::Refused("its answer is none".into())));
    assert!(held.lock().unwrap().len() > 1, "it is asked again");
    // A stop of another version is refused with words, and nothing is stopped by it.
    let before = stops(&kitchen).len();
    let answers = session.get("sinew/v1/kitchen-1/rpc/stop").payload("{\"stop\": \"now\", \"hard\": true}").wait().unwrap();
    let answer = answers.recv().unwrap().into_result().unwrap_err();
    assert!(String::from_utf8_lossy(&answer.payload().to_bytes()).starts_with("expected {\"stop\""));
    assert_eq!(stops(&kitchen).len(), before);
    held.lock().unwrap().clear();
}

#[test]
fn who_is_not_reached_is_tried_again_and_nobody_waits() {
    let address = format!("tcp/127.0.0.1:{}", port());
    let kitchen = served(10);
    let (fleet, told) = join(&address.parse().unwrap(), "kitchen-1", &kitchen);
    until("it is told", || !told.lock().unwrap().is_empty());
    assert!(told.lock().unwrap()[0].contains(&format!("meeting the fleet at {address}")), "{told:?}");
    // A robot that is the place comes later; the daemon answered all the time.
    assert_eq!(kitchen.ask("/api/v1/me").0, 200);
    let (_place, _) = join(&format!("listen:{address}").parse().unwrap(), "lab", &served(10));
    until("it is found", || told.lock().unwrap().iter().any(|line| line.contains("sees this robot")));
    let begun = Instant::now();
    drop(fleet);
    assert!(begun.elapsed() < Duration::from_secs(1));
}

/// A file of docs/fleet, with the certificates of the tests and the port.
fn example(file: &str, who: &str, port: u16, folder: &Path) -> PathBuf {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let text = std::fs::read_to_string(root.join("../../docs/fleet").join(file)).unwrap();
    let text = text.replace("/etc/sinew/fleet", root.join("tests/golden/fleet").to_str().unwrap());
    let text = text.replace("0.0.0.0:7447", &format!("127.0.0.1:{port}")).replace("router.local:7447", &format!("localhost:{port}"));
    let text = text.replace("/anna.", &format!("/{who}.")).replace("/kitchen-1.", &format!("/{who}."));
    let path = folder.join(format!("{who}-{file}"));
    std::fs::write(&path, text).unwrap();
    path
}

#[test]
fn the_examples_let_operators_stop_viewers_look_and_robots_speak_for_themselves() {
    let (folder, port) = (tempfile::tempdir().unwrap(), port());
    let file = |file: &str, who: &str| example(file, who, port, folder.path());
    let _router = zenoh::open(zenoh::Config::from_file(file("router.json5", "router")).unwrap()).wait().unwrap();
    let place = |path: PathBuf| path.to_str().unwrap().parse::<FleetPlace>().unwrap();
    let kitchen = served(10);
    let robot = place(file("robot.json5", "kitchen-1"));
    let (_fleet, told) = join(&robot, "kitchen-1", &kitchen);
    until("it is there", || told.lock().unwrap().iter().any(|line| line.contains("sees this robot")));
    let anna = FleetView::open(place(file("operator.json5", "anna"))).unwrap();
    until("she sees it", || anna.robots(WITHIN).unwrap().get("kitchen-1").is_some_and(|found| found.state.is_some()));
    // The screen on the wall sees the same, and may not stop.
    let wall = FleetView::open(place(file("operator.json5", "wall-screen"))).unwrap();
    assert!(wall.robots(WITHIN).unwrap()["kitchen-1"].info.is_some());
    let watching = wall.watch(&name("kitchen-1"), true).unwrap();
    until("it shows images", || matches!(watching.next(WITHIN), Some(Seen::Image(..))));
    assert_eq!(wall.stop(&[name("kitchen-1")], StopWish::Now, WITHIN).unwrap()["kitchen-1"], Stopped::Silent);
    assert_eq!(wall.stop(&[], StopWish::Now, WITHIN).unwrap()["kitchen-1"], Stopped::Silent);
    assert!(stops(&kitchen).is_empty());
    let stopped = anna.stop(&[], StopWish::Now, WITHIN).unwrap();
    assert!(matches!(stopped["kitchen-1"], Stopped::Confirmed(_)), "{stopped:?}");
    assert_eq!(stops(&kitchen), [StopWish::Now]);
    // With the certificate of kitchen-1 nobody is kitchen-2.
    let (_false, told) = join(&robot, "kitchen-2", &kitchen);
    std::thread::sleep(Duration::from_secs(2));
    assert!(!anna.robots(WITHIN).unwrap().contains_key("kitchen-2"), "{told:?}");
    // Without a certificate nobody is let in.
    let bare = std::fs::read_to_string(file("operator.json5", "anna")).unwrap();
    let bare: String = bare.lines().filter(|line| !line.contains("connect_")).map(|line| format!("{line}\n")).collect();
    let path = folder.path().join("bare.json5");
    std::fs::write(&path, bare).unwrap();
    let refused = FleetView::open(place(path)).and_then(|view| view.robots(WITHIN)).map_or(0, |robots| robots.len());
    assert_eq!(refused, 0);
}
