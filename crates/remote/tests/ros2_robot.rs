//! A daemon's robot as a node of ROS 2, seen through zenoh as another node would see it.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "what fails here fails the test")]

mod robot;

use std::net::TcpListener;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use robot::{Served, heard, served, tell};
use serde_json::json;
use sinew_remote::FleetPlace;
use sinew_remote::ros2::{
    Attachment, CompressedImage, JointState, JointTrajectory, JointTrajectoryPoint, Message, Quality, Ros2, Ros2Options, Side, Stamp, Topic,
};
use zenoh::{Session, Wait as _};

const DOMAIN: u32 = 3;

#[track_caller]
fn until(what: &str, mut is_so: impl FnMut() -> bool) {
    let begun = Instant::now();
    while !is_so() {
        assert!(begun.elapsed() < Duration::from_secs(10), "{what}");
        std::thread::sleep(Duration::from_millis(10));
    }
}

/// A node around `served`, and a session of somebody else.
fn node(served: &Served, takes_commands: bool) -> (Ros2, Session, Arc<Mutex<Vec<String>>>) {
    let address = format!("tcp/{}", TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap());
    let place: FleetPlace = format!("listen:{address}").parse().unwrap();
    let told: Arc<Mutex<Vec<String>>> = Arc::default();
    let heard = told.clone();
    let options = Ros2Options { place, domain: DOMAIN, robot: "arm-1".parse().unwrap(), takes_commands };
    let ros2 = Ros2::join(options, served.daemon.as_ref().unwrap(), move |line| heard.lock().unwrap().push(line.into())).unwrap();
    until("it is there", || told.lock().unwrap().iter().any(|line| line.contains("domain 3, as /arm_1")));
    let mut config = zenoh::Config::default();
    for (key, value) in
        [("mode", "\"client\""), ("scouting/multicast/enabled", "false"), ("connect/endpoints", &*format!("[\"{address}\"]"))]
    {
        config.insert_json5(key, value).unwrap();
    }
    (ros2, zenoh::open(config).wait().unwrap(), told)
}

fn tokens(session: &Session) -> Vec<String> {
    let tokens = session.liveliness().get(format!("@ros2_lv/{DOMAIN}/**")).wait().unwrap();
    tokens.iter().map(|reply| reply.into_result().unwrap().key_expr().to_string()).collect()
}

fn trajectory(points: &[(u32, f64)]) -> Vec<u8> {
    let point = |(ms, position): &(u32, f64)| JointTrajectoryPoint {
        positions: vec![*position],
        time_from_start: Stamp { sec: i32::try_from(ms / 1000).unwrap(), nanosec: ms % 1000 * 1_000_000 },
        ..JointTrajectoryPoint::default()
    };
    let message =
        JointTrajectory { joint_names: vec!["a".into()], points: points.iter().map(point).collect(), ..JointTrajectory::default() };
    message.to_cdr().unwrap()
}

#[test]
fn joints_and_images_come_as_from_a_node() {
    let served = served(900);
    let (ros2, session, _) = node(&served, false);
    let joints = Topic::parse("/arm_1/joint_states").unwrap();
    let found = tokens(&session);
    assert_eq!(found.len(), 3, "without commands it listens to nobody: {found:?}");
    let zid = found[0].split('/').nth(2).unwrap();
    let node = sinew_remote::ros2::Node { domain: DOMAIN, session: zid.into(), name: "arm_1".into() };
    assert!(found.contains(&node.token()), "{found:?}");
    let endpoint = node.endpoint(Side::Publisher, 1, &joints, JointState::KIND, Quality::DEFAULT);
    assert!(found.contains(&endpoint), "{found:?}");

    let came = session.declare_subscriber(joints.key(DOMAIN, JointState::KIND)).wait().unwrap();
    let mut last = None::<i64>;
    for _ in 0..20 {
        let sample = came.recv_timeout(Duration::from_secs(5)).unwrap().unwrap();
        let attachment = Attachment::from_bytes(&sample.attachment().unwrap().to_bytes()).unwrap();
        assert_eq!(attachment.gid, Attachment::gid_of(&endpoint));
        assert!(last.is_none_or(|last| attachment.sequence == last + 1), "{last:?} {attachment:?}");
        last = Some(attachment.sequence);
        let message = JointState::from_cdr(&sample.payload().to_bytes()).unwrap();
        assert_eq!((&message.name[..], &message.position[..], message.effort.len()), (&["a".to_owned()][..], &[0.5][..], 0));
        assert!(message.header.stamp.sec > 1_700_000_000);
    }
    assert_eq!(served.robot.encoded.load(std::sync::atomic::Ordering::SeqCst), 0, "nobody looks yet");
    let topic = Topic::parse("/arm_1/front/image/compressed").unwrap();
    let came = session.declare_subscriber(topic.key(DOMAIN, CompressedImage::KIND)).wait().unwrap();
    let sample = came.recv_timeout(Duration::from_secs(5)).unwrap().unwrap();
    let image = CompressedImage::from_cdr(&sample.payload().to_bytes()).unwrap();
    assert_eq!((&*image.format, &*image.header.frame_id, image.data.len()), ("jpeg", "front", 900));
    drop(ros2);
    until("it leaves", || tokens(&session).is_empty());
}

#[test]
fn a_trajectory_steers_under_the_lease_and_is_refused_with_words() {
    let served = served(10);
    let (_ros2, session, told) = node(&served, true);
    let topic = Topic::parse("/arm_1/joint_trajectory").unwrap();
    assert!(tokens(&session).iter().any(|token| token.contains("/MS/") && token.contains("joint_trajectory")));
    let send = session.declare_publisher(topic.key(DOMAIN, JointTrajectory::KIND)).wait().unwrap();
    let says = |what: &str| told.lock().unwrap().iter().any(|line| line.contains(what));
    let goals = || served.robot.goals.lock().unwrap().iter().map(|goals| goals[0]).collect::<Vec<f64>>();
    let operator = || served.ask("/api/v1/state").1["operator"].clone();

    // From where it is, 0.5, there and back.
    send.put(trajectory(&[(400, 0.9), (800, 0.7)])).wait().unwrap();
    until("it is led", || operator() == "ros2");
    // Meanwhile nobody else may.
    let (mut web, _) = served.socket("/api/v1/command", &json!({"token": served.token}));
    tell(&mut web, &json!({"type": "take"}));
    assert_eq!(heard(&mut web)["type"], "refused");
    until("it comes to the end", || goals().last() == Some(&0.7));
    let course = goals();
    let top = course.iter().copied().fold(0.0, f64::max);
    assert!((0.5..0.6).contains(&course[0]) && (0.85..=0.9).contains(&top) && course.len() > 25, "{course:?}");
    assert!(course.windows(2).all(|pair| (pair[1] - pair[0]).abs() < 0.1), "no jump: {course:?}");
    // One without points ends it, and the lease is free.
    send.put(trajectory(&[])).wait().unwrap();
    until("the lease is free", || operator().is_null());

    tell(&mut web, &json!({"type": "take"}));
    assert_eq!(heard(&mut web)["type"], "lease");
    let before = goals().len();
    send.put(trajectory(&[(400, 0.9)])).wait().unwrap();
    let begun = Instant::now();
    while !says("has the operator's lease") {
        tell(&mut web, &json!({"type": "alive"}));
        std::thread::sleep(Duration::from_millis(20));
        assert!(begun.elapsed() < Duration::from_secs(5), "{told:?}");
    }
    drop(web);
    std::thread::sleep(Duration::from_millis(400));
    send.put(trajectory(&[(400, f64::NAN)])).wait().unwrap();
    until("it is said", || says("finite"));
    send.put(vec![0, 1, 0, 0, 7]).wait().unwrap();
    until("it is said", || says("reading a ROS 2 message"));
    assert_eq!(goals().len(), before);
}

#[test]
fn a_flood_of_bad_trajectories_is_told_once_and_counted() {
    let served = served(10);
    let (_ros2, session, told) = node(&served, true);
    let topic = Topic::parse("/arm_1/joint_trajectory").unwrap();
    let send = session.declare_publisher(topic.key(DOMAIN, JointTrajectory::KIND)).wait().unwrap();
    let lines = |what: &str| told.lock().unwrap().iter().filter(|line| line.contains(what)).count();
    let begun = Instant::now();
    while begun.elapsed() < Duration::from_secs(3) {
        send.put(trajectory(&[(400, f64::NAN)])).wait().unwrap();
        std::thread::sleep(Duration::from_millis(10));
    }
    assert_eq!(lines("finite"), 1, "{told:?}");
    until("it is counted", || lines("more trajectories were not taken") == 1);
    send.put(trajectory(&[(400, f64::NAN)])).wait().unwrap();
    until("it is told anew", || lines("finite") == 2);
}
