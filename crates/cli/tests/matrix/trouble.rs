//! What goes wrong, when, while who acts, where; and what is to come of it.

use std::fmt;

use sinew_runtime::EpisodeOutcome;

/// When it goes wrong.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Phase {
    Arming,
    WayToStart,
    FirstTick,
    MidEpisode,
    HandOver,
    WayToRest,
}

pub const PHASES: [Phase; 6] = [Phase::Arming, Phase::WayToStart, Phase::FirstTick, Phase::MidEpisode, Phase::HandOver, Phase::WayToRest];

/// Who acts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Who {
    Async,
    Sync,
    Teleoperator,
    /// A policy, and a human who takes over.
    Supervised,
}

pub const WHOS: [Who; 4] = [Who::Async, Who::Sync, Who::Teleoperator, Who::Supervised];

/// On what.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Venue {
    /// The modelled arm on a mock clock, at so many ticks a second.
    Model(u32),
    /// The simulated SO-101 on a mock clock.
    Simulator(u32),
    /// The modelled arm in real time, in this process, with nobody who watches.
    Live(u32),
    /// The same in a process of its own that a watchdog watches.
    Process(u32),
}

impl Venue {
    pub fn rate_hz(self) -> u32 {
        let (Self::Model(rate) | Self::Simulator(rate) | Self::Live(rate) | Self::Process(rate)) = self;
        rate
    }

    pub fn is_mock(self) -> bool {
        matches!(self, Self::Model(_) | Self::Simulator(_))
    }
}

/// A table of names, so that a process can be told of one.
macro_rules! troubles {
    ($($name:ident $words:literal),* $(,)?) => {
        /// What goes wrong.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
        pub enum Trouble { $($name),* }

        pub const TROUBLES: &[Trouble] = &[$(Trouble::$name),*];

        impl fmt::Display for Trouble {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.pad(match self { $(Self::$name => $words),* })
            }
        }
    };
}

troubles! {
    ReadFails "read fails for good",
    ReadLost "read: robot lost",
    ReadStale "read: old stamps",
    ReadMissing "read: a joint is NaN",
    ReadWild "read: one wild value",
    ReadGarbage "read: garbage for good",
    ReadHangs "read hangs",
    WriteFails "write fails for good",
    WriteLost "write: robot lost",
    WritePartial "write reaches some",
    WriteHangs "write hangs",
    StopFailsOnce "stop fails once",
    StopFails "stop always fails",
    StopHangs "stop hangs",
    StopPanics "stop panics",
    EnableHalf "enable fails half-way",
    EnableHangs "enable hangs",
    DriverPanics "driver panics",
    CameraFreezes "camera freezes",
    CameraGone "camera is gone",
    CameraHangs "camera hangs the call",
    PolicyNan "policy says NaN",
    PolicyPanics "policy panics",
    PolicyHangs "policy hangs",
    TeleopNan "teleoperator says NaN",
    TeleopLost "teleoperator is lost",
    TeleopPanics "teleoperator panics",
    TeleopHangs "teleoperator hangs",
    JudgePanics "judge panics",
    JudgeHangs "judge hangs",
    SinkFails "sink fails",
    SinkPanics "sink panics",
    SinkHangs "sink hangs",
    Int "SIGINT",
    IntTwice "SIGINT twice",
    Term "SIGTERM",
    Quit "SIGQUIT",
    Tstp "SIGTSTP",
    Hup "SIGHUP",
    Ttin "SIGTTIN",
    Kill "SIGKILL",
    Freeze "SIGSTOP 0.3 s, SIGCONT",
    WatchdogKilled "watchdog is killed",
}

impl Trouble {
    pub fn is_policys(self) -> bool {
        matches!(self, Self::PolicyNan | Self::PolicyPanics | Self::PolicyHangs)
    }

    pub fn is_teleoperators(self) -> bool {
        matches!(self, Self::TeleopNan | Self::TeleopLost | Self::TeleopPanics | Self::TeleopHangs)
    }

    pub fn is_signal(self) -> bool {
        matches!(self, Self::Int | Self::IntTwice | Self::Term | Self::Quit | Self::Tstp | Self::Hup | Self::Ttin)
    }

    /// In the safe action, which needs a reason to come.
    pub fn is_stops(self) -> bool {
        matches!(self, Self::StopFailsOnce | Self::StopFails | Self::StopHangs | Self::StopPanics)
    }

    fn is_judges(self) -> bool {
        matches!(self, Self::JudgePanics | Self::JudgeHangs)
    }

    fn is_sinks(self) -> bool {
        matches!(self, Self::SinkFails | Self::SinkPanics | Self::SinkHangs)
    }

    pub fn is_cameras(self) -> bool {
        matches!(self, Self::CameraFreezes | Self::CameraGone | Self::CameraHangs)
    }

    /// The call never comes back by itself, while the control thread lives.
    fn hangs_beside(self) -> bool {
        matches!(self, Self::PolicyHangs | Self::TeleopHangs | Self::JudgeHangs | Self::SinkHangs)
    }

    /// The control thread itself comes to nothing, or the whole process.
    fn needs_watchdog(self) -> bool {
        let hangs = matches!(self, Self::ReadHangs | Self::WriteHangs | Self::StopHangs | Self::EnableHangs | Self::CameraHangs);
        hangs || matches!(self, Self::StopPanics | Self::Kill | Self::Freeze | Self::WatchdogKilled | Self::Ttin)
    }
}

/// One cell of the matrix.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Plan {
    pub trouble: Trouble,
    pub phase: Phase,
    pub who: Who,
    pub venue: Venue,
}

/// What is to come of it.
#[derive(Clone, Copy, Debug)]
pub struct Expected {
    pub outcome: EpisodeOutcome,
    /// What the report's faults say; empty where there is none.
    pub words: &'static str,
    /// For so long it is borne after it began, nanoseconds; `None` where it ends nothing.
    pub borne_ns: Option<i64>,
    /// Whether torque was given.
    pub armed: bool,
    /// Whether the arm goes to rest before the safe action.
    pub rests: bool,
}

/// What the runtime declares for the default configuration and the arms here.
pub const FEEDBACK_NS: i64 = 500_000_000;
pub const TRANSIENT_NS: i64 = 200_000_000;
pub const IMAGE_NS: i64 = 500_000_000;
pub const TELEOP_NS: i64 = 3_000_000_000;
/// What the cells here declare.
pub const ANSWER_NS: i64 = 400_000_000;
/// Of scripted answers.
pub const LATENCY_TICKS: i64 = 2;

impl Plan {
    /// Why there is no such cell, whatever the venue.
    pub fn cannot_occur(&self) -> Option<&'static str> {
        use Phase::{Arming, FirstTick, HandOver, WayToRest, WayToStart};
        let Self { trouble, phase, who, .. } = *self;
        let has_teleoperator = matches!(who, Who::Teleoperator | Who::Supervised);
        let is_way = matches!(phase, WayToStart | WayToRest);
        if phase == HandOver && who != Who::Supervised {
            return Some("one alone hands over to nobody");
        }
        if phase == WayToStart && who == Who::Teleoperator {
            return Some("a teleoperator begins where the robot is");
        }
        if matches!(trouble, Trouble::EnableHalf | Trouble::EnableHangs) && phase != Arming {
            return Some("torque goes on while arming, and never again");
        }
        if matches!(trouble, Trouble::WriteFails | Trouble::WriteLost | Trouble::WritePartial | Trouble::WriteHangs) && phase == Arming {
            return Some("no goal is sent while arming but the driver's own, in enable");
        }
        if trouble.is_policys() {
            if who == Who::Teleoperator {
                return Some("there is no policy");
            }
            if phase == WayToRest {
                return Some("nobody is asked on the way to rest");
            }
        }
        if trouble.is_teleoperators() {
            if !has_teleoperator {
                return Some("there is no teleoperator");
            }
            if is_way || who == Who::Supervised && matches!(phase, Arming | FirstTick) {
                return Some("he is not asked before it is his turn, nor on a way");
            }
            if phase == Arming && trouble == Trouble::TeleopNan {
                return Some("nothing that he says is used while arming");
            }
        }
        if trouble.is_judges() && (phase == Arming || is_way) {
            return Some("the judge is asked after a tick of the episode only");
        }
        if trouble.is_sinks() && is_way {
            return Some("no frame is published on a way");
        }
        if trouble == Trouble::SinkHangs && phase == Arming {
            return Some("nothing is armed before every sink has begun");
        }
        if trouble.is_cameras() && phase == WayToRest {
            return Some("no camera is looked through on the way to rest");
        }
        if trouble == Trouble::CameraHangs && phase == Arming {
            return Some("cameras are looked through before torque goes on");
        }
        None
    }

    /// Why it is not run in this venue.
    pub fn is_elsewhere(&self) -> Option<&'static str> {
        let Self { trouble, phase, who, venue } = *self;
        let (beside, lost) = (trouble.hangs_beside(), trouble.needs_watchdog());
        match venue {
            Venue::Model(_) | Venue::Simulator(_) if beside => Some("on a mock clock time stands while a call hangs; run in real time"),
            Venue::Model(_) | Venue::Simulator(_) | Venue::Live(_) if lost => {
                Some("in this process it would end the test, or nobody would act; run in a process with a watchdog")
            }
            Venue::Model(_) | Venue::Simulator(_) if trouble.is_teleoperators() && phase == Phase::Arming => {
                Some("on a mock clock he is first asked at tick 0; run in real time")
            }
            Venue::Simulator(_) if who == Who::Sync => Some("synchronous inference moves the simulated arm as asynchronous does"),
            // Each rate has those whom it is for.
            Venue::Simulator(rate_hz) if (rate_hz > 30) != (who == Who::Supervised) => Some("at the other rate"),
            Venue::Live(_) if !beside && !trouble.is_teleoperators() => Some("in real time it is as on a mock clock"),
            Venue::Live(_) if who == Who::Sync && !trouble.is_policys() => Some("who answers how matters to a policy's faults only"),
            Venue::Process(_) if !lost && !trouble.is_signal() && trouble != Trouble::StopFails => {
                Some("in a process of its own it is as in this one")
            }
            _ => None,
        }
    }

    pub fn expected(&self) -> Expected {
        use Trouble as T;
        let Self { trouble, phase, venue, .. } = *self;
        let (arming, to_rest) = (phase == Phase::Arming, phase == Phase::WayToRest);
        let tick_ns = 1_000_000_000 / i64::from(venue.rate_hz());
        // What breaks on the way to rest doesn't change how the episode ended.
        let broken = if to_rest { EpisodeOutcome::Ended } else { EpisodeOutcome::Fault };
        let stopped = if to_rest { EpisodeOutcome::Ended } else { EpisodeOutcome::Interrupted };
        let fault = |words, borne_ns| Expected { outcome: broken, words, borne_ns: Some(borne_ns), armed: true, rests: false };
        let before_torque = |words, borne_ns| Expected { armed: false, ..fault(words, borne_ns) };
        let stop = Expected { outcome: stopped, words: "", borne_ns: Some(0), armed: true, rests: false };
        let borne = Expected { outcome: EpisodeOutcome::Ended, words: "", borne_ns: None, armed: true, rests: true };
        let answer_ns = if matches!(phase, Phase::Arming | Phase::WayToStart) { 0 } else { LATENCY_TICKS * tick_ns };
        match trouble {
            T::ReadFails if arming => fault("reading the robot before it is given torque", 0),
            T::ReadMissing if arming => fault("is not known where the robot is given torque", 0),
            T::ReadGarbage if arming => fault("is elsewhere at each reading", 0),
            T::ReadFails | T::ReadMissing | T::ReadStale | T::ReadGarbage => fault("has not been known for", FEEDBACK_NS),
            T::ReadLost | T::WriteLost => fault("the robot is lost", 0),
            T::ReadWild | T::TeleopNan => borne,
            T::WriteFails => fault("no answer", TRANSIENT_NS),
            T::WritePartial => fault("some of its motors were not reached", TRANSIENT_NS),
            T::StopFailsOnce => stop,
            T::StopFails => Expected { words: "ending in the safe action", ..stop },
            T::EnableHalf => fault("giving the robot torque", 0),
            T::DriverPanics => Expected { outcome: EpisodeOutcome::Fault, ..fault("the control panicked", 0) },
            // Five seconds are given for the first image.
            T::CameraFreezes if arming => before_torque("its newest image is", 5_000_000_000),
            T::CameraFreezes => fault("its newest image is", IMAGE_NS),
            T::CameraGone if arming => before_torque("unplugged", 0),
            T::CameraGone => fault("unplugged", 0),
            T::PolicyNan if arming => before_torque("NaN for", 0),
            T::PolicyNan => fault("NaN for", answer_ns),
            T::PolicyPanics if arming => before_torque("the policy panicked", 0),
            T::PolicyPanics => fault("the policy panicked", answer_ns),
            T::PolicyHangs if arming => before_torque("no answer after", ANSWER_NS),
            T::PolicyHangs => fault("no answer after", ANSWER_NS),
            T::TeleopLost if arming => before_torque("the teleoperator is lost", 0),
            T::TeleopLost => fault("the teleoperator is lost", 0),
            T::TeleopPanics if arming => before_torque("the teleoperator panicked", 0),
            T::TeleopPanics => fault("the teleoperator panicked", 0),
            T::TeleopHangs if arming => before_torque("it has said nothing for", TELEOP_NS),
            T::TeleopHangs => fault("it has said nothing for", TELEOP_NS),
            T::JudgePanics => fault("the judge panicked", 0),
            T::SinkFails if arming => before_torque("the disk is full", 0),
            T::SinkFails => fault("the disk is full", 0),
            T::SinkPanics if arming => before_torque("the sink panicked", 0),
            T::SinkPanics => fault("the sink panicked", 0),
            // Nothing comes of them, so a stop is asked for.
            T::JudgeHangs | T::SinkHangs => stop,
            T::Int | T::Term | T::Tstp | T::Hup => Expected { rests: true, borne_ns: None, ..stop },
            T::IntTwice | T::Quit => stop,
            // The watchdog's: see the processes.
            T::ReadHangs | T::WriteHangs | T::StopHangs | T::StopPanics | T::EnableHangs | T::CameraHangs => stop,
            T::Ttin | T::Kill | T::Freeze | T::WatchdogKilled => stop,
        }
    }
}
