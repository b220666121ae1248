//! What the control thread asks of the system so that others can't keep it waiting.

use std::cell::Cell;
use std::fmt;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};

use serde::Serialize;

/// What to ask for. Nothing by default; what is refused is told, and the loop runs without.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct RealtimeRequest {
    /// The control thread runs before all ordinary ones, at this priority of `SCHED_FIFO` (1 to 99).
    pub priority: Option<u8>,
    /// The whole process stays in memory (`mlockall`).
    pub lock_memory: bool,
    /// The control thread stays on this processor.
    pub cpu: Option<usize>,
}

/// What was asked for and what came of it. Displays as one line.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Realtime {
    /// In the order in which it was asked for; empty when nothing was.
    pub asked: Vec<Asked>,
}

/// One thing asked of the system.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Asked {
    /// Such as `SCHED_FIFO at 80`.
    pub what: String,
    /// Why it was refused, if it was.
    pub refused: Option<String>,
}

impl Realtime {
    /// Asks for the calling thread (and, for memory, its process).
    pub fn ask(request: &RealtimeRequest) -> Self {
        let mut asked = Vec::new();
        let mut ask =
            |what: String, result: std::io::Result<()>| asked.push(Asked { what, refused: result.err().map(|error| error.to_string()) });
        if request.lock_memory {
            ask("memory locked".to_owned(), system::lock_memory());
        }
        if let Some(cpu) = request.cpu {
            ask(format!("processor {cpu}"), system::stay_on(&[cpu]));
        }
        if let Some(priority) = request.priority {
            ask(format!("SCHED_FIFO at {priority}"), system::run_first(priority));
        }
        // For an ordinary thread: it runs as soon as it wakes, as it is done soon.
        system::take_turns_of(SHORTEST_TURN_NS);
        Self { asked }
    }

    /// The same for a thread that nobody asks what it was granted: what was refused is logged.
    pub(crate) fn ask_for(thread: &'static str, request: &RealtimeRequest) {
        let realtime = Self::ask(request);
        if !realtime.is_granted() {
            tracing::warn!("the {thread}'s thread: {realtime}");
        }
    }

    pub fn is_granted(&self) -> bool {
        self.asked.iter().all(|asked| asked.refused.is_none())
    }
}

impl fmt::Display for Realtime {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.asked.is_empty() {
            return f.write_str("ordinary scheduling");
        }
        for (i, Asked { what, refused }) in self.asked.iter().enumerate() {
            let comma = if i == 0 { "" } else { ", " };
            match refused {
                None => write!(f, "{comma}{what}: granted")?,
                Some(why) => write!(f, "{comma}{what}: refused ({why})")?,
            }
        }
        Ok(())
    }
}

/// The shortest turn that Linux gives.
const SHORTEST_TURN_NS: u64 = 100_000;
const TRANSFER_TURN_NS: u64 = 300_000;

/// Whose turn it is when not all can run: the order of precedence is control, buses and cameras (by
/// [`RealtimeRequest`]), then these.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Role {
    /// What must not be lost.
    Recorder,
    /// What may be left out.
    Viewer,
    /// What may take longer.
    Inference,
    /// What has no deadline: files on their way to and from the Hub. Its turns are short, so that giving way often costs it little.
    Transfer,
}

impl Role {
    /// How much later than the process's other threads it runs, in steps of `nice`.
    fn steps(self) -> i32 {
        match self {
            Self::Recorder => 0,
            Self::Viewer => 5,
            Self::Inference | Self::Transfer => 10,
        }
    }
}

thread_local! {
    /// Whether this thread is one of [`Role::Transfer`].
    static IS_TRANSFER: Cell<bool> = const { Cell::new(false) };
}

pub(crate) fn is_transfer() -> bool {
    IS_TRANSFER.get()
}

/// Puts the calling thread, and those that it starts, in its place. Where the system refuses, or has no such thing
/// for a thread, all stays as it is.
pub fn place(role: Role) {
    static IS_TOLD: AtomicBool = AtomicBool::new(false);
    if role == Role::Transfer && IS_TRANSFER.replace(true) {
        return;
    }
    if let Err(error) = system::run_later(role.steps())
        && !IS_TOLD.swap(true, Relaxed)
    {
        tracing::warn!("asking for a lower priority of the {role:?} thread: {error}; it runs like all others");
    }
    if role == Role::Transfer {
        system::take_turns_of(TRANSFER_TURN_NS);
    }
}

#[cfg(target_os = "linux")]
pub(crate) mod system {
    #![expect(unsafe_code, reason = "std has no scheduling policy, processor affinity or memory lock")]

    use std::io;
    use std::sync::OnceLock;

    /// So many steps of `nice` later than the first thread that asked was; the system's last step at most.
    pub(super) fn run_later(steps: i32) -> io::Result<()> {
        if steps == 0 {
            return Ok(());
        }
        // SAFETY: errno is the calling thread's own; -1 is a priority too, so only errno tells an error.
        let now = unsafe {
            *libc::__errno_location() = 0;
            libc::getpriority(libc::PRIO_PROCESS, 0)
        };
        if now == -1 && io::Error::last_os_error().raw_os_error() != Some(0) {
            return Err(io::Error::last_os_error());
        }
        // A thread that it started has its place from it.
        static FIRST: OnceLock<i32> = OnceLock::new();
        let wanted = (*FIRST.get_or_init(|| now) + steps).max(now).min(19);
        // SAFETY: takes numbers only; on Linux 0 is the calling thread.
        result(unsafe { libc::setpriority(libc::PRIO_PROCESS, 0, wanted) })
    }

    /// Refused where only so much may be locked: past that every later allocation would fail.
    pub(super) fn lock_memory() -> io::Result<()> {
        let mut limit = libc::rlimit { rlim_cur: 0, rlim_max: 0 };
        // SAFETY: `limit` is a valid rlimit to write to.
        result(unsafe { libc::getrlimit(libc::RLIMIT_MEMLOCK, &raw mut limit) })?;
        if limit.rlim_cur != libc::RLIM_INFINITY && !may_exceed_limits() {
            return Err(io::Error::other(format!("no more than {} kB may be locked", limit.rlim_cur / 1024)));
        }
        // SAFETY: takes flags only.
        result(unsafe { libc::mlockall(libc::MCL_CURRENT | libc::MCL_FUTURE) })
    }

    /// Whether this process has the capability CAP_IPC_LOCK.
    fn may_exceed_limits() -> bool {
        const IPC_LOCK: u64 = 1 << 14;
        let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
        let effective = status.lines().find_map(|line| line.strip_prefix("CapEff:"));
        effective.and_then(|hex| u64::from_str_radix(hex.trim(), 16).ok()).is_some_and(|bits| bits & IPC_LOCK != 0)
    }

    pub(super) fn run_first(priority: u8) -> io::Result<()> {
        let wanted = libc::sched_param { sched_priority: i32::from(priority) };
        // SAFETY: `wanted` is a valid sched_param; 0 is the calling thread.
        result(unsafe { libc::sched_setscheduler(0, libc::SCHED_FIFO, &raw const wanted) })
    }

    /// Asks for turns of `nanos` for an ordinary thread (`sched_setattr(2)`, `SCHED_OTHER`'s `sched_runtime`, Linux 6.12; earlier
    /// ones know no such wish). One with shorter turns goes before those that run already when it wakes, and gives up less when
    /// it lets others run.
    pub(super) fn take_turns_of(nanos: u64) {
        let size = size_of::<libc::sched_attr>();
        // SAFETY: a sched_attr is numbers, all of which may be 0.
        let mut wish: libc::sched_attr = unsafe { std::mem::zeroed() };
        // SAFETY: `wish` is a valid sched_attr of the size that is told; 0 is the calling thread.
        let known = unsafe { libc::syscall(libc::SYS_sched_getattr, 0, &raw mut wish, size, 0) };
        if known != 0 || wish.sched_policy != libc::SCHED_OTHER as u32 {
            return;
        }
        wish.size = size as u32;
        wish.sched_runtime = nanos;
        // SAFETY: as above.
        unsafe { libc::syscall(libc::SYS_sched_setattr, 0, &raw const wish, 0) };
    }

    /// The calling thread runs on these processors alone.
    pub(crate) fn stay_on(cpus: &[usize]) -> io::Result<()> {
        // SAFETY: a cpu_set_t is plain bits, of which all may be 0.
        let mut wanted: libc::cpu_set_t = unsafe { std::mem::zeroed() };
        for cpu in cpus {
            if *cpu >= libc::CPU_SETSIZE as usize {
                return Err(io::Error::from_raw_os_error(libc::EINVAL));
            }
            // SAFETY: `cpu` is below CPU_SETSIZE.
            unsafe { libc::CPU_SET(*cpu, &mut wanted) };
        }
        // SAFETY: `wanted` is a valid set of the size that is told; 0 is the calling thread.
        result(unsafe { libc::sched_setaffinity(0, size_of::<libc::cpu_set_t>(), &raw const wanted) })
    }

    /// How many processors there are.
    pub(crate) fn count() -> usize {
        // SAFETY: takes a number only.
        usize::try_from(unsafe { libc::sysconf(libc::_SC_NPROCESSORS_ONLN) }).unwrap_or(1)
    }

    /// The processors that the calling thread may run on; none where the system doesn't say.
    pub(crate) fn processors() -> Vec<usize> {
        // SAFETY: a cpu_set_t is plain bits, of which all may be 0.
        let mut found: libc::cpu_set_t = unsafe { std::mem::zeroed() };
        // SAFETY: `found` is a valid set of the size that is told; 0 is the calling thread.
        if unsafe { libc::sched_getaffinity(0, size_of::<libc::cpu_set_t>(), &raw mut found) } != 0 {
            return Vec::new();
        }
        // SAFETY: each number is below CPU_SETSIZE.
        (0..libc::CPU_SETSIZE as usize).filter(|cpu| unsafe { libc::CPU_ISSET(*cpu, &found) }).collect()
    }

    fn result(code: i32) -> io::Result<()> {
        if code == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
    }
}

#[cfg(not(target_os = "linux"))]
pub(crate) mod system {
    use std::io;

    pub(super) fn run_later(_: i32) -> io::Result<()> {
        Ok(())
    }

    fn unsupported() -> io::Result<()> {
        Err(io::Error::new(io::ErrorKind::Unsupported, "this system's way of it is not known"))
    }

    pub(super) fn take_turns_of(_: u64) {}

    pub(super) fn lock_memory() -> io::Result<()> {
        unsupported()
    }

    pub(super) fn run_first(_: u8) -> io::Result<()> {
        unsupported()
    }

    pub(crate) fn stay_on(_: &[usize]) -> io::Result<()> {
        unsupported()
    }

    pub(crate) fn processors() -> Vec<usize> {
        Vec::new()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_granted_and_what_is_refused_is_one_line() {
        assert_eq!(Realtime::ask(&RealtimeRequest::default()).to_string(), "ordinary scheduling");
        let asked = vec![
            Asked { what: "memory locked".into(), refused: None },
            Asked { what: "SCHED_FIFO at 80".into(), refused: Some("Operation not permitted (os error 1)".into()) },
        ];
        let realtime = Realtime { asked };
        assert!(!realtime.is_granted());
        assert_eq!(realtime.to_string(), "memory locked: granted, SCHED_FIFO at 80: refused (Operation not permitted (os error 1))");
    }

    #[test]
    #[cfg(target_os = "linux")]
    fn a_processor_and_a_priority_that_there_are_not_are_refused() {
        let asked = std::thread::spawn(|| Realtime::ask(&RealtimeRequest { priority: Some(200), lock_memory: false, cpu: Some(100_000) }))
            .join()
            .unwrap();
        assert!(asked.asked.len() == 2 && asked.asked.iter().all(|asked| asked.refused.is_some()), "{asked}");
    }
}
