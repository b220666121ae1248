//! A daemon's robot as a node of ROS 2: it tells its joints and images, and takes trajectories where it may.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use sinew_core::service::{Quality as Compressed, RobotInfo, State};
use zenoh::bytes::Encoding;
use zenoh::liveliness::LivelinessToken;
use zenoh::pubsub::{Publisher, Subscriber};
use zenoh::qos::CongestionControl;
use zenoh::{Session, Wait as _};

use super::course::{Course, joint};
use super::{Attachment, CompressedImage, Header, JointState, JointTrajectory, Kind, Message, Node, Quality, Side, Stamp, Topic};
use crate::daemon::Shared;
use crate::lerobot::{fresh_name, words};
use crate::over::{Over, Until};
use crate::time::{Watch, since_1970};
use crate::{Daemon, FleetPlace, RemoteError, RobotName};

/// Between two messages of joints, and two goals of a trajectory; and between two images.
const BETWEEN: Duration = Duration::from_millis(20);
const BETWEEN_IMAGES: Duration = Duration::from_millis(66);
/// How long a robot may take to come to a trajectory's end after that was due, and how near is there, rad or m.
const ARRIVES: f64 = 10.0;
const THERE: f64 = 1e-3;
/// The lease's holder among sockets: these are counted from 1.
const SOCKET: u64 = u64::MAX;
/// So many different reasons for which trajectories are not taken are told; more are counted.
const MOST_REASONS: usize = 8;
/// They are told of anew when there was none for this time, or when a series has lasted so long.
const SERIES_ENDS: Duration = Duration::from_secs(2);
const LONGEST_SERIES: Duration = Duration::from_secs(60);
/// Longer messages are no trajectories.
const MOST_BYTES: usize = 4 << 20;

/// How a robot is a node of ROS 2.
#[derive(Clone, Debug)]
pub struct Ros2Options {
    /// Where `rmw_zenohd` is, or this machine in its place.
    pub place: FleetPlace,
    /// `ROS_DOMAIN_ID`.
    pub domain: u32,
    /// Becomes the node's name, and the first part of its topics, with `_` for `-`.
    pub robot: RobotName,
    /// Whether it takes trajectories.
    pub takes_commands: bool,
}

/// A daemon's robot in ROS 2. Dropping it leaves.
pub struct Ros2 {
    _thread: Until,
}

impl Ros2 {
    /// Has the robot of `daemon` be a node, by threads of its own. A router that is not reached is tried again; `tell` hears of it.
    ///
    /// # Errors
    /// When a thread can't be started.
    pub fn join(options: Ros2Options, daemon: &Daemon, tell: impl Fn(&str) + Send + 'static) -> Result<Self, RemoteError> {
        let over = Over::default();
        let stay = Stay { options, daemon: daemon.shared(), over: over.clone(), wanted: Arc::default() };
        Ok(Self { _thread: Until::spawn("ros2", over, move || stay.keep(&tell))? })
    }
}

/// What came last, and was not looked at yet.
type Wanted = Arc<Mutex<Option<Result<JointTrajectory, String>>>>;

struct Stay {
    options: Ros2Options,
    daemon: Arc<Shared>,
    over: Over,
    wanted: Wanted,
}

struct Met {
    /// The node's token.
    token: String,
    joints: Endpoint,
    cameras: Vec<(usize, String, Endpoint)>,
    _kept: (Vec<LivelinessToken>, Option<Subscriber<()>>),
    session: Session,
}

/// A publisher, and who it is.
struct Endpoint {
    publisher: Publisher<'static>,
    gid: [u8; 16],
}

impl Endpoint {
    fn put(&self, message: &impl Message, sequence: &mut i64) {
        let Ok(bytes) = message.to_cdr() else { return };
        *sequence += 1;
        let sent_ns = i64::try_from(since_1970().as_nanos()).unwrap_or(i64::MAX);
        let attachment = Attachment { sequence: *sequence, sent_ns, gid: self.gid };
        // Who is slow sees less.
        drop(self.publisher.put(bytes).encoding(Encoding::ZENOH_BYTES).attachment(attachment.to_bytes().to_vec()).wait());
    }
}

/// The robot's name, or a camera's, as a part of a topic.
fn part(name: &str) -> String {
    let mut part: String = name.chars().map(|c| if c.is_ascii_alphanumeric() { c } else { '_' }).collect();
    if part.starts_with(|c: char| c.is_ascii_digit()) {
        part.insert(0, '_');
    }
    part
}

impl Stay {
    fn keep(&self, tell: &dyn Fn(&str)) {
        let stay = |met: Met| {
            let (place, domain, name) = (&self.options.place, self.options.domain, part(self.options.robot.as_str()));
            let what = format!("this robot at {place}, domain {domain}, as /{name}");
            match place.sees(&met.token) {
                Some(false) => tell(&format!("ROS 2 does not see {what}: the router lets nobody hear of it; look at its access control")),
                _ => tell(&format!("ROS 2 sees {what}")),
            }
            std::thread::scope(|scope| {
                let images = std::thread::Builder::new().name("ros2-cameras".into());
                if let Err(error) = images.spawn_scoped(scope, || self.show(&met.cameras)) {
                    tracing::warn!(%error, "starting the thread of ROS 2's images");
                }
                self.run(&met, tell);
            });
            drop(met.session.close().wait());
            Ok(())
        };
        self.over.meet(tell, || self.meet(), stay);
    }

    fn meet(&self) -> Result<Met, RemoteError> {
        let Ros2Options { place, domain, robot, takes_commands } = &self.options;
        let session = place.open()?;
        let fault = |error| place.fault(words(error));
        let named = |error: super::Ros2Error| place.fault(error.to_string());
        let name = part(robot.as_str());
        let node = Node { domain: *domain, session: session.zid().to_string(), name: name.clone() };
        let token = |key: String| session.liveliness().declare_token(key).wait().map_err(fault);
        let mut tokens = vec![token(node.token())?];
        let mut number = 0;
        let mut endpoint = |side, topic: &Topic, kind: &Kind, quality| {
            number += 1;
            let key = node.endpoint(side, number, topic, kind, quality);
            tokens.push(token(key.clone())?);
            Ok::<_, RemoteError>(Attachment::gid_of(&key))
        };
        let publisher = |topic: &Topic, kind: &Kind| {
            let publisher = session.declare_publisher(topic.key(*domain, kind)).congestion_control(CongestionControl::Drop);
            publisher.wait().map_err(fault)
        };
        let topic = Topic::parse(&format!("/{name}/joint_states")).map_err(named)?;
        let gid = endpoint(Side::Publisher, &topic, JointState::KIND, Quality::DEFAULT)?;
        let joints = Endpoint { publisher: publisher(&topic, JointState::KIND)?, gid };
        let mut cameras = Vec::new();
        for (at, camera) in self.daemon.service().robot().cameras.iter().enumerate() {
            let topic = Topic::parse(&format!("/{name}/{}/image/compressed", part(&camera.name))).map_err(named)?;
            let gid = endpoint(Side::Publisher, &topic, CompressedImage::KIND, Quality::SENSOR)?;
            cameras.push((at, camera.name.clone(), Endpoint { publisher: publisher(&topic, CompressedImage::KIND)?, gid }));
        }
        let mut commands = None;
        if *takes_commands {
            let topic = Topic::parse(&format!("/{name}/joint_trajectory")).map_err(named)?;
            endpoint(Side::Subscription, &topic, JointTrajectory::KIND, Quality::DEFAULT)?;
            let wanted = self.wanted.clone();
            let subscriber = session.declare_subscriber(topic.key(*domain, JointTrajectory::KIND)).callback(move |sample| {
                let payload = sample.payload();
                let read = match payload.len() {
                    0..=MOST_BYTES => JointTrajectory::from_cdr(&payload.to_bytes()).map_err(|error| error.to_string()),
                    long => Err(format!("found {long} bytes, expected at most {MOST_BYTES}")),
                };
                *wanted.lock().unwrap_or_else(PoisonError::into_inner) = Some(read);
            });
            commands = Some(subscriber.wait().map_err(fault)?);
        }
        Ok(Met { token: node.token(), joints, cameras, _kept: (tokens, commands), session })
    }

    /// Joints, and what trajectories want.
    fn run(&self, met: &Met, tell: &dyn Fn(&str)) {
        let info = self.daemon.service().robot();
        let (mut seen, mut sequence) = (0, 0);
        let mut course: Option<(Course, Watch)> = None;
        let mut refusals = Refusals::default();
        while !self.over.wait(BETWEEN) {
            let state = self.daemon.state();
            if state.sequence > seen {
                seen = state.sequence;
                met.joints.put(&joints_of(&info, &state), &mut sequence);
            }
            let wanted = self.wanted.lock().unwrap_or_else(PoisonError::into_inner).take();
            if let Some(wanted) = wanted {
                match wanted.and_then(|wanted| self.begin(&wanted, &info, &state)) {
                    Ok(begun) => course = begun,
                    Err(why) => refusals.hear(tell, format!("a trajectory from ROS 2 was not taken: {why}")),
                }
            }
            if refusals.is_over() {
                refusals.count(tell);
            }
            if let Some((running, since)) = &course {
                let followed = self.follow(running, since.elapsed().as_secs_f64(), &state);
                if followed != Ok(false) {
                    self.leave();
                    course = None;
                }
                if let Err(why) = followed {
                    refusals.hear(tell, format!("a trajectory from ROS 2 ended early: {why}"));
                }
            }
        }
        refusals.count(tell);
        self.leave();
    }

    /// Takes the lease for a trajectory. One without points ends what ran.
    fn begin(&self, wanted: &JointTrajectory, info: &RobotInfo, state: &State) -> Result<Option<(Course, Watch)>, String> {
        let course = Course::of(wanted, &info.action, &info.state, state)?;
        if course.is_empty() {
            self.leave();
            return Ok(None);
        }
        let taken = self.daemon.desk().take(SOCKET, "ros2", fresh_name());
        taken.map_err(|holder| format!("{holder} has the operator's lease"))?;
        Ok(Some((course, Watch::start())))
    }

    /// One goal; whether the robot has come to the end.
    fn follow(&self, course: &Course, seconds: f64, state: &State) -> Result<bool, String> {
        if !self.daemon.desk().hear(SOCKET) {
            return Err("the operator's lease is lost".to_owned());
        }
        let (goals, is_over) = course.goals(seconds);
        self.daemon.service().steer(&goals).map_err(|refusal| refusal.to_string())?;
        let is_there = state.goal.len() == goals.len() && state.goal.iter().zip(&goals).all(|(sent, goal)| (sent - goal).abs() < THERE);
        if is_over && !is_there && seconds > course.seconds() + ARRIVES {
            return Err("the robot did not come to its end".to_owned());
        }
        Ok(is_over && is_there)
    }

    fn leave(&self) {
        self.daemon.desk().release(SOCKET);
    }

    /// Images, while somebody looks.
    fn show(&self, cameras: &[(usize, String, Endpoint)]) {
        let service = self.daemon.service();
        let mut seen = vec![(0, 0); cameras.len()];
        while !self.over.wait(BETWEEN_IMAGES) {
            for ((camera, name, endpoint), (seen, sequence)) in cameras.iter().zip(&mut seen) {
                if !endpoint.publisher.matching_status().wait().is_ok_and(|status| status.matching()) {
                    continue;
                }
                let Some(shot) = service.shot(*camera, *seen, Compressed::High) else { continue };
                *seen = shot.sequence;
                let header = Header { stamp: stamp(since_1970().saturating_sub(shot.age)), frame_id: name.clone() };
                endpoint.put(&CompressedImage { header, format: "jpeg".into(), data: shot.jpeg.to_vec() }, sequence);
            }
        }
    }
}

/// A series of trajectories that were not taken: each reason is told once, and the others are counted.
#[derive(Default)]
struct Refusals {
    told: Vec<String>,
    more: u64,
    first: Option<Watch>,
    last: Option<Watch>,
}

impl Refusals {
    fn hear(&mut self, tell: &dyn Fn(&str), why: String) {
        self.first.get_or_insert_with(Watch::start);
        self.last = Some(Watch::start());
        if self.told.len() >= MOST_REASONS || self.told.contains(&why) {
            self.more += 1;
        } else {
            tell(&why);
            self.told.push(why);
        }
    }

    fn is_over(&self) -> bool {
        let since = |watch: Option<Watch>, time: Duration| watch.is_some_and(|watch| watch.elapsed() > time);
        since(self.last, SERIES_ENDS) || since(self.first, LONGEST_SERIES)
    }

    fn count(&mut self, tell: &dyn Fn(&str)) {
        if self.more > 0 {
            tell(&format!("{} more trajectories were not taken or ended early, from ROS 2", self.more));
        }
        *self = Self::default();
    }
}

fn stamp(time: Duration) -> Stamp {
    Stamp { sec: i32::try_from(time.as_secs()).unwrap_or(i32::MAX), nanosec: time.subsec_nanos() }
}

/// The joints whose places are known. Effort is a share of the stall torque here, and newton-metres there: it is left out.
fn joints_of(info: &RobotInfo, state: &State) -> JointState {
    let mut joints = JointState { header: Header { stamp: stamp(since_1970()), frame_id: String::new() }, ..JointState::default() };
    let mut speeds = Vec::new();
    for (channel, position) in info.state.iter().zip(&state.position) {
        let (Some(name), Some(position)) = (joint(channel), position) else { continue };
        let part = info.parts.iter().position(|part| part == name);
        speeds.push(part.and_then(|part| state.velocity.get(part).copied().flatten()));
        joints.name.push(name.to_owned());
        joints.position.push(*position);
    }
    joints.velocity = speeds.into_iter().collect::<Option<Vec<_>>>().unwrap_or_default();
    joints
}
