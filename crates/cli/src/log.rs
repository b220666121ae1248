//! What the crates of this program log: warnings in its own words, each once; all of it with `SINEW_LOG`.

use std::collections::BTreeSet;
use std::fmt;
use std::io::IsTerminal as _;
use std::sync::{Mutex, PoisonError};

use tracing::field::{Field, Visit};
use tracing::{Event, Subscriber};
use tracing_subscriber::EnvFilter;
use tracing_subscriber::fmt::format::Writer;
use tracing_subscriber::fmt::{FmtContext, FormatEvent, FormatFields};
use tracing_subscriber::registry::LookupSpan;

use crate::text::{self, note};

/// What is logged unless the user says otherwise. Hugging Face's crates and zenoh's tell their own troubles in many lines, of which what
/// matters comes back as an error; so does that of TLS.
const LOGGED: &str = "warn,hf_hub=off,xet=off,xet_client=off,xet_core_structures=off,xet_data=off,xet_runtime=off,re_log_encoding=error,\
    rustls_platform_verifier=off,zenoh=off";

/// Logs from here on. Who sets `SINEW_LOG` gets times, levels and places in the program as well.
pub fn begin() {
    // What can't be logged because the terminal has gone is no reason to panic.
    let log = tracing_subscriber::fmt().with_writer(text::raw_stderr).log_internal_errors(false);
    match EnvFilter::try_from_env("SINEW_LOG") {
        Ok(filter) => log.with_env_filter(filter).with_ansi(std::io::stderr().is_terminal()).init(),
        Err(_) => log.with_env_filter(EnvFilter::new(LOGGED)).event_format(Plain::default()).init(),
    }
}

/// How many different warnings are remembered: a run of days may have numbers in them.
const REMEMBERED: usize = 1000;

/// `warning: PATH: MESSAGE (ERROR, NAME: VALUE)`, and none again that is remembered.
#[derive(Default)]
struct Plain {
    said: Mutex<BTreeSet<String>>,
}

impl<S, N> FormatEvent<S, N> for Plain
where
    S: Subscriber + for<'a> LookupSpan<'a>,
    N: for<'a> FormatFields<'a> + 'static,
{
    fn format_event(&self, _: &FmtContext<'_, S, N>, _: Writer<'_>, event: &Event<'_>) -> fmt::Result {
        let mut parts = Parts::default();
        event.record(&mut parts);
        let line = parts.line();
        let mut said = self.said.lock().unwrap_or_else(PoisonError::into_inner);
        if said.len() >= REMEMBERED {
            said.clear();
        }
        if said.insert(line.clone()) {
            drop(said);
            note!("{line}");
        }
        Ok(())
    }
}

/// What an event holds.
#[derive(Default)]
struct Parts {
    path: Option<String>,
    message: String,
    more: Vec<String>,
}

impl Parts {
    fn take(&mut self, name: &str, value: String) {
        match name {
            // Where in the source a crate that logs by `log` said so.
            name if name.starts_with("log.") => {}
            "message" => self.message = value,
            "path" => self.path = Some(value),
            "err" | "error" => self.more.insert(0, value),
            name => self.more.push(format!("{}: {value}", name.replace('_', " "))),
        }
    }

    fn line(&self) -> String {
        let path = self.path.as_ref().map(|path| format!("{path}: ")).unwrap_or_default();
        let more = if self.more.is_empty() { String::new() } else { format!(" ({})", self.more.join(", ")) };
        text::in_line(&format!("warning: {path}{}{more}", self.message)).into_owned()
    }
}

impl Visit for Parts {
    fn record_str(&mut self, field: &Field, value: &str) {
        self.take(field.name(), value.to_owned());
    }

    fn record_debug(&mut self, field: &Field, value: &dyn fmt::Debug) {
        self.take(field.name(), format!("{value:?}"));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_warning_is_a_sentence() {
        let mut parts = Parts::default();
        let values =
            [("err", "denied"), ("keys", "a, b"), ("path", "/x\u{1b}"), ("message", "it is not written down"), ("log.file", "/src/x.rs")];
        values.into_iter().for_each(|(name, value)| parts.take(name, value.to_owned()));
        assert_eq!(parts.line(), "warning: /x\\u{1b}: it is not written down (denied, keys: a, b)");
    }
}
