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
    let _token = session.liveliness().declare_token("sinew/v1/hung/alive/1").wait().unwrap();
    let odd = session.declare_queryable("sinew/v1/odd/rpc/stop");
    let _odd = odd.callback(|query| drop(query.reply("sinew/v1/odd/rpc/stop", "{\"halt\":1}").wait())).wait().unwrap();
    let _token = session.liveliness().declare_token("sinew/v1/odd/alive/1").wait().unwrap();
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

/// A session of somebody else at the place.
fn session(there: &FleetPlace) -> zenoh::Session {
    let FleetPlace::At(address) = there else { panic!("{there}") };
    let mut config = zenoh::Config::default();
    for (key, value) in
        [("mode", "\"client\""), ("scouting/multicast/enabled", "false"), ("connect/endpoints", &*format!("[\"{address}\"]"))]
    {
        config.insert_json5(key, value).unwrap();
    }
    zenoh::open(config).wait().unwrap()
}

fn sees(told: &Told) -> bool {
    told.lock().unwrap().last().is_some_and(|line| line.contains("sees this robot"))
}

#[test]
fn of_two_who_come_at_once_under_one_name_one_stays() {
    let (here, there) = meeting();
    let (_place, _) = join(&here, "place", &served(10));
    until("nobody listens", || FleetView::open(there.clone()).is_ok());
    let (one, two) = (served(10), served(10));
    for _ in 0..5 {
        let both = std::thread::scope(|scope| {
            let joins = [&one, &two].map(|served| scope.spawn(|| join(&there, "twin", served)));
            joins.map(|joining| joining.join().unwrap())
        });
        until("one of them is there", || both.iter().any(|(_, told)| sees(told)));
        until("the other is told", || both.iter().filter(|(_, told)| !sees(told) && !told.lock().unwrap().is_empty()).count() == 1);
        std::thread::sleep(Duration::from_millis(1500));
        assert_eq!(both.iter().filter(|(_, told)| sees(told)).count(), 1, "{:?}", both.map(|(_, told)| told));
        let out = both.iter().find(|(_, told)| !sees(told)).unwrap();
        assert!(out.1.lock().unwrap().last().unwrap().contains("another robot there is called twin"), "{:?}", out.1);
        let [first, second] = both;
        let (staying, waiting) = if sees(&first.1) { (first, second) } else { (second, first) };
        // The name is free when the other leaves.
        drop(staying);
        until("it is its own now", || sees(&waiting.1));
    }
}

#[test]
fn a_twin_that_hangs_is_counted_and_keeps_a_stop_from_being_confirmed() {
    let (here, there) = meeting();
    let kitchen = served(10);
    let (_fleet, told) = join(&here, "twin", &kitchen);
    until("it is there", || sees(&told));
    // A second one is taken as any would be whose router was cut off meanwhile, and answers nothing.
    let session = session(&there);
    let held: Arc<Mutex<Vec<zenoh::query::Query>>> = Arc::default();
    let hold = held.clone();
    let _hung = session.declare_queryable("sinew/v1/twin/rpc/stop").callback(move |query| hold.lock().unwrap().push(query)).wait().unwrap();
    let _token = session.liveliness().declare_token("sinew/v1/twin/alive/zzzz").wait().unwrap();
    let view = FleetView::open(there).unwrap();
    until("it is seen", || view.robots(WITHIN).unwrap().contains_key("twin"));
    let found = view.robots(WITHIN).unwrap().remove("twin").unwrap();
    assert!(format!("{found:?}").contains("alive: 2"), "{found:?}");
    for names in [vec![name("twin")], vec![]] {
        let stopped = view.stop(&names, StopWish::Now, Duration::from_secs(2)).unwrap();
        assert!(!matches!(stopped["twin"], Stopped::Confirmed(_)), "{stopped:?}");
    }
    assert!(stops(&kitchen).len() > 1 && held.lock().unwrap().len() > 2, "both are asked again");
    held.lock().unwrap().clear();
}

#[test]
fn one_that_hangs_for_a_moment_is_asked_again() {
    let (here, there) = meeting();
    let (_place, told) = join(&here, "place", &served(10));
    until("it is there", || sees(&told));
    let session = session(&there);
    // It answers from the second time on, and zenoh says of the first that the time ran out.
    let asked = Arc::new(std::sync::atomic::AtomicU64::new(0));
    let (count, held) = (asked.clone(), Mutex::new(Vec::new()));
    let slow = session.declare_queryable("sinew/v1/slow/rpc/stop").callback(move |query| {
        if count.fetch_add(1, std::sync::atomic::Ordering::SeqCst) == 0 {
            held.lock().unwrap().push(query);
        } else {
            query.reply("sinew/v1/slow/rpc/stop", "{\"stop\": \"now\", \"was\": \"idle\"}").wait().unwrap();
        }
    });
    let _slow = slow.wait().unwrap();
    let _token = session.liveliness().declare_token("sinew/v1/slow/alive/1").wait().unwrap();
    let view = FleetView::open(there).unwrap();
    let stopped = view.stop(&[name("slow")], StopWish::Now, Duration::from_secs(5)).unwrap();
    assert!(matches!(stopped["slow"], Stopped::Confirmed(_)) && asked.load(std::sync::atomic::Ordering::SeqCst) == 2, "{stopped:?}");
}

/// A file of zenoh's configuration for somebody with certificates of the tests.
fn secured(folder: &Path, port: u16, root: &str, own: &str) -> FleetPlace {
    let golden = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/golden/tls");
    let key = own_key(&golden.join(format!("{own}.key")), folder);
    let tls = serde_json::json!({
        "root_ca_certificate": golden.join(root), "enable_mtls": true,
        "connect_certificate": golden.join(format!("{own}.pem")), "connect_private_key": key,
    });
    let config = serde_json::json!({
        "mode": "client", "connect": {"endpoints": [format!("tls/127.0.0.1:{port}")]}, "transport": {"link": {"tls": tls}},
    });
    let path = folder.join(format!("{root}-{own}.json5"));
    std::fs::write(&path, config.to_string()).unwrap();
    path.to_str().unwrap().parse().unwrap()
}

/// A router with certificates of the tests, of which zenoh itself takes any.
fn router_with(own: &str, port: u16) -> zenoh::Session {
    let golden = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/golden/tls");
    let tls = serde_json::json!({
        "root_ca_certificate": golden.join("ca.pem"), "enable_mtls": true,
        "listen_certificate": golden.join(format!("{own}.pem")), "listen_private_key": golden.join(format!("{own}.key")),
    });
    let mut config = zenoh::Config::default();
    for (key, value) in [
        ("mode", "\"router\"".to_owned()),
        ("listen/endpoints", format!("[\"tls/127.0.0.1:{port}\"]")),
        ("scouting/multicast/enabled", "false".into()),
        ("transport/link/tls", tls.to_string()),
    ] {
        config.insert_json5(key, &value).unwrap();
    }
    zenoh::open(config).wait().unwrap()
}

#[test]
fn what_is_wrong_with_certificates_of_a_fleet_is_told() {
    let (folder, port) = (tempfile::tempdir().unwrap(), port());
    let router = router_with("server", port);
    let error = |root: &str, own: &str| FleetView::open(secured(folder.path(), port, root, own)).err().map(|error| error.to_string());
    assert_eq!(error("ca.pem", "client"), None);
    for (root, own, why) in [
        ("ca.pem", "client_old", "client_old.pem: it ran out on Jan"),
        ("ca.pem", "client_new", "client_new.pem: it is valid from Jan"),
        ("ca.pem", "client_of_other_ca", "the server trusts no one who signed connect_certificate"),
        ("other_ca.pem", "client", "signed by none that is trusted here"),
        ("none.pem", "client", "none.pem: No such file"),
    ] {
        let told = error(root, own).unwrap_or_default();
        assert!(told.contains(why), "expected {why:?}: {told}");
    }
    // A robot is told the same, and tries again.
    let kitchen = served(10);
    let (_fleet, told) = join(&secured(folder.path(), port, "other_ca.pem", "client"), "kitchen-1", &kitchen);
    until("it is told", || told.lock().unwrap().iter().any(|line| line.contains("signed by none that is trusted here")));
    // Once, though this machine's clock is in it.
    let (_fleet, told) = join(&secured(folder.path(), port, "ca.pem", "client_old"), "kitchen-2", &kitchen);
    std::thread::sleep(Duration::from_secs(5));
    assert!(told.lock().unwrap().len() == 1 && told.lock().unwrap()[0].contains("client_old.pem: it ran out on Jan"), "{told:?}");
    router.close().wait().unwrap();
    for (own, why) in [
        ("server_old", "the server's certificate ran out"),
        ("client_new", "the server's certificate is not valid yet"),
        ("server_of_other_name", "the server's certificate is not accepted"),
    ] {
        let router = router_with(own, port);
        let told = error("ca.pem", "client").unwrap_or_default();
        assert!(told.contains(why), "expected {why:?}: {told}");
        router.close().wait().unwrap();
    }
}

/// A copy of a key that its owner alone can read: as the files of a checkout others could.
fn own_key(from: &Path, folder: &Path) -> PathBuf {
    use std::os::unix::fs::PermissionsExt as _;
    let key = folder.join(from.file_name().unwrap());
    std::fs::copy(from, &key).unwrap();
    std::fs::set_permissions(&key, std::fs::Permissions::from_mode(0o600)).unwrap();
    key
}

/// A file of docs/fleet, with the certificates of the tests and the port.
fn example(file: &str, who: &str, port: u16, folder: &Path) -> PathBuf {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let golden = root.join("tests/golden/fleet");
    let key = own_key(&golden.join(format!("{who}.key")), folder);
    let text = std::fs::read_to_string(root.join("../../docs/fleet").join(file)).unwrap();
    let text = text.replace("/anna.", &format!("/{who}.")).replace("/kitchen-1.", &format!("/{who}."));
    let text = text.replace(&format!("/etc/sinew/fleet/{who}.key"), key.to_str().unwrap());
    let text = text.replace("/etc/sinew/fleet", golden.to_str().unwrap());
    let text = text.replace("0.0.0.0:7447", &format!("127.0.0.1:{port}")).replace("router.local:7447", &format!("localhost:{port}"));
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
    // With the certificate of kitchen-1 nobody is kitchen-2, and is told so.
    let (_false, told) = join(&robot, "kitchen-2", &kitchen);
    until("it is told", || !told.lock().unwrap().is_empty());
    let line = told.lock().unwrap()[0].clone();
    assert!(line.contains("does not see this robot as kitchen-2") && line.contains("sinew/v1/kitchen-2/**"), "{line}");
    assert!(!anna.robots(WITHIN).unwrap().contains_key("kitchen-2"), "{told:?}");
    // Without a certificate nobody is let in.
    let bare = std::fs::read_to_string(file("operator.json5", "anna")).unwrap();
    let bare: String = bare.lines().filter(|line| !line.contains("connect_")).map(|line| format!("{line}\n")).collect();
    let path = folder.path().join("bare.json5");
    std::fs::write(&path, bare).unwrap();
    let refused = FleetView::open(place(path)).and_then(|view| view.robots(WITHIN)).map_or(0, |robots| robots.len());
    assert_eq!(refused, 0);
}
