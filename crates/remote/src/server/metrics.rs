//! What a server did, also for Prometheus.

use std::sync::atomic::AtomicU64;
use std::sync::atomic::Ordering::Relaxed;
use std::time::Duration;

use serde::Serialize;

/// Upper ends of the classes in which answers' times are counted, seconds.
const CLASSES: [f64; 9] = [0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1.0, 5.0];

#[derive(Debug, Default)]
pub(super) struct Metrics {
    pub connections: AtomicU64,
    pub clients: AtomicU64,
    pub turned_away: AtomicU64,
    pub wrong_tokens: AtomicU64,
    pub requests: AtomicU64,
    pub errors: AtomicU64,
    pub bytes_received: AtomicU64,
    pub bytes_sent: AtomicU64,
    classes: [AtomicU64; CLASSES.len()],
    answers: AtomicU64,
    infer_us: AtomicU64,
    waited_us: AtomicU64,
}

/// What a server did so far.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize)]
pub struct Counts {
    /// Connected now.
    pub clients: u64,
    pub requests: u64,
    pub answers: u64,
    pub errors: u64,
    /// Connections that were turned away: too many, or no right token.
    pub refused: u64,
    pub bytes_received: u64,
    pub bytes_sent: u64,
}

impl Metrics {
    /// An answer took so long, after such a wait.
    pub fn answered(&self, infer: Duration, waited: Duration) {
        let us = |time: Duration| u64::try_from(time.as_micros()).unwrap_or(u64::MAX);
        self.answers.fetch_add(1, Relaxed);
        self.infer_us.fetch_add(us(infer), Relaxed);
        self.waited_us.fetch_add(us(waited), Relaxed);
        let infer_s = infer.as_secs_f64();
        for (class, end) in self.classes.iter().zip(CLASSES) {
            if infer_s <= end {
                class.fetch_add(1, Relaxed);
            }
        }
    }

    pub fn counts(&self) -> Counts {
        let read = |value: &AtomicU64| value.load(Relaxed);
        Counts {
            clients: read(&self.clients),
            requests: read(&self.requests),
            answers: read(&self.answers),
            errors: read(&self.errors),
            refused: read(&self.turned_away) + read(&self.wrong_tokens),
            bytes_received: read(&self.bytes_received),
            bytes_sent: read(&self.bytes_sent),
        }
    }

    /// In Prometheus' text format.
    pub fn text(&self, waiting: u64, is_ready: bool) -> String {
        let mut text = String::new();
        let mut put = |name: &str, kind: &str, help: &str, value: u64| {
            text += &format!("# HELP sinew_{name} {help}\n# TYPE sinew_{name} {kind}\nsinew_{name} {value}\n");
        };
        let read = |value: &AtomicU64| value.load(Relaxed);
        put("ready", "gauge", "Whether the policy is loaded and warm.", u64::from(is_ready));
        put("clients", "gauge", "Clients that are connected.", read(&self.clients));
        put("waiting_requests", "gauge", "Requests that are being answered or wait for it.", waiting);
        put("requests_total", "counter", "Requests that were received.", read(&self.requests));
        put("errors_total", "counter", "Requests that were answered with an error.", read(&self.errors));
        put("turned_away_total", "counter", "Connections that were refused because there were too many.", read(&self.turned_away));
        put("wrong_tokens_total", "counter", "Connections without the right token.", read(&self.wrong_tokens));
        put("received_bytes_total", "counter", "Bytes of requests.", read(&self.bytes_received));
        put("sent_bytes_total", "counter", "Bytes of answers.", read(&self.bytes_sent));
        text.push_str(
            "# HELP sinew_infer_seconds How long answers took, without the wait for those before.\n# TYPE sinew_infer_seconds histogram\n",
        );
        let answers = read(&self.answers);
        for (class, end) in self.classes.iter().zip(CLASSES) {
            text += &format!("sinew_infer_seconds_bucket{{le=\"{end}\"}} {}\n", read(class));
        }
        let (sum_s, waited_s) = (read(&self.infer_us) as f64 * 1e-6, read(&self.waited_us) as f64 * 1e-6);
        text + &format!(
            "sinew_infer_seconds_bucket{{le=\"+Inf\"}} {answers}\nsinew_infer_seconds_sum {sum_s}\nsinew_infer_seconds_count {answers}\n\
             # HELP sinew_wait_seconds_total How long those that were answered waited for others before.\n\
             # TYPE sinew_wait_seconds_total counter\nsinew_wait_seconds_total {waited_s}\n"
        )
    }
}
