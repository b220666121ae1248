//! ROS 2 without ROS: joints, trajectories and compressed pictures as rmw_zenoh puts them into zenoh. No ROS is needed on this side; the
//! other one runs `RMW_IMPLEMENTATION=rmw_zenoh_cpp`.
//!
//! [`Ros2`] is a daemon's robot as a node.
//!
//! ROS means radians and metres, as `core` does; names stand without LeRobot's `.pos`.

mod cdr;
mod course;
mod kind;
mod messages;
mod names;
mod robot;

pub use kind::Kind;
pub use messages::{CompressedImage, Header, JointState, JointTrajectory, JointTrajectoryPoint, Message, Stamp};
pub use names::{Attachment, Node, Quality, Side, Topic};
pub use robot::{Ros2, Ros2Options};

/// Why something is no message or name of ROS 2.
#[derive(Debug, thiserror::Error)]
pub enum Ros2Error {
    /// What came is cut short or something else.
    #[error("reading a ROS 2 message: found {what}")]
    Malformed { what: String },
    /// What can't be said in CDR.
    #[error("writing a ROS 2 message: {what} can't be written")]
    Unwritable { what: String },
    /// No topic.
    #[error("naming the ROS 2 topic {name:?}: expected a name such as /arm/joint_states, of letters, digits and _")]
    Topic { name: String },
}
