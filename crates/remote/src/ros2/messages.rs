//! The messages that a robot's joints and cameras need: `sensor_msgs` and `trajectory_msgs` as ROS 2 Iron to Kilted have them.

use super::Ros2Error;
use super::cdr::{Reader, Writer};
use super::kind::{Field, Kind};

/// A message that ROS 2 knows.
pub trait Message: Sized {
    const KIND: &'static Kind;

    /// The message in CDR, with its header.
    ///
    /// # Errors
    /// When a text has a zero in it, or something is too long.
    fn to_cdr(&self) -> Result<Vec<u8>, Ros2Error>;

    /// # Errors
    /// When it is cut short, in another encoding, or a text is no UTF-8. What follows the message is passed over.
    fn from_cdr(message: &[u8]) -> Result<Self, Ros2Error>;
}

const TIME: Kind = Kind { name: "builtin_interfaces/msg/Time", fields: &[("sec", Field::Int32), ("nanosec", Field::Uint32)] };
const DURATION: Kind = Kind { name: "builtin_interfaces/msg/Duration", fields: &[("sec", Field::Int32), ("nanosec", Field::Uint32)] };
const HEADER: Kind = Kind { name: "std_msgs/msg/Header", fields: &[("stamp", Field::Of(&TIME)), ("frame_id", Field::Text)] };
const TEXTS: Field = Field::Many(&Field::Text);
const F64S: Field = Field::Many(&Field::Float64);
const POINT: Kind = Kind {
    name: "trajectory_msgs/msg/JointTrajectoryPoint",
    fields: &[
        ("positions", F64S),
        ("velocities", F64S),
        ("accelerations", F64S),
        ("effort", F64S),
        ("time_from_start", Field::Of(&DURATION)),
    ],
};

/// Seconds and nanoseconds, of a time since 1970 or of a duration.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Stamp {
    pub sec: i32,
    pub nanosec: u32,
}

impl Stamp {
    fn write(self, to: &mut Writer) {
        to.i32(self.sec);
        to.u32(self.nanosec);
    }

    fn read(from: &mut Reader<'_>) -> Result<Self, Ros2Error> {
        Ok(Self { sec: from.i32()?, nanosec: from.u32()? })
    }
}

/// When, and in which frame.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Header {
    pub stamp: Stamp,
    pub frame_id: String,
}

impl Header {
    fn write(&self, to: &mut Writer) -> Result<(), Ros2Error> {
        self.stamp.write(to);
        to.text(&self.frame_id)
    }

    fn read(from: &mut Reader<'_>) -> Result<Self, Ros2Error> {
        Ok(Self { stamp: Stamp::read(from)?, frame_id: from.text()? })
    }
}

/// `sensor_msgs/msg/JointState`: radians or metres, their rates, newton-metres or newtons; each list is empty or as long as `name`.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct JointState {
    pub header: Header,
    pub name: Vec<String>,
    pub position: Vec<f64>,
    pub velocity: Vec<f64>,
    pub effort: Vec<f64>,
}

impl Message for JointState {
    const KIND: &'static Kind = &Kind {
        name: "sensor_msgs/msg/JointState",
        fields: &[("header", Field::Of(&HEADER)), ("name", TEXTS), ("position", F64S), ("velocity", F64S), ("effort", F64S)],
    };

    fn to_cdr(&self) -> Result<Vec<u8>, Ros2Error> {
        let mut to = Writer::new();
        self.header.write(&mut to)?;
        to.texts(&self.name)?;
        [&self.position, &self.velocity, &self.effort].into_iter().try_for_each(|values| to.f64s(values))?;
        Ok(to.into_bytes())
    }

    fn from_cdr(message: &[u8]) -> Result<Self, Ros2Error> {
        let from = &mut Reader::new(message)?;
        Ok(Self { header: Header::read(from)?, name: from.texts()?, position: from.f64s()?, velocity: from.f64s()?, effort: from.f64s()? })
    }
}

/// `sensor_msgs/msg/CompressedImage`.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct CompressedImage {
    pub header: Header,
    /// Such as `jpeg`.
    pub format: String,
    pub data: Vec<u8>,
}

impl Message for CompressedImage {
    const KIND: &'static Kind = &Kind {
        name: "sensor_msgs/msg/CompressedImage",
        fields: &[("header", Field::Of(&HEADER)), ("format", Field::Text), ("data", Field::Many(&Field::Uint8))],
    };

    fn to_cdr(&self) -> Result<Vec<u8>, Ros2Error> {
        let mut to = Writer::new();
        self.header.write(&mut to)?;
        to.text(&self.format)?;
        to.bytes(&self.data)?;
        Ok(to.into_bytes())
    }

    fn from_cdr(message: &[u8]) -> Result<Self, Ros2Error> {
        let from = &mut Reader::new(message)?;
        Ok(Self { header: Header::read(from)?, format: from.text()?, data: from.bytes()? })
    }
}

/// `trajectory_msgs/msg/JointTrajectory`.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct JointTrajectory {
    pub header: Header,
    pub joint_names: Vec<String>,
    pub points: Vec<JointTrajectoryPoint>,
}

/// Where the joints are to be, and when: radians or metres, in the order of `joint_names`; the other lists may be empty.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct JointTrajectoryPoint {
    pub positions: Vec<f64>,
    pub velocities: Vec<f64>,
    pub accelerations: Vec<f64>,
    pub effort: Vec<f64>,
    pub time_from_start: Stamp,
}

impl Message for JointTrajectory {
    const KIND: &'static Kind = &Kind {
        name: "trajectory_msgs/msg/JointTrajectory",
        fields: &[("header", Field::Of(&HEADER)), ("joint_names", TEXTS), ("points", Field::Many(&Field::Of(&POINT)))],
    };

    fn to_cdr(&self) -> Result<Vec<u8>, Ros2Error> {
        let mut to = Writer::new();
        self.header.write(&mut to)?;
        to.texts(&self.joint_names)?;
        to.count(self.points.len())?;
        for point in &self.points {
            let lists = [&point.positions, &point.velocities, &point.accelerations, &point.effort];
            lists.into_iter().try_for_each(|values| to.f64s(values))?;
            point.time_from_start.write(&mut to);
        }
        Ok(to.into_bytes())
    }

    fn from_cdr(message: &[u8]) -> Result<Self, Ros2Error> {
        /// Four empty lists and a duration.
        const LEAST: usize = 4 * 4 + 8;
        let from = &mut Reader::new(message)?;
        let (header, joint_names) = (Header::read(from)?, from.texts()?);
        let points = (0..from.count(LEAST)?).map(|_| {
            Ok(JointTrajectoryPoint {
                positions: from.f64s()?,
                velocities: from.f64s()?,
                accelerations: from.f64s()?,
                effort: from.f64s()?,
                time_from_start: Stamp::read(from)?,
            })
        });
        Ok(Self { header, joint_names, points: points.collect::<Result<_, _>>()? })
    }
}
