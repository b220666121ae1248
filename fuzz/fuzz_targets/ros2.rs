#![no_main]
//! What other programs on zenoh send: ROS 2's messages with their attachment, and names that become keys.

use std::fmt::Debug;

use libfuzzer_sys::fuzz_target;
use sinew_remote::RobotName;
use sinew_remote::ros2::{Attachment, CompressedImage, JointState, JointTrajectory, Message, Topic};

/// What was read is written as bytes that are read as the same.
fn there_and_back<M: Message + Debug>(bytes: &[u8]) {
    if let Ok(message) = M::from_cdr(bytes) {
        let written = message.to_cdr().expect("what was read can be written");
        let again = M::from_cdr(&written).expect("what was written can be read");
        // NaN is not equal to itself, but is written alike.
        assert_eq!(format!("{message:?}"), format!("{again:?}"));
    }
}

fuzz_target!(|bytes: &[u8]| {
    there_and_back::<JointTrajectory>(bytes);
    there_and_back::<JointState>(bytes);
    there_and_back::<CompressedImage>(bytes);
    if let Ok(attachment) = Attachment::from_bytes(bytes) {
        assert_eq!(attachment.to_bytes(), bytes[..33]);
    }
    if let Ok(text) = std::str::from_utf8(bytes) {
        drop(Topic::parse(text));
        if let Ok(name) = text.parse::<RobotName>() {
            assert!(!name.as_str().contains(['/', '*', '$', '#', '?']), "{name} is no chunk of a key");
        }
    }
});
