//! A name that is to be one robot's alone.
//!
//! Nobody gives names away: each robot has a liveliness token of its own under its name, and sees those of others. Who finds one there stays
//! away. Of two who came at once, or were cut off from each other, the one with the smaller token stays.

use std::collections::BTreeSet;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use zenoh::liveliness::LivelinessToken;
use zenoh::pubsub::Subscriber;
use zenoh::sample::SampleKind;
use zenoh::{Session, Wait as _};

use crate::lerobot::fresh_name;

/// How long it takes to hear of another robot of the name.
const HEARS: Duration = Duration::from_millis(500);

/// A robot's token.
pub(super) struct Name {
    /// Its key.
    pub token: String,
    id: String,
    others: Arc<Mutex<BTreeSet<String>>>,
    _kept: (Subscriber<()>, LivelinessToken),
}

/// The tokens that are there under `key`.
fn others(session: &Session, key: &str) -> zenoh::Result<Vec<String>> {
    let tokens = session.liveliness().get(format!("{key}/*")).timeout(HEARS).wait()?;
    Ok(tokens.iter().filter_map(|reply| Some(id_of(reply.result().ok()?.key_expr().as_str()))).collect())
}

/// The last part of a token's key.
pub(super) fn id_of(key: &str) -> String {
    key.rsplit('/').next().unwrap_or_default().to_owned()
}

/// Whether somebody is there under `key`.
pub(super) fn is_taken(session: &Session, key: &str) -> zenoh::Result<bool> {
    Ok(!others(session, key)?.is_empty())
}

impl Name {
    /// Takes the name whose tokens are under `key`; whether it is [its own](Self::is_own) is known then.
    pub fn take(session: &Session, key: &str) -> zenoh::Result<Self> {
        let (id, seen) = (fresh_name(), Arc::<Mutex<BTreeSet<String>>>::default());
        let (hears, own) = (seen.clone(), id.clone());
        let subscriber = session.liveliness().declare_subscriber(format!("{key}/*")).history(true).callback(move |sample| {
            let other = id_of(sample.key_expr().as_str());
            let mut others = hears.lock().unwrap_or_else(PoisonError::into_inner);
            match sample.kind() {
                SampleKind::Delete => drop(others.remove(&other)),
                SampleKind::Put if other != own => drop(others.insert(other)),
                SampleKind::Put => {}
            }
        });
        let subscriber = subscriber.wait()?;
        let key_of = format!("{key}/{id}");
        let token = session.liveliness().declare_token(key_of.clone()).wait()?;
        // Whoever came before this token was there is heard of now; who comes later hears of it.
        let there = others(session, key)?;
        seen.lock().unwrap_or_else(PoisonError::into_inner).extend(there.into_iter().filter(|other| *other != id));
        Ok(Self { token: key_of, id, others: seen, _kept: (subscriber, token) })
    }

    /// Whether it is this robot's: nobody is there whose token is smaller.
    pub fn is_own(&self) -> bool {
        self.others.lock().unwrap_or_else(PoisonError::into_inner).first().is_none_or(|other| *other > self.id)
    }
}
