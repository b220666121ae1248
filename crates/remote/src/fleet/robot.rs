//! A robot that is in a fleet: its daemon tells how it is, and answers.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::time::Duration;

use serde::Serialize;
use serde_json::json;
use sinew_core::service::{Quality, Refusal};
use zenoh::bytes::Encoding;
use zenoh::pubsub::Publisher;
use zenoh::qos::{CongestionControl, Priority};
use zenoh::query::{Query, Queryable};
use zenoh::{Session, Wait as _};

use super::name::{self, Name};
use super::{Event, FleetPlace, RobotName, StopAnswer, StopOrder, key, read};
use crate::daemon::Shared;
use crate::lerobot::words;
use crate::over::{Over, Until};
use crate::time::Watch;
use crate::{Daemon, RemoteError};

/// Between two states, and between two images of a camera.
const BETWEEN_STATES: Duration = Duration::from_millis(100);
const BETWEEN_IMAGES: Duration = Duration::from_millis(200);
/// A state is told once more after this, when there is none that is newer.
const SAID_AGAIN: Duration = Duration::from_secs(1);
/// After which a robot that others were not seen to hear of looks again.
const LOOK_AGAIN: Duration = Duration::from_secs(10);
/// Queries that wait to be answered; more are not.
const MOST_QUERIES: usize = 16;

/// A daemon's place in a fleet. Dropping it leaves.
pub struct Fleet {
    _thread: Until,
}

impl Fleet {
    /// Has the robot of `daemon` tell about itself as `robot`, by threads of its own. Who is not reached is tried again; `tell` hears of it.
    ///
    /// # Errors
    /// When a thread can't be started.
    pub fn join(place: FleetPlace, robot: RobotName, daemon: &Daemon, tell: impl Fn(&str) + Send + 'static) -> Result<Self, RemoteError> {
        let over = Over::default();
        let stay = Stay { place, robot, daemon: daemon.shared(), over: over.clone() };
        Ok(Self { _thread: Until::spawn("fleet", over, move || stay.keep(&tell))? })
    }
}

struct Stay {
    place: FleetPlace,
    robot: RobotName,
    daemon: Arc<Shared>,
    over: Over,
}

/// What is declared to the others.
struct Met {
    state: Publisher<'static>,
    event: Publisher<'static>,
    cameras: Vec<(usize, Publisher<'static>)>,
    name: Name,
    _kept: Vec<Queryable<()>>,
    // The last to go.
    session: Session,
}

/// Tells the others when a thread leaves, however it does.
struct Leaves<'a>(&'a Over);

impl Drop for Leaves<'_> {
    fn drop(&mut self) {
        self.0.end();
    }
}

/// A query, and what it asks for.
type Asked = (&'static str, Query);

impl Stay {
    fn keep(&self, tell: &dyn Fn(&str)) {
        let stay = |(met, asked): (Met, Receiver<Asked>)| {
            let stayed = self.tell_all(&met, asked, tell);
            drop(met.session.close().wait());
            stayed
        };
        self.over.meet(tell, || self.meet(), stay);
    }

    /// Another robot has the name.
    fn taken(&self) -> RemoteError {
        self.place.fault(format!("another robot there is called {}; --fleet-name gives this one another name", self.robot))
    }

    /// Whether others at the place hear of this robot, which is told; the router's access control may forbid it.
    fn look(&self, met: &Met, tell: &dyn Fn(&str)) -> bool {
        let (place, robot) = (&self.place, &self.robot);
        let is_seen = place.sees(&met.name.token) != Some(false);
        if is_seen {
            tell(&format!("the fleet at {place} sees this robot as {robot}"));
        }
        is_seen
    }

    fn key(&self, what: &str) -> String {
        key(self.robot.as_str(), what)
    }

    fn meet(&self) -> Result<(Met, Receiver<Asked>), RemoteError> {
        let session = self.place.open()?;
        let fault = |error| self.place.fault(words(error));
        if name::is_taken(&session, &self.key("alive")).map_err(fault)? {
            return Err(self.taken());
        }
        let (asked, answers) = sync_channel(MOST_QUERIES);
        let mut kept = Vec::new();
        for what in ["state", "info", "datasets", "policies"] {
            let asked: SyncSender<Asked> = asked.clone();
            let queries = session.declare_queryable(self.key(what)).complete(true);
            // Who is too much is not answered.
            kept.push(queries.callback(move |query| drop(asked.try_send((what, query)))).wait().map_err(fault)?);
        }
        let (daemon, own) = (self.daemon.clone(), self.key("rpc/stop"));
        let stops = session.declare_queryable(own.clone()).complete(true);
        kept.push(stops.callback(move |query| stop(&daemon, &own, &query)).wait().map_err(fault)?);
        let publisher = |what: &str, priority| {
            let publisher = session.declare_publisher(self.key(what)).congestion_control(CongestionControl::Drop);
            publisher.priority(priority).wait().map_err(fault)
        };
        let (state, event) = (publisher("state", Priority::InteractiveHigh)?, publisher("event", Priority::Data)?);
        let mut cameras = Vec::new();
        for (at, camera) in self.daemon.service().robot().cameras.iter().enumerate() {
            // One that zenoh has no key for is not shown.
            if !camera.name.is_empty() && !camera.name.contains(['/', '*', '$', '#', '?', '@']) {
                cameras.push((at, publisher(&format!("cam/{}/jpeg", camera.name), Priority::DataLow)?));
            }
        }
        // Last: who finds it asks at once.
        let name = Name::take(&session, &self.key("alive")).map_err(fault)?;
        if !name.is_own() {
            return Err(self.taken());
        }
        Ok((Met { state, event, cameras, name, _kept: kept, session }, answers))
    }

    /// # Errors
    /// When another robot has the name after all.
    fn tell_all(&self, met: &Met, asked: Receiver<Asked>, tell: &dyn Fn(&str)) -> Result<(), RemoteError> {
        // This robot alone may have to leave.
        let left = Over::default();
        std::thread::scope(|scope| {
            let named = |name: &str| std::thread::Builder::new().name(name.into());
            let answers = named("fleet-answers").spawn_scoped(scope, {
                let left = left.clone();
                move || self.answer(&asked, &left)
            });
            let images = named("fleet-cameras").spawn_scoped(scope, || self.show(&met.cameras, &left));
            for thread in [answers, images] {
                if let Err(error) = thread {
                    tracing::warn!(%error, "starting a thread of the fleet");
                }
            }
            let _leaves = Leaves(&left);
            self.tell(met, tell)
        })
    }

    /// States and events.
    fn tell(&self, met: &Met, tell: &dyn Fn(&str)) -> Result<(), RemoteError> {
        let mut unseen = (!self.look(met, tell)).then(Watch::start);
        if unseen.is_some() {
            tell(&format!(
                "the fleet at {} does not see this robot as {}: the router lets nobody hear of it. Its access control has to let this \
                 robot's certificate speak under {}; it is looked again",
                self.place,
                self.robot,
                self.key("**")
            ));
        }
        let service = self.daemon.service();
        let (mut seen, mut said) = (0, None::<Watch>);
        let mut line = service.log(0).last().map_or(0, |line| line.number);
        let mut ended = service.last().map_or(0, |end| end.number);
        loop {
            let newest = service.wait(seen, BETWEEN_STATES);
            if newest > seen || said.is_none_or(|said| said.elapsed() >= SAID_AGAIN) {
                (seen, said) = (newest, Some(Watch::start()));
                put(&met.state, &self.daemon.state());
            }
            for new in service.log(line) {
                line = new.number;
                put(&met.event, &Event::Log(new));
            }
            if let Some(end) = service.last().filter(|end| end.number > ended) {
                ended = end.number;
                put(&met.event, &Event::WorkEnded(end));
            }
            if !met.name.is_own() {
                return Err(self.taken());
            }
            if unseen.is_some_and(|since| since.elapsed() >= LOOK_AGAIN) {
                unseen = (!self.look(met, tell)).then(Watch::start);
            }
            if self.over.wait(BETWEEN_STATES) {
                return Ok(());
            }
        }
    }

    /// Images, while somebody looks.
    fn show(&self, cameras: &[(usize, Publisher<'static>)], left: &Over) {
        let service = self.daemon.service();
        let mut seen = vec![0; cameras.len()];
        while !left.wait(BETWEEN_IMAGES) {
            for ((camera, publisher), seen) in cameras.iter().zip(&mut seen) {
                if !publisher.matching_status().wait().is_ok_and(|status| status.matching()) {
                    continue;
                }
                let Some(shot) = service.shot(*camera, *seen, Quality::Medium) else { continue };
                *seen = shot.sequence;
                let about =
                    json!({ "sequence": shot.sequence, "width": shot.width, "height": shot.height, "age_s": shot.age.as_secs_f64() });
                let image = publisher.put(shot.jpeg.to_vec()).encoding(Encoding::IMAGE_JPEG).attachment(about.to_string());
                // Who is slow sees less.
                drop(image.wait());
            }
        }
    }

    /// Answers until it is over.
    fn answer(&self, asked: &Receiver<Asked>, left: &Over) {
        while !left.wait(Duration::ZERO) {
            let Ok((what, query)) = asked.recv_timeout(BETWEEN_STATES) else { continue };
            let service = self.daemon.service();
            let answer = catch_unwind(AssertUnwindSafe(|| match what {
                "info" => written(&service.robot()),
                "datasets" => service.datasets().and_then(|datasets| written(&datasets)),
                "policies" => service.policies().and_then(|policies| written(&policies)),
                _ => written(&self.daemon.state()),
            }));
            let key = self.key(what);
            // Who asked may have gone.
            drop(match answer {
                Ok(Ok(text)) => query.reply(key, text).encoding(Encoding::APPLICATION_JSON).wait(),
                Ok(Err(refusal)) => query.reply_err(refusal.to_string()).wait(),
                Err(_) => query.reply_err("the daemon panicked; its log says where").wait(),
            });
        }
    }
}

fn written(value: &impl Serialize) -> Result<String, Refusal> {
    serde_json::to_string(value).map_err(|error| Refusal::Failed(error.to_string()))
}

fn put(publisher: &Publisher<'_>, value: &impl Serialize) {
    if let Ok(text) = serde_json::to_string(value) {
        drop(publisher.put(text).encoding(Encoding::APPLICATION_JSON).wait());
    }
}

/// Stops the robot, on zenoh's own thread, so that no other query is waited for.
fn stop(daemon: &Shared, key: &str, query: &Query) {
    let order = query.payload().and_then(read::<StopOrder>);
    let Some(StopOrder { stop }) = order else {
        drop(query.reply_err("expected {\"stop\": \"stop\"}, {\"stop\": \"now\"} or {\"stop\": \"emergency\"}").wait());
        return;
    };
    let was = daemon.state().mode;
    let done = catch_unwind(AssertUnwindSafe(|| daemon.stop(stop)));
    drop(match done.ok().and_then(|()| serde_json::to_string(&StopAnswer { stop, was }).ok()) {
        Some(answer) => query.reply(key, answer).encoding(Encoding::APPLICATION_JSON).wait(),
        None => query.reply_err("the daemon panicked; its log says where").wait(),
    });
}
