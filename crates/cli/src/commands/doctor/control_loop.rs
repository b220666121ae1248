//! What the system grants a control loop.

use std::sync::Arc;
use std::time::Duration;

use anyhow::Context;
use serde::Serialize;
use sinew_core::Clock;
use sinew_runtime::{Histogram, MonotonicClock, Realtime, RealtimeRequest, TimeStats};

use super::{Check, State};

/// How long each way of sleeping is watched.
const WATCHED_MS: u32 = 1000;

#[derive(Serialize)]
pub struct Findings {
    processors: usize,
    kernel: Option<String>,
    /// Whether the kernel is one with PREEMPT_RT.
    realtime_kernel: bool,
    realtime: Realtime,
    /// How late a thread woke that slept for a millisecond at a time.
    ordinary_lateness: TimeStats,
    /// The same with what `realtime` was granted.
    realtime_lateness: TimeStats,
}

/// Looks at this machine, for two seconds.
pub fn look() -> anyhow::Result<(Findings, Vec<Check>)> {
    let read = |path: &str| std::fs::read_to_string(path).ok().map(|text| text.trim().to_owned());
    let (_, ordinary_lateness) = watch(RealtimeRequest::default())?;
    let (realtime, realtime_lateness) = watch(RealtimeRequest { priority: Some(80), lock_memory: true, cpu: None })?;
    let found = Findings {
        processors: std::thread::available_parallelism().map_or(1, std::num::NonZero::get),
        kernel: read("/proc/sys/kernel/osrelease"),
        realtime_kernel: read("/sys/kernel/realtime").is_some_and(|text| text == "1"),
        realtime,
        ordinary_lateness,
        realtime_lateness,
    };
    let checks = vec![found.system(), found.scheduling(), found.memory(), found.waking()];
    Ok((found, checks))
}

impl Findings {
    fn system(&self) -> Check {
        let kind = if self.realtime_kernel { "PREEMPT_RT" } else { "not PREEMPT_RT" };
        let kernel = self.kernel.as_deref().unwrap_or("unknown kernel");
        let check = Check::ok("system", format!("{kernel}, {kind}, {}", crate::text::plural(self.processors as u64, "processor")));
        if self.processors < 2 {
            return check.advise(State::Problem, "inference and the loop share the only processor; the loop needs SCHED_FIFO here");
        }
        if self.realtime_kernel {
            return check;
        }
        check.advise(State::Hint, "a kernel with PREEMPT_RT limits how late the loop can be (Ubuntu Pro, or Debian's linux-image-rt-amd64)")
    }

    fn refused(&self, what: &str) -> Option<&str> {
        self.realtime.asked.iter().find(|asked| asked.what.starts_with(what)).and_then(|asked| asked.refused.as_deref())
    }

    fn scheduling(&self) -> Check {
        let advice = "add `@realtime - rtprio 95` to /etc/security/limits.d/realtime.conf, run `sudo groupadd -f realtime` and \
            `sudo usermod -aG realtime $USER`, and log in again; in a container use --cap-add=SYS_NICE --ulimit rtprio=95";
        match self.refused("SCHED_FIFO") {
            None => Check::ok("realtime", "SCHED_FIFO at 80 is granted"),
            Some(why) => Check::ok("realtime", format!("SCHED_FIFO is refused: {why}")).advise(State::Hint, advice),
        }
    }

    fn memory(&self) -> Check {
        let advice = "add `@realtime - memlock unlimited` to /etc/security/limits.d/realtime.conf; in a container use --ulimit memlock=-1";
        match self.refused("memory") {
            None => Check::ok("memory", "locking is granted"),
            Some(why) => Check::ok("memory", format!("locking is refused: {why}")).advise(State::Hint, advice),
        }
    }

    fn waking(&self) -> Check {
        let line = |late: &TimeStats| {
            let [p50, p99, max] = [late.p50_ns, late.p99_ns, late.max_ns].map(|ns| ns as f64 * 1e-6);
            format!("{p50:.3} ms (median), {p99:.3} (p99), {max:.3} (max)")
        };
        let (usual, realtime) = (line(&self.ordinary_lateness), line(&self.realtime_lateness));
        Check::ok("waking", format!("late by {usual}; with --realtime {realtime}; at 1 kHz for a second"))
    }
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
