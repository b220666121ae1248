//! A session of zenoh as v1 wants it: explicit addresses, nothing found by itself, and queries that wait until somebody is there.

use std::path::Path;
use std::sync::mpsc::{RecvTimeoutError, channel};
use std::time::Duration;

use zenoh::qos::CongestionControl;
use zenoh::query::{ConsolidationMode, QueryTarget};
use zenoh::{Config, Session, Wait as _};

use super::wire::MOST_BYTES;
use crate::time::Deadline;
use crate::tls;

/// So many answers to a question are read.
const MOST_REPLIES: usize = 16;
/// How often it is looked whether somebody is there.
const LOOK: Duration = Duration::from_millis(2);

/// Where a session is to be had.
pub(crate) enum Place<'a> {
    /// A server or a router, which has to be reached within.
    At(&'a str, Duration),
    /// This machine, which others reach.
    Here(&'a str),
}

/// What zenoh says, without where in its source.
pub(crate) fn words(error: zenoh::Error) -> String {
    let text = error.to_string();
    text.split(" at /").next().unwrap_or_default().trim_end().to_owned()
}

/// Opens a session. Certificates and rights are those of the file of zenoh's own configuration.
///
/// # Errors
/// Why there is none, in words.
pub(crate) fn open(place: &Place<'_>, file: Option<&Path>) -> Result<Session, String> {
    let mut config = match file {
        Some(file) => Config::from_file(file).map_err(|error| format!("reading {}: {}", file.display(), words(error)))?,
        None => Config::default(),
    };
    match place {
        Place::At(locator, within) => tls::check(&config, &[locator], &[], *within / 2, tls::Thorough::Yes)?,
        Place::Here(locator) => tls::check(&config, &[], &[locator], Duration::ZERO, tls::Thorough::Yes)?,
    }
    let list = |locator: &str| serde_json::json!([locator]).to_string();
    let (connect, listen, within) = match place {
        Place::At(locator, within) => (list(locator), "[]".to_owned(), *within),
        Place::Here(locator) => ("[]".to_owned(), list(locator), Duration::ZERO),
    };
    let ms = within.as_millis().to_string();
    let mut settings = vec![
        ("connect/endpoints", &*connect),
        ("listen/endpoints", &*listen),
        ("scouting/multicast/enabled", "false"),
        ("scouting/gossip/enabled", "false"),
        ("transport/link/rx/max_message_size", MOST_MESSAGE),
    ];
    if file.is_none() {
        settings.push(("mode", "\"peer\""));
    }
    if matches!(place, Place::At(..)) {
        settings.extend([
            ("connect/timeout_ms", &*ms),
            ("connect/exit_on_failure", "true"),
            ("connect/retry", r#"{ "period_init_ms": 50, "period_max_ms": 500, "period_increase_factor": 2 }"#),
            ("transport/unicast/open_timeout", &*ms),
            // A question waits until its queryable is declared.
            ("open/return_conditions/connect_scouted", "false"),
        ]);
    }
    for (key, value) in settings {
        config.insert_json5(key, value).map_err(|error| format!("setting zenoh's {key}: {}", words(error)))?;
    }
    zenoh::open(config).wait().map_err(|error| match place {
        Place::At(locator, _) if locator.starts_with("tls/") => {
            format!("{} (nobody listens there, or it speaks no zenoh over TLS)", words(error))
        }
        Place::At(..) => format!("{} (nobody listens there, or it wants zenoh+tls://)", words(error)),
        Place::Here(_) => words(error),
    })
}

/// What is longer is not put together: [`MOST_BYTES`], and what zenoh says around it.
const MOST_MESSAGE: &str = "33619968";

/// Asks once, when somebody is there to be asked, and gives all answers. A question is never repeated: it may change something.
///
/// # Errors
/// Why there is none, in words.
pub(crate) fn query(session: &Session, key: &str, question: Vec<u8>, until: Deadline) -> Result<Vec<Vec<u8>>, String> {
    let querier = session.declare_querier(key.to_owned()).target(QueryTarget::All).wait().map_err(words)?;
    while !querier.matching_status().wait().map_err(words)?.matching() {
        if until.is_over() {
            return Err(format!("nobody is there to answer {key}"));
        }
        std::thread::sleep(LOOK.min(until.left()));
    }
    drop(querier);
    let (sender, answers) = channel();
    session
        .get(key)
        .payload(question)
        .target(QueryTarget::All)
        .consolidation(ConsolidationMode::None)
        .congestion_control(CongestionControl::Drop)
        .timeout(until.left())
        // Who asked may have gone.
        .callback(move |reply| drop(sender.send(reply)))
        .wait()
        .map_err(words)?;
    let (mut found, mut bytes) = (Vec::new(), 0);
    loop {
        match answers.recv_timeout(until.left()) {
            Ok(reply) => match reply.into_result() {
                Ok(sample) => {
                    bytes += sample.payload().len();
                    if bytes > MOST_BYTES || found.len() >= MOST_REPLIES {
                        return Err(format!("more than {MOST_REPLIES} answers, or {MOST_BYTES} bytes, to {key}"));
                    }
                    found.push(sample.payload().to_bytes().into_owned());
                }
                Err(error) => {
                    let words = String::from_utf8_lossy(&error.payload().to_bytes()).chars().take(200).collect::<String>();
                    return Err(format!("the answer to {key}: {words}"));
                }
            },
            Err(RecvTimeoutError::Disconnected) => return Ok(found),
            Err(RecvTimeoutError::Timeout) => return Err(format!("no answer to {key}")),
        }
    }
}
