//! `sinew doctor`: what this machine grants a control loop.

use std::sync::Arc;
use std::time::Duration;

use anyhow::Context;
use serde::Serialize;
use sinew_core::Clock;
use sinew_runtime::{Histogram, MonotonicClock, Realtime, RealtimeRequest, TimeStats};

use crate::text::say;
use crate::{Done, text};

/// How long each way of sleeping is watched.
const WATCHED_MS: u32 = 1000;

#[derive(Serialize)]
struct Findings {
    processors: usize,
    kernel: Option<String>,
    /// Whether the kernel is one with PREEMPT_RT.
    realtime_kernel: bool,
    realtime: Realtime,
    /// How late a thread woke that slept for a millisecond at a time.
    ordinary_lateness: TimeStats,
    /// The same with what `realtime` was granted.
    realtime_lateness: TimeStats,
    advice: Vec<&'static str>,
}

pub fn run(json: bool) -> anyhow::Result<Done> {
    let read = |path: &str| std::fs::read_to_string(path).ok().map(|text| text.trim().to_owned());
    let (_, ordinary_lateness) = watch(RealtimeRequest::default())?;
    let (realtime, realtime_lateness) = watch(RealtimeRequest { priority: Some(80), lock_memory: true, cpu: None })?;
    let refused = |what: &str| realtime.asked.iter().any(|asked| asked.what.starts_with(what) && asked.refused.is_some());
    let realtime_kernel = read("/sys/kernel/realtime").is_some_and(|text| text == "1");
    let mut advice = Vec::new();
    if refused("SCHED_FIFO") {
        advice.push("SCHED_FIFO: add `@realtime - rtprio 95` to /etc/security/limits.d/realtime.conf, `sudo groupadd -f realtime`, `sudo usermod -aG realtime $USER`, and log in again; in a container: --cap-add=SYS_NICE --ulimit rtprio=95");
    }
    if refused("memory") {
        advice.push("memory: add `@realtime - memlock unlimited` to the same file; in a container: --ulimit memlock=-1");
    }
    if !realtime_kernel {
        advice.push("kernel: one with PREEMPT_RT bounds the lateness (Ubuntu Pro, Debian's linux-image-rt-amd64)");
    }
    let processors = std::thread::available_parallelism().map_or(1, std::num::NonZero::get);
    if processors < 2 {
        advice.push("processors: inference and the loop share the only one; the loop needs SCHED_FIFO here");
    }
    let found = Findings {
        processors,
        kernel: read("/proc/sys/kernel/osrelease"),
        realtime_kernel,
        realtime,
        ordinary_lateness,
        realtime_lateness,
        advice,
    };
    if json {
        text::print_json(&found)?;
        return Ok(Done::Ok);
    }
    let kind = if found.realtime_kernel { "PREEMPT_RT" } else { "not PREEMPT_RT" };
    say!("system    {}, {kind}, {} processors", found.kernel.as_deref().unwrap_or("unknown kernel"), found.processors);
    say!("realtime  {}", found.realtime);
    for (what, late) in [("ordinary", &found.ordinary_lateness), ("realtime", &found.realtime_lateness)] {
        let [p50, p99, max] = [late.p50_ns, late.p99_ns, late.max_ns].map(|ns| ns as f64 * 1e-6);
        say!("waking    {what}: late by {p50:.3} ms (median), {p99:.3} (p99), {max:.3} (max) at 1 kHz for a second");
    }
    for line in &found.advice {
        say!("advice    {line}");
    }
    Ok(Done::Ok)
}

/// How late a thread wakes that asked the system for `request`.
fn watch(request: RealtimeRequest) -> anyhow::Result<(Realtime, TimeStats)> {
    let run = move || {
        let realtime = Realtime::ask(&request);
        let clock: Arc<dyn Clock> = Arc::new(MonotonicClock::new());
        let mut lateness = Histogram::default();
        let start = clock.now();
        for tick in 1..=WATCHED_MS {
            let due = start + Duration::from_millis(1) * tick;
            clock.sleep_until(due);
            lateness.record(clock.now().nanos_since(due));
        }
        (realtime, lateness.stats())
    };
    let thread = std::thread::Builder::new().name("doctor".into()).spawn(run).context("starting a thread to watch")?;
    thread.join().map_err(|_panic| anyhow::anyhow!("watching how threads wake: the thread panicked"))
}
