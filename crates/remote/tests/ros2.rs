//! Messages of ROS 2 against what rosbags writes (`scripts/make_ros2_golden.py`).

#![allow(clippy::unwrap_used, reason = "what fails here fails the test")]

use std::fmt::Debug;

use data_encoding::HEXLOWER;
use proptest::prelude::*;
use serde_json::Value;
use sinew_remote::ros2::{
    Attachment, CompressedImage, Header, JointState, JointTrajectory, JointTrajectoryPoint, Message, Node, Quality, Side, Stamp, Topic,
};

fn golden() -> Value {
    serde_json::from_str(include_str!("golden/ros2.json")).unwrap()
}

fn header(sec: i32, nanosec: u32, frame: &str) -> Header {
    Header { stamp: Stamp { sec, nanosec }, frame_id: frame.into() }
}

fn names(names: &[&str]) -> Vec<String> {
    names.iter().map(|name| (*name).to_owned()).collect()
}

#[track_caller]
fn compare<M: Message + PartialEq + Debug>(name: &str, message: &M) {
    let golden = golden();
    let bytes = HEXLOWER.decode(golden["messages"][name].as_str().unwrap().as_bytes()).unwrap();
    let written = message.to_cdr().unwrap();
    assert_eq!(HEXLOWER.encode(&written), HEXLOWER.encode(&bytes), "{name}");
    assert_eq!(M::from_cdr(&bytes).unwrap(), *message, "{name}");
    assert_eq!(golden["hashes"][M::KIND.name], M::KIND.hash(), "{}", M::KIND.name);
    // Cut anywhere it is an error, and nothing else.
    for len in 0..bytes.len() {
        M::from_cdr(&bytes[..len]).unwrap_err();
    }
}

#[test]
fn messages_are_those_of_rosbags_to_the_byte() {
    compare("joints", &JointState { header: header(5, 7, ""), name: names(&["a", "bcd"]), position: vec![1.0, 2.0], ..Default::default() });
    compare(
        "joints_all",
        &JointState {
            header: header(1_790_000_000, 999_999_999, "base_link"),
            name: names(&["shoulder_pan", "shoulder_lift", "gripper"]),
            position: vec![-1.5, 0.25, 1e-9],
            velocity: vec![0.5, -0.5, 0.0],
            effort: vec![f64::INFINITY, -0.0, 3.0],
        },
    );
    compare("joints_none", &JointState { header: header(-1, 0, "é"), ..Default::default() });
    compare("image", &CompressedImage { header: header(5, 7, "wrist"), format: "jpeg".into(), data: vec![0, 1, 2, 3, 4] });
    compare("image_none", &CompressedImage::default());
    let point = |positions: &[f64], velocities: &[f64], sec, nanosec| JointTrajectoryPoint {
        positions: positions.to_vec(),
        velocities: velocities.to_vec(),
        time_from_start: Stamp { sec, nanosec },
        ..Default::default()
    };
    let points = vec![point(&[1.0], &[], 0, 500_000_000), point(&[2.0], &[0.125], 1, 0), point(&[], &[], -2, 3)];
    compare("trajectory", &JointTrajectory { header: header(0, 0, "x"), joint_names: names(&["a"]), points });
    compare("trajectory_none", &JointTrajectory { joint_names: names(&["ab", "c"]), ..Default::default() });
}

#[test]
fn hostile_messages_take_no_memory_and_say_what_they_are() {
    let said = |message: &[u8]| JointTrajectory::from_cdr(message).unwrap_err().to_string();
    assert!(said(b"").contains("expected a header of 4"));
    assert!(said(&[0, 0, 0, 0, 1, 2, 3, 4]).contains("little-endian CDR"));
    assert!(said(&[0, 7, 0, 0, 1, 2, 3, 4]).contains("0007"));
    // Four thousand million joints.
    let mut many = vec![0, 1, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1, 0, 0, 0, 0, 0, 0, 0];
    many.extend([0xff; 4]);
    assert!(said(&many).contains("4294967295 values"), "{}", said(&many));
    let zero = JointState { name: names(&["a\0b"]), ..Default::default() };
    assert!(zero.to_cdr().unwrap_err().to_string().contains("a zero in it"));
    // A text of three bytes, of which the second is a zero.
    let mut cut = vec![0, 1, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 4, 0, 0, 0];
    cut.extend(b"a\0b\0");
    cut.extend([0; 8]);
    assert!(said(&cut).contains("a zero in it"), "{}", said(&cut));
    let long = CompressedImage { format: "x".repeat(70_000), ..Default::default() };
    long.to_cdr().unwrap_err();
}

proptest! {
    #[test]
    fn bytes_of_any_kind_never_panic(mut message in proptest::collection::vec(any::<u8>(), 0..200), is_cdr: bool) {
        if is_cdr && message.len() >= 4 {
            message[..4].copy_from_slice(&[0, 1, 0, 0]);
        }
        let _ = JointState::from_cdr(&message);
        let _ = CompressedImage::from_cdr(&message);
        let _ = JointTrajectory::from_cdr(&message);
        let _ = Attachment::from_bytes(&message);
    }
}

#[test]
fn keys_and_tokens_are_rmw_zenohs() {
    let topic = Topic::parse("/joint_states").unwrap();
    let hash = "RIHS01_a13ee3a330e346c9d87b5aa18d24e11690752bd33a0350f11c5882bc9179260e";
    assert_eq!(topic.key(0, JointState::KIND), format!("0/joint_states/sensor_msgs::msg::dds_::JointState_/{hash}"));
    let node = Node { domain: 3, session: "1f".into(), name: "arm".into() };
    assert_eq!(node.token(), "@ros2_lv/3/1f/0/0/NN/%/%/arm");
    assert_eq!(
        node.endpoint(Side::Publisher, 1, &Topic::parse("/arm/joint_states").unwrap(), JointState::KIND, Quality::DEFAULT),
        format!("@ros2_lv/3/1f/0/1/MP/%/%/arm/%arm%joint_states/sensor_msgs::msg::dds_::JointState_/{hash}/::,10:,:,:,,")
    );
    assert!(node.endpoint(Side::Subscription, 2, &topic, JointState::KIND, Quality::SENSOR).ends_with("/2::,5:,:,:,,"));
    for bad in ["joint_states", "/", "/a//b", "/a/", "/1a", "/a b", "/ä", "/a%b", ""] {
        assert!(Topic::parse(bad).unwrap_err().to_string().contains(&format!("{bad:?}")), "{bad}");
    }
}

#[test]
fn attachments_have_33_bytes_and_the_publishers_id() {
    let golden = golden();
    let gid = Attachment::gid_of(golden["gid"]["token"].as_str().unwrap());
    assert_eq!(HEXLOWER.encode(&gid), golden["gid"]["bytes"].as_str().unwrap());
    let attachment = Attachment { sequence: 1, sent_ns: 1_790_000_000_000_000_001, gid };
    let bytes = attachment.to_bytes();
    assert_eq!((bytes[0], bytes[16]), (1, 16));
    assert_eq!(Attachment::from_bytes(&bytes).unwrap(), attachment);
    for len in [0, 32] {
        assert!(Attachment::from_bytes(&bytes[..len]).unwrap_err().to_string().contains("expected 33"));
    }
    assert!(
        Attachment::from_bytes(&{
            let mut other = bytes;
            other[16] = 15;
            other
        })
        .is_err()
    );
}
