//! A robot that is in a fleet: its daemon tells how it is, and answers.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::time::Duration;

use serde::Serialize;
use serde_json::json;
use sinew_core::service::{Quality, Refusal};
use zenoh::bytes::Encoding;
use zenoh::liveliness::LivelinessToken;
use zenoh::pubsub::Publisher;
use zenoh::qos::{CongestionControl, Priority};
use zenoh::query::{Query, Queryable};
use zenoh::{Session, Wait as _};

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
/// After which a fleet that was not reached is tried again.
const AGAIN: Duration = Duration::from_secs(2);
/// How long it takes to hear of another robot of the name.
const NAMESAKE: Duration = Duration::from_millis(500);
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
    _kept: (Vec<Queryable<()>>, LivelinessToken),
    // The last to go.
    session: Session,
}

/// A query, and what it asks for.
type Asked = (&'static str, Query);

impl Stay {
    fn keep(&self, tell: &dyn Fn(&str)) {
        let mut told = String::new();
        loop {
            let error = match self.meet() {
                Ok((met, asked)) => {
                    tell(&format!("the fleet at {} sees this robot as {}", self.place, self.robot));
                    self.tell_all(&met, asked);
                    drop(met.session.close().wait());
                    return;
                }
                Err(error) => error.to_string(),
            };
            if error != told {
                tell(&format!("{error}; it is tried again"));
                told = error;
            }
            if self.over.wait(AGAIN) {
                return;
            }
        }
    }

    fn key(&self, what: &str) -> String {
        key(self.robot.as_str(), what)
    }

    fn meet(&self) -> Result<(Met, Receiver<Asked>), RemoteError> {
        let session = self.place.open()?;
        let fault = |error| self.place.fault(words(error));
        let others = session.liveliness().get(self.key("alive")).timeout(NAMESAKE).wait().map_err(fault)?;
        if others.iter().any(|reply| reply.result().is_ok()) {
            return Err(self
                .place
                .fault(format!("another robot there is called {}; --fleet-name gives this one another name", self.robot)));
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
        let token = session.liveliness().declare_token(self.key("alive")).wait().map_err(fault)?;
        Ok((Met { state, event, cameras, _kept: (kept, token), session }, answers))
    }

    fn tell_all(&self, met: &Met, asked: Receiver<Asked>) {
        std::thread::scope(|scope| {
            let named = |name: &str| std::thread::Builder::new().name(name.into());
            let answers = named("fleet-answers").spawn_scoped(scope, move || self.answer(&asked));
            let images = named("fleet-cameras").spawn_scoped(scope, || self.show(&met.cameras));
            for thread in [answers, images] {
                if let Err(error) = thread {
                    tracing::warn!(%error, "starting a thread of the fleet");
                }
            }
            self.tell(met);
        });
    }

    /// States and events.
    fn tell(&self, met: &Met) {
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
            if self.over.wait(BETWEEN_STATES) {
                return;
            }
        }
    }

    /// Images, while somebody looks.
    fn show(&self, cameras: &[(usize, Publisher<'static>)]) {
        let service = self.daemon.service();
        let mut seen = vec![0; cameras.len()];
        while !self.over.wait(BETWEEN_IMAGES) {
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
    fn answer(&self, asked: &Receiver<Asked>) {
        while !self.over.wait(Duration::ZERO) {
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
