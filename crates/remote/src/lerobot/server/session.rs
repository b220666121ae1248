//! A client's session: its keys, whether the client is there, and what it may ask.

use std::sync::mpsc::SyncSender;
use std::time::Duration;

use zenoh::pubsub::Publisher;
use zenoh::qos::CongestionControl;
use zenoh::sample::SampleKind;
use zenoh::{Session as Net, Wait as _};

use super::{Event, Facts};
use crate::lerobot::contract::Agreement;
use crate::lerobot::net;
use crate::lerobot::wire::{self, MOST_BYTES};
use crate::time::Watch;

/// A client that has gone may come back within, and the session waits so long for nobody else.
pub(super) const GRACE: Duration = Duration::from_secs(10);

/// A session. Dropping it ends it.
pub(super) struct Session {
    pub name: String,
    pub agreed: Agreement,
    pub generation: u64,
    pub last_sequence: Option<i64>,
    /// A question is with the policy.
    pub is_busy: bool,
    /// The policy failed; nothing more is answered.
    pub is_faulty: bool,
    absent: Option<Watch>,
    acts: Publisher<'static>,
    language: Publisher<'static>,
    /// Nobody calls these; they are there as long as the session.
    _kept: Box<dyn std::any::Any + Send>,
}

impl Session {
    pub fn open(network: &Net, facts: &Facts, events: &SyncSender<Event>, agreed: Agreement) -> Result<Self, String> {
        let name = wire::fresh_name();
        let key = wire::session_key(&facts.deployment, &facts.instance, &name);
        let hear = |suffix: &str, wrap: fn(String, Vec<u8>) -> Event| {
            let (events, name) = (events.clone(), name.clone());
            let heard = network.declare_subscriber(format!("{key}/{suffix}")).callback(move |sample| {
                if sample.payload().len() <= MOST_BYTES {
                    // What is too much is not heard.
                    drop(events.try_send(wrap(name.clone(), sample.payload().to_bytes().into_owned())));
                }
            });
            heard.wait().map_err(net::words)
        };
        let observations = hear("obs", Event::Observation)?;
        let texts = hear("language/request", Event::Language)?;
        let (told, of) = (events.clone(), name.clone());
        let control = network.declare_queryable(format!("{key}/control")).complete(true);
        let control = control.callback(move |query| drop(told.try_send(Event::Control(of.clone(), query)))).wait().map_err(net::words)?;
        let (told, of) = (events.clone(), name.clone());
        let alive = network.liveliness().declare_subscriber(format!("{key}/alive")).history(true);
        let alive = alive
            .callback(move |sample| drop(told.try_send(Event::Presence(of.clone(), sample.kind() == SampleKind::Put))))
            .wait()
            .map_err(net::words)?;
        let say = |suffix: &str| {
            network.declare_publisher(format!("{key}/{suffix}")).congestion_control(CongestionControl::Drop).wait().map_err(net::words)
        };
        Ok(Self {
            acts: say("act")?,
            language: say("language/result")?,
            name,
            agreed,
            generation: 0,
            last_sequence: None,
            is_busy: false,
            is_faulty: false,
            absent: Some(Watch::start()),
            _kept: Box::new((observations, texts, control, alive)),
        })
    }

    /// Whether the client listens to answers.
    pub fn is_heard(&self) -> bool {
        [&self.acts, &self.language].into_iter().all(|to| to.matching_status().wait().is_ok_and(|status| status.matching()))
    }

    pub fn say(&self, message: Vec<u8>) {
        // Who has gone has lost nothing.
        drop(self.acts.put(message).wait());
    }

    pub fn say_language(&self, message: Vec<u8>) {
        drop(self.language.put(message).wait());
    }

    pub fn note_presence(&mut self, is_there: bool) {
        self.absent = if is_there { None } else { self.absent.or_else(|| Some(Watch::start())) };
    }

    /// Whether the client has been away for too long.
    pub fn is_missed(&self) -> bool {
        self.absent.is_some_and(|since| since.elapsed() > GRACE)
    }

    /// Why nobody else is let in.
    pub fn in_words(&self) -> String {
        match self.absent {
            None => "another client has the policy".into(),
            Some(since) => {
                let left = GRACE.saturating_sub(since.elapsed());
                format!("another client had the policy, and may come back for {:.0} s", left.as_secs_f64().ceil())
            }
        }
    }
}
