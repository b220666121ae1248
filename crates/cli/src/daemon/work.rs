//! From what somebody asks for to a verb's session on the daemon's robot. What is asked for becomes the verb's own options, read as
//! from a command line, so that each default and each check is the verb's.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::sync::atomic::Ordering::SeqCst;
use std::sync::mpsc::{RecvTimeoutError, channel};
use std::time::Duration;

use anyhow::{Context, bail};
use clap::FromArgMatches as _;
use sinew_core::service::{
    CalibratedArm, Mode, Record, Refusal, Replay, Rollout, RolloutStrategy, Teleop as TeleopWork, Work, WorkLeader, WorkState,
};
use sinew_core::{FrameSink, Identity, Timestamp};
use sinew_runtime::{AsItIs, StopFlag, TeleopThread};

use super::asked::{check_counts, check_instruction, checked};
use super::led_by_page::LedByPage;
use super::{Current, Owned, Viewer, lock, store};
use crate::args::{self, CalibrateArgs, Cli, Command, DaemonArgs, Misuse, RecordArgs, ReplayArgs, RolloutArgs, Teleop, TeleopArgs};
use crate::arm::Arm;
use crate::commands::record::{Set, record};
use crate::commands::replay::{Recorded, again};
use crate::commands::rollout::Setting;
use crate::commands::teleop::follow;
use crate::host::Host;
use crate::led::{FOR_EVER, Human};
use crate::rig::{Rig, Scenario};
use crate::text::note;
use crate::{Done, hardware, led, source};

/// Between two looks at whether what is prepared is to end.
const LOOK: Duration = Duration::from_millis(50);
/// More works than this are not prepared at once: one that was stopped may still wait for its server, or load its policy.
const MOST_PREPARING: usize = 4;

/// Something to be done on the robot's thread.
pub enum Job {
    Session(Session),
    Calibrate(Box<CalibrateArgs>),
    Limp(Box<Arm>),
}

/// Something that leaves the robot alone, and is done beside its thread; whether it was ended before its end.
type Beside = Box<dyn FnOnce(&Owned, &StopFlag) -> anyhow::Result<bool> + Send>;

/// Something to be done with a robot that is connected.
pub enum Session {
    Teleop(Box<TeleopArgs>, WorkLeader),
    Record(Box<RecordArgs>, WorkLeader),
    Rollout(Box<RolloutArgs>, Option<WorkLeader>),
    Replay(Box<ReplayArgs>),
}

/// What the daemon's robot is, and whether its own leader can be one.
pub fn setting(args: &DaemonArgs) -> anyhow::Result<Setting> {
    if let Some(Teleop::Device(kind)) = &args.leader.teleop
        && kind.needs_keys()
    {
        bail!(Misuse(
            "the daemon has no terminal whose keys could move the robot; expected a leader arm or a gamepad as --teleop".to_owned()
        ));
    }
    if args.hardware.port.is_empty() {
        return Ok(Setting::Simulator(Box::new(Scenario::of(&args.rig)?)));
    }
    let robot = hardware::describe_unit(&args.rig.robot, &args.hardware, &args.camera)?;
    if args.leader.teleop.is_some() {
        led::check(&args.leader, &robot)?;
    }
    Ok(Setting::Hardware(Box::new(robot)))
}

/// The options of a verb, from the words of its command line.
pub(super) fn parsed(words: Vec<String>) -> Result<Command, Refusal> {
    let bad = |error: String| Refusal::Bad(super::words::of_the_api(error.trim().trim_start_matches("error: ")));
    let line = std::iter::once("sinew".to_owned()).chain(words);
    let matches = args::command().try_get_matches_from(line).map_err(|error| bad(first_line(&error)))?;
    let cli = Cli::from_arg_matches(&matches).map_err(|error| bad(first_line(&error)))?;
    let command = cli.command.ok_or_else(|| Refusal::Bad("expected a verb".to_owned()))?;
    command.check().map_err(|misuse| bad(misuse.to_string()))?;
    Ok(command)
}

fn first_line(error: &clap::Error) -> String {
    error.render().to_string().lines().next().unwrap_or_default().to_owned()
}

/// `--name=value`, where there is one.
pub(super) fn option<T: ToString>(words: &mut Vec<String>, name: &str, value: Option<T>) {
    words.extend(value.map(|value| format!("--{name}={}", value.to_string())));
}

impl Owned {
    fn is_simulated(&self) -> bool {
        matches!(self.setting, Setting::Simulator(_))
    }

    /// The instruction of a work, else the daemon's own.
    fn told_or<'a>(&'a self, given: Option<&'a str>) -> Option<&'a str> {
        let own = if self.is_simulated() { self.args.rig.instruction.as_deref() } else { self.args.rig.told().ok().flatten() };
        given.map(str::trim).filter(|text| !text.is_empty()).or(own)
    }

    /// Whether somebody like that can lead this robot.
    fn check_leader(&self, leader: WorkLeader) -> Result<(), Refusal> {
        match leader {
            WorkLeader::Remote => Ok(()),
            WorkLeader::Scripted if self.is_simulated() => Ok(()),
            WorkLeader::Scripted => Err(Refusal::Bad("a script knows the simulator's world, and this robot is a real one".to_owned())),
            WorkLeader::Own if self.args.leader.teleop.is_some() => Ok(()),
            WorkLeader::Own => Err(Refusal::Bad("the daemon was started without --teleop; expected the leader remote".to_owned())),
        }
    }

    /// Begins a work, or says why not.
    pub fn start_work(self: &Arc<Self>, work: Work) -> Result<(), Refusal> {
        let mode = work.mode();
        let mut shown = WorkState::default();
        let mut is_led_remotely = false;
        let mut hears = |leader: WorkLeader| is_led_remotely |= leader == WorkLeader::Remote;
        let mut beside: Option<Beside> = None;
        let job = match work {
            Work::Teleop(work) => {
                hears(work.leader);
                Some(Job::Session(self.teleop(&work)?))
            }
            Work::Record(work) => {
                hears(work.leader);
                shown.dataset = Some(work.dataset.clone());
                Some(Job::Session(self.record(&work)?))
            }
            Work::Rollout(work) => {
                leader_of(&work).into_iter().for_each(hears);
                (shown.dataset, shown.policy) =
                    (work.dataset.clone(), Some(work.policy.clone().unwrap_or_else(|| store::DEMONSTRATION.to_owned())));
                Some(Job::Session(self.rollout(&work)?))
            }
            Work::Replay(work) => {
                shown.dataset = Some(work.dataset.clone());
                Some(Job::Session(self.replay(&work)?))
            }
            Work::Calibrate(work) => {
                let args = Box::new(self.calibration(&work)?);
                match work.arm {
                    CalibratedArm::Robot => Some(Job::Calibrate(args)),
                    // The robot is looked at meanwhile.
                    CalibratedArm::Leader => {
                        beside = Some(Box::new(move |owned, stop| {
                            Ok(owned.calibrate(&args, CalibratedArm::Leader, &mut None, stop)? != Done::Ok)
                        }));
                        None
                    }
                }
            }
            Work::Limp(work) => {
                let arm = Box::new(self.arm_on_ports(work.arm)?);
                match work.arm {
                    CalibratedArm::Robot => Some(Job::Limp(arm)),
                    CalibratedArm::Leader => {
                        beside = Some(Box::new(move |owned, _| Ok(owned.go_limp(&arm, CalibratedArm::Leader, &mut None)? != Done::Ok)));
                        None
                    }
                }
            }
            Work::Eval(work) => {
                shown.policy = Some(work.policy.clone().unwrap_or_else(|| store::DEMONSTRATION.to_owned()));
                let words = self.eval(&work)?;
                beside = Some(Box::new(move |owned, stop| owned.evaluate(&words, stop)));
                None
            }
        };
        shown.episodes = match &job {
            Some(Job::Session(Session::Record(args, _))) => args.episodes,
            Some(Job::Session(Session::Rollout(args, _))) => args.episodes(),
            Some(Job::Session(Session::Teleop(..) | Session::Replay(_))) => 1,
            Some(Job::Calibrate(..) | Job::Limp(..)) | None => 0,
        };
        let needs_robot = matches!(job, Some(Job::Session(_)));
        let stop = StopFlag::new();
        // The board's lock is never asked for by who has that of the work.
        let why = self.board.state().trouble.clone().unwrap_or_default();
        {
            let mut current = lock(&self.current);
            if let Some(current) = &*current {
                return Err(Refusal::Conflict(format!("{:?} runs; stop it first", current.mode).to_lowercase()));
            }
            if self.is_over.load(SeqCst) {
                return Err(Refusal::Conflict("the daemon ends".to_owned()));
            }
            if self.is_emergency.load(SeqCst) {
                return Err(Refusal::Conflict("there is an emergency; clear it first".to_owned()));
            }
            if needs_robot && !self.is_connected.load(SeqCst) {
                return Err(Refusal::Conflict(format!("the robot is not connected: {why}")));
            }
            self.goals.forget();
            if let Ok(hands) = &self.hands {
                hands.forget();
            }
            *current = Some(Current {
                mode,
                stop: stop.clone(),
                desk: None,
                progress: None,
                is_led_remotely,
                work: shown,
                between: 0,
                between_since: Timestamp::ZERO,
                rate_hz: f64::from(self.setting.robot().control_rate_hz),
                reports: Vec::new(),
                kept: 0,
                policy: None,
                has_acted: false,
                policy_fault: None,
                calibration: None,
                reply: None,
                result: None,
            });
        }
        self.show();
        if let Some(job) = job {
            *lock(&self.asked) = Some(job);
            self.is_asked.notify_all();
        }
        if let Some(does) = beside {
            let owned = self.clone();
            let started = std::thread::Builder::new().name("beside".into()).spawn(move || {
                let ended = catch_unwind(AssertUnwindSafe(|| does(&owned, &stop)));
                owned.ends(ended.unwrap_or_else(|_| Err(anyhow::anyhow!("it panicked; the log says where"))));
            });
            if let Err(error) = started {
                self.ends(Err(error.into()));
            }
        }
        Ok(())
    }

    fn teleop(&self, work: &TeleopWork) -> Result<Session, Refusal> {
        self.check_leader(work.leader)?;
        checked("seconds", work.seconds, 1e-9)?;
        // In the simulator the verb is for nobody; here somebody can look.
        let mut words = vec!["teleop".to_owned(), "--port=daemon".to_owned(), "--teleop=gamepad".to_owned()];
        option(&mut words, "seconds", work.seconds);
        match parsed(words)? {
            Command::Teleop(mut args) => {
                args.realtime = self.args.realtime.clone();
                args.json = false;
                Ok(Session::Teleop(Box::new(args), work.leader))
            }
            _ => Err(Refusal::Bad("expected teleop".to_owned())),
        }
    }

    fn record(&self, work: &Record) -> Result<Session, Refusal> {
        self.check_leader(work.leader)?;
        check_counts(work.episodes, work.seed)?;
        check_instruction(work.instruction.as_deref())?;
        let root = self.place_of(&work.dataset)?;
        let told = self.told_or(work.instruction.as_deref());
        if told.is_none() && !self.is_simulated() {
            return Err(Refusal::Bad("recording: expected an instruction, which is recorded with every frame".to_owned()));
        }
        let mut words = vec!["record".to_owned(), format!("--out={}", root.display())];
        option(&mut words, "episodes", work.episodes);
        option(&mut words, "seed", work.seed);
        if root.join("meta/info.json").exists() {
            words.extend(["--resume".to_owned(), "--unfinished=recover".to_owned()]);
        }
        match parsed(words)? {
            Command::Record(mut args) => {
                args.rig = args::RigArgs { instruction: told.map(str::to_owned), task: None, seed: args.rig.seed, ..self.args.rig.clone() };
                (args.hardware, args.camera) = (self.args.hardware.clone(), self.args.camera.clone());
                (args.realtime, args.real_time) = (self.args.realtime.clone(), true);
                args.episode_time = checked("episode_s", work.episode_s, 0.1)?;
                args.reset_time = checked("reset_s", work.reset_s, 0.0)?;
                Ok(Session::Record(args, work.leader))
            }
            _ => Err(Refusal::Bad("expected record".to_owned())),
        }
    }

    fn rollout(&self, work: &Rollout) -> Result<Session, Refusal> {
        let leader = leader_of(work);
        leader.map_or(Ok(()), |leader| self.check_leader(leader))?;
        if let Some(policy) = &work.policy {
            store::check_policy(policy)?;
            store::check_says_names(policy)?;
        }
        check_counts(work.episodes, work.seed)?;
        check_instruction(work.instruction.as_deref())?;
        checked("seconds", work.seconds, 0.0)?;
        checked("reset_s", work.reset_s, 0.0)?;
        if work.strategy == RolloutStrategy::Dagger && work.dataset.is_none() {
            return Err(Refusal::Bad("the strategy dagger records what somebody does who takes over: expected a dataset".to_owned()));
        }
        let told = self.told_or(work.instruction.as_deref());
        if told.is_none() && !self.is_simulated() && work.dataset.is_some() {
            return Err(Refusal::Bad("rolling out: expected an instruction, which is recorded with every frame".to_owned()));
        }
        let mut words = vec!["rollout".to_owned(), "--no-rerun".to_owned(), "--pace=real".to_owned()];
        option(&mut words, "policy", work.policy.as_deref());
        option(&mut words, "instruction", told);
        option(&mut words, "seed", work.seed);
        let strategy = match work.strategy {
            RolloutStrategy::Base => "base",
            RolloutStrategy::Episodic => "episodic",
            RolloutStrategy::Highlight => "highlight",
            RolloutStrategy::Dagger => "dagger",
        };
        words.push(format!("--strategy={strategy}"));
        // As with the verb: an episode of the simulator ends by itself, and one of the real world does not.
        option(&mut words, "episodes", work.episodes);
        option(&mut words, "seconds", work.seconds);
        option(&mut words, "reset-time", work.reset_s);
        match &work.dataset {
            Some(name) => {
                let root = self.place_of(name)?;
                words.push(format!("--out={}", root.display()));
                if root.join("meta/info.json").exists() {
                    words.extend(["--resume".to_owned(), "--unfinished=recover".to_owned()]);
                }
            }
            None => words.push("--no-record".to_owned()),
        }
        if work.strategy == RolloutStrategy::Dagger {
            words.push("--teleop=scripted".to_owned());
        }
        match parsed(words)? {
            Command::Rollout(mut args) => {
                let seed = args.rig.seed;
                args.rig = args::RigArgs { seed, instruction: told.map(str::to_owned), task: None, ..self.args.rig.clone() };
                (args.hardware, args.camera) = (self.args.hardware.clone(), self.args.camera.clone());
                args.control.realtime = self.args.realtime.clone();
                // On a real arm more has to be said.
                args.check().map_err(|misuse| Refusal::Bad(super::words::of_the_api(&misuse.to_string())))?;
                Ok(Session::Rollout(args, leader))
            }
            _ => Err(Refusal::Bad("expected rollout".to_owned())),
        }
    }

    fn replay(&self, work: &Replay) -> Result<Session, Refusal> {
        let dataset = self.dataset_or_hub(&work.dataset)?;
        match parsed(vec!["replay".to_owned(), format!("--episode={}", work.episode), "--".to_owned(), dataset])? {
            Command::Replay(mut args) => {
                args.hardware = self.args.hardware.clone();
                args.realtime = self.args.realtime.clone();
                Ok(Session::Replay(args))
            }
            _ => Err(Refusal::Bad("expected replay".to_owned())),
        }
    }

    /// Does what may wait for a network or a disk beside the robot's thread. When a stop is asked for it is left to itself, and there
    /// is nothing.
    ///
    /// # Errors
    /// Its own, or when there is no thread for it.
    pub fn prepare<T: Send + 'static>(
        &self,
        stop: &StopFlag,
        prepare: impl FnOnce() -> anyhow::Result<T> + Send + 'static,
    ) -> anyhow::Result<Option<T>> {
        let mut has_said = false;
        while Arc::strong_count(&self.preparing) > MOST_PREPARING {
            if stop.is_requested() {
                return Ok(None);
            }
            if !std::mem::replace(&mut has_said, true) {
                note!(
                    "works that were stopped still wait for their servers, or load their policies; this one begins when one of them has ended"
                );
            }
            std::thread::sleep(LOOK);
        }
        let (sender, prepared) = channel();
        let is_there = self.preparing.clone();
        let thread = std::thread::Builder::new().name("preparing".into()).spawn(move || {
            let _is_there = is_there;
            // Nobody may wait for it any more.
            drop(sender.send(prepare()));
        });
        thread.context("starting the thread that prepares it")?;
        loop {
            match prepared.recv_timeout(LOOK) {
                Ok(prepared) => return prepared.map(Some),
                Err(RecvTimeoutError::Timeout) if stop.is_requested() => return Ok(None),
                Err(RecvTimeoutError::Timeout) => {}
                Err(RecvTimeoutError::Disconnected) => bail!("it panicked; the log says where"),
            }
        }
    }

    /// Does a job, with the robot where it is connected, and gives it back where it is still of use.
    pub fn work(self: &Arc<Self>, rig: Option<Rig>, job: Job) -> Option<Rig> {
        let Some(stop) = lock(&self.current).as_ref().map(|current| current.stop.clone()) else { return rig };
        // A robot that panicked is connected anew.
        let mut given = rig;
        let done = catch_unwind(AssertUnwindSafe(|| match job {
            Job::Session(session) => self.run(session, &mut given, stop),
            Job::Calibrate(args) => self.calibrate(&args, CalibratedArm::Robot, &mut given, &stop),
            Job::Limp(arm) => self.go_limp(&arm, CalibratedArm::Robot, &mut given),
        }));
        let done = done.unwrap_or_else(|_| Err(anyhow::anyhow!("it panicked; the log says where")));
        self.policies.rest();
        self.ends(done.map(|done| done != Done::Ok));
        crate::heaps::give_back();
        match given {
            Some(rig) => Some(rig),
            None if self.is_over.load(SeqCst) => None,
            None => self.told(self.connect()),
        }
    }

    fn run(self: &Arc<Self>, session: Session, given: &mut Option<Rig>, stop: StopFlag) -> anyhow::Result<Done> {
        let mut viewer = Viewer(self);
        let guest: Option<(&mut dyn FrameSink, &dyn crate::host::Listener)> = Some((&mut viewer, &**self));
        let host = Host { clock: self.clock.clone(), stop, guest };
        // Whoever fails to come back with it has broken it.
        let mut rig = given.take().context("the robot is not connected")?;
        let done = match session {
            Session::Teleop(args, leader) => {
                let human = self.human(leader, &rig, self.args.rig.seed, false);
                human.and_then(|mut human| follow(&args, &mut rig, &mut human, host))
            }
            Session::Record(args, leader) => {
                let ready = self.scene(&args, &mut rig).and_then(|name| Ok((name, self.human(leader, &rig, args.rig.seed, false)?)));
                match ready {
                    Err(error) => Err(error),
                    Ok((name, human)) => {
                        let task = if self.is_simulated() { args.rig.instruction.clone() } else { None };
                        let mut set = Set { rig, human, task, name };
                        let done = record(&args, &mut set, host);
                        rig = set.rig;
                        done
                    }
                }
            }
            Session::Rollout(args, leader) => self.policy_works(&args, leader, &mut rig, host),
            Session::Replay(args) => self.repeat(&args, &mut rig, host),
        };
        *given = Some(rig);
        done
    }

    /// Sets the scene of a recording; says what scripts call its task.
    fn scene(&self, args: &RecordArgs, rig: &mut Rig) -> anyhow::Result<String> {
        crate::recording::may_begin(&args.out, rig.robot.description(), &args.recording, true)?;
        if let Setting::Simulator(scenario) = &self.setting {
            return Ok(scenario.task.name().to_owned());
        }
        let task = args.rig.instruction.clone().unwrap_or_default();
        let ticks = (args.episode_s() * f64::from(rig.robot.description().control_rate_hz)).ceil() as u64;
        rig.environment = Box::new(AsItIs { task: task.clone(), ticks });
        Ok(task)
    }

    fn repeat(&self, args: &ReplayArgs, rig: &mut Rig, host: Host<'_>) -> anyhow::Result<Done> {
        let (asked, robot) = (args.clone(), rig.robot.description().clone());
        let recorded = self.prepare(&host.stop, move || Recorded::of(&asked, &source::open_dataset_streaming(&asked.dataset)?, &robot))?;
        let Some(recorded) = recorded else { return Ok(Done::Interrupted) };
        let scene = AsItIs { task: recorded.instruction.clone(), ticks: recorded.ticks };
        let before = std::mem::replace(&mut rig.environment, Box::new(scene));
        let done = again(args, recorded, None, rig, host);
        rig.environment = before;
        done
    }

    /// Whoever is to lead the robot, alone or beside a policy.
    pub(super) fn human(&self, leader: WorkLeader, rig: &Rig, seed: u64, has_policy: bool) -> anyhow::Result<Human> {
        let robot = rig.robot.description();
        match leader {
            WorkLeader::Scripted => rig.scripted(seed),
            WorkLeader::Own => {
                let priority = self.args.realtime.request().priority;
                Human::of(&self.args.leader, robot, &self.args.hardware, (priority, has_policy), self.clock.clone())
            }
            WorkLeader::Remote => {
                let led = LedByPage::new(self.goals.clone(), self.hands.as_ref().ok(), robot)?;
                let way = Identity { width: robot.action_channels().len() };
                let thread = TeleopThread::spawn(Box::new(led), way, robot).context("starting the teleoperator's thread")?;
                Ok(Human::without_arm(thread.patient(FOR_EVER)))
            }
        }
    }

    /// Whether the mode's robot is led by the operator's socket now.
    pub fn check_led_remotely(&self) -> Result<(), Refusal> {
        if lock(&self.current).as_ref().is_some_and(|current| current.is_led_remotely && current.mode != Mode::Eval) {
            return Ok(());
        }
        Err(Refusal::Conflict("nothing runs that is led by goals or hands: start a work with the leader remote".to_owned()))
    }
}

/// Who takes over: with the strategy that is for that, somebody has to.
fn leader_of(work: &Rollout) -> Option<WorkLeader> {
    work.leader.or_else(|| (work.strategy == RolloutStrategy::Dagger).then_some(WorkLeader::Remote))
}
