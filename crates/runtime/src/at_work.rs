//! Control loops that are at work on this machine, in whichever process, and transfers that keep out of their way.
//!
//! A loop binds a socket of a name that all can see (Linux's abstract names); the system takes it away with the process, however that
//! ends. Nothing is ever sent to it.

use std::cell::Cell;
use std::sync::OnceLock;
use std::sync::atomic::{AtomicU32, AtomicU64, Ordering::Relaxed};
use std::time::{Duration, Instant};

use crate::realtime::{RealtimeRequest, is_transfer, system};

/// How often a transfer looks whether a loop is at work.
const LOOKS_EVERY: Duration = Duration::from_millis(200);

/// A loop that others see as long as this lives.
pub(crate) struct AtWork {
    #[cfg(target_os = "linux")]
    _bound: Option<std::os::unix::net::UnixDatagram>,
}

impl AtWork {
    /// For the calling thread. One of real-time priority keeps off the last processor, to which transfers go, unless it stays on one
    /// of its own: it would wait for what the kernel does there for them. Where the system refuses, nobody sees it.
    #[cfg(target_os = "linux")]
    pub(crate) fn say(asked: &RealtimeRequest) -> Self {
        use std::os::linux::net::SocketAddrExt;
        use std::os::unix::net::{SocketAddr, UnixDatagram};
        static COUNT: AtomicU32 = AtomicU32::new(0);
        let all = system::processors();
        // Who started it with fewer processors has chosen them.
        if let (true, None, [others @ .., _]) = (asked.priority.is_some(), asked.cpu, &all[..])
            && !others.is_empty()
            && all.len() == system::count()
            && let Err(error) = system::stay_on(others)
        {
            tracing::debug!("keeping the control loop on the processors {others:?}: {error}");
        }
        let cpu = match system::processors()[..] {
            [cpu] => cpu.to_string(),
            _ => "any".to_owned(),
        };
        let name = format!("{NAME}{}.{}.{cpu}", std::process::id(), COUNT.fetch_add(1, Relaxed));
        let bound = SocketAddr::from_abstract_name(name).and_then(|address| UnixDatagram::bind_addr(&address));
        if let Err(error) = &bound {
            tracing::debug!("transfers will not know of the control loop: {error}");
        }
        Self { _bound: bound.ok() }
    }

    #[cfg(not(target_os = "linux"))]
    pub(crate) fn say(_: &RealtimeRequest) -> Self {
        Self {}
    }
}

#[cfg(target_os = "linux")]
const NAME: &str = "sinew-loop.";

/// The processors that the loops at work stay on; `None` of a loop that may run on any.
fn loops() -> Vec<Option<usize>> {
    #[cfg(target_os = "linux")]
    {
        let table = std::fs::read_to_string("/proc/net/unix").unwrap_or_default();
        table.lines().filter_map(|line| cpu_of(line.split_whitespace().last()?)).collect()
    }
    #[cfg(not(target_os = "linux"))]
    Vec::new()
}

/// The processor in a name such as `@sinew-loop.4711.0.3`.
#[cfg(target_os = "linux")]
fn cpu_of(name: &str) -> Option<Option<usize>> {
    let (_, cpu) = name.strip_prefix('@')?.strip_prefix(NAME)?.rsplit_once('.')?;
    Some(cpu.parse().ok())
}

/// Before each piece of work of a thread of [`Role::Transfer`](crate::Role::Transfer): while a control loop is at work on this machine,
/// transfers share the last processor that no loop claims, so that a loop finds another one free; what the kernel does for a transfer,
/// which nothing interrupts on many kernels, is done there as well. Says whether a loop is at work. Other threads stay where they are, and
/// nothing is said to them.
pub fn keep_apart() -> Option<bool> {
    /// The processor for transfers plus one, or none of them.
    const FREE: u32 = 0;
    static APART: AtomicU32 = AtomicU32::new(FREE);
    static LOOKED_MS: AtomicU64 = AtomicU64::new(u64::MAX);
    static SINCE: OnceLock<(Instant, Vec<usize>)> = OnceLock::new();
    thread_local! {
        static PLACED: Cell<Option<u32>> = const { Cell::new(None) };
    }
    if !is_transfer() {
        return None;
    }
    let (since, all) = SINCE.get_or_init(|| (Instant::now(), system::processors()));
    let now_ms = u64::try_from(since.elapsed().as_millis()).unwrap_or(u64::MAX - 1);
    let looked_ms = LOOKED_MS.load(Relaxed);
    let is_due = looked_ms == u64::MAX || u128::from(now_ms.saturating_sub(looked_ms)) >= LOOKS_EVERY.as_millis();
    if is_due && LOOKED_MS.compare_exchange(looked_ms, now_ms, Relaxed, Relaxed).is_ok() {
        let chosen = choose(all, &loops());
        APART.store(chosen.and_then(|cpu| u32::try_from(cpu + 1).ok()).unwrap_or(FREE), Relaxed);
    }
    let apart = APART.load(Relaxed);
    if PLACED.replace(Some(apart)) != Some(apart) {
        let these = if apart == FREE { all.clone() } else { vec![apart as usize - 1] };
        if let Err(error) = system::stay_on(&these) {
            tracing::debug!("keeping a transfer on the processors {these:?}: {error}");
        }
    }
    Some(apart != FREE)
}

/// The processor for transfers beside such loops, if there is a loop and a processor to choose.
fn choose(all: &[usize], loops: &[Option<usize>]) -> Option<usize> {
    if loops.is_empty() || all.len() < 2 {
        return None;
    }
    all.iter().rev().find(|cpu| !loops.contains(&Some(**cpu))).copied()
}

#[cfg(all(test, target_os = "linux"))]
mod tests {
    use super::*;
    use crate::{Realtime, Role, place};

    fn processors_of_a_transfer(is_at_work: bool) -> Vec<usize> {
        let began = Instant::now();
        assert_eq!(keep_apart(), None, "it is none yet");
        place(Role::Transfer);
        while keep_apart() != Some(is_at_work) {
            assert!(began.elapsed() < Duration::from_secs(20), "a loop is at work: {is_at_work}, and a transfer doesn't see it");
            std::thread::yield_now();
        }
        system::processors()
    }

    #[test]
    fn a_transfer_keeps_to_one_processor_while_a_loop_is_at_work() {
        let all = system::processors();
        let first = RealtimeRequest { cpu: Some(all[0]), ..RealtimeRequest::default() };
        let its_thread = std::thread::spawn(move || {
            Realtime::ask(&first);
            AtWork::say(&first)
        });
        let at_work = its_thread.join().unwrap();
        assert!(loops().contains(&Some(all[0])));
        if all.len() > 1 {
            let transfer = std::thread::spawn(|| processors_of_a_transfer(true));
            assert_eq!(transfer.join().unwrap(), [all[all.len() - 1]]);
        }
        drop(at_work);
        assert!(!loops().contains(&Some(all[0])));
    }

    #[test]
    fn a_loop_of_real_time_priority_keeps_off_the_processor_of_transfers() {
        let all = system::processors();
        let asked = RealtimeRequest { priority: Some(10), ..RealtimeRequest::default() };
        let its = std::thread::spawn(move || {
            let _at_work = AtWork::say(&asked);
            system::processors()
        });
        let others = if all.len() > 1 { &all[..all.len() - 1] } else { &all[..] };
        assert_eq!(its.join().unwrap(), others);
    }

    #[test]
    fn the_processor_of_transfers_is_none_of_a_loop() {
        assert_eq!(choose(&[0, 1, 2, 3], &[]), None);
        assert_eq!(choose(&[0, 1, 2, 3], &[None]), Some(3));
        assert_eq!(choose(&[0, 1, 2, 3], &[None, Some(3)]), Some(2));
        assert_eq!(choose(&[2], &[None]), None);
        assert_eq!(choose(&[0, 1], &[Some(0), Some(1)]), None);
        assert_eq!((cpu_of("@sinew-loop.4711.0.3"), cpu_of("@sinew-loop.4711.0.any")), (Some(Some(3)), Some(None)));
        assert_eq!((cpu_of("@sinew-loop"), cpu_of("/run/sinew-loop.1.2.3"), cpu_of("@other.1.2.3")), (None, None, None));
    }
}
