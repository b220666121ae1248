//! Where a human sits who watches a run: keys, pedals and commands, and what they mean.

use std::io::BufRead;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use anyhow::Context;
use sinew_core::Actor;
use sinew_core::service::{EpisodeWish, WishName};
use sinew_drivers::Pedal;
use sinew_drivers::teleop::TeleopEvent;
use sinew_runtime::{Operator, StopFlag, StopLevel};

use crate::args::{StrategyMode, in_words};
use crate::prompt::Prompt;
use crate::terminal::{Key, Keys, TerminalKeys};
use crate::text::note;

/// How often a wait looks around.
const LOOK: Duration = Duration::from_millis(20);

/// What LeRobot's pedal sends for its three actions, and one more: codes of Linux.
const KEY_A: u16 = 30;
const KEY_B: u16 = 48;
const KEY_C: u16 = 46;
const KEY_E: u16 = 18;

/// The commands of `--interactive`.
const COMMANDS: [&str; 13] = [
    "/start",
    "/stop",
    "/instruction ",
    "/next",
    "/again",
    "/pause",
    "/correct",
    "/save",
    "/emergency",
    "/clear",
    "/help",
    "/quit",
    "/task ",
];

/// What they do.
const HELP: &str = "/start              the policy acts; before it nothing moves
/stop               the robot stands still, until /start
/instruction TEXT   the policy is told TEXT from now on, which begins a new episode in the same scene (/task is the same)
/next               this episode ends and is kept, and the next waits for /start (/reset is the same)
/again              this episode ends, is dropped, and is done again
/pause              pause, or go on
/correct            with --strategy dagger, when paused: the teleoperator acts, or no longer
/save               with --strategy highlight: keep what was just seen and what follows, until /save again
/emergency          stop now; nothing runs until /clear
/clear              the emergency is over
/quit               end, in order";

/// What he can do between two episodes.
const BETWEEN: &str = "\nset up the next episode: → goes on, ← drops the one before and does it again";

/// What a human wants, whatever he said it with.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Wish {
    /// The policy acts.
    Start,
    /// The arm stands still.
    Hold,
    /// The episode ends and is kept; so does the time between episodes.
    Next,
    /// The episode ends, is dropped, and done again.
    Again,
    Quit,
    Pause,
    Correct,
    Save,
    Upload,
    Emergency,
    Clear,
    Task(String),
}

/// `strategy` is a rollout's; in a recording there is no policy to pause.
fn wish_of_key(strategy: Option<StrategyMode>, key: Key) -> Option<Wish> {
    Some(match (strategy, key) {
        (_, Key::Right) => Wish::Next,
        (_, Key::Left) => Wish::Again,
        (_, Key::Escape) => Wish::Quit,
        (Some(_), Key::Char(' ')) => Wish::Pause,
        (_, Key::Char('e')) => Wish::Emergency,
        (_, Key::Char('c')) => Wish::Clear,
        (Some(StrategyMode::Dagger), Key::Tab) => Wish::Correct,
        (Some(StrategyMode::Highlight), Key::Char('s')) => Wish::Save,
        (Some(StrategyMode::Dagger), Key::Enter) | (Some(StrategyMode::Highlight), Key::Char('h')) => Wish::Upload,
        _ => return None,
    })
}

/// The same, where other keys move the robot: none of these does.
fn wish_of_key_beside(strategy: Option<StrategyMode>, key: Key) -> Option<Wish> {
    Some(match (strategy, key) {
        (_, Key::Char(' ')) => Wish::Emergency,
        (_, Key::Char('c')) => Wish::Clear,
        (_, Key::Char('n')) => Wish::Next,
        (_, Key::Char('b')) => Wish::Again,
        (_, Key::Escape) => Wish::Quit,
        (Some(_), Key::Char('j')) => Wish::Pause,
        (Some(StrategyMode::Dagger), Key::Char('h')) => Wish::Correct,
        (Some(StrategyMode::Highlight), Key::Char('m')) => Wish::Save,
        _ => return None,
    })
}

/// In a recording there is no policy to pause: a pedal then says what the arrows and esc do.
fn wish_of_press(strategy: Option<StrategyMode>, code: u16) -> Option<Wish> {
    Some(match (strategy, code) {
        (None, KEY_A) => Wish::Next,
        (None, KEY_B) => Wish::Again,
        (None, KEY_C) => Wish::Quit,
        (Some(_), KEY_A) => Wish::Pause,
        (Some(_), KEY_B) => Wish::Correct,
        (Some(_), KEY_C) => Wish::Upload,
        (_, KEY_E) => Wish::Emergency,
        _ => return None,
    })
}

fn wish_of_command(line: &str) -> Option<Wish> {
    let (command, rest) = line.trim().split_once(' ').unwrap_or((line.trim(), ""));
    Some(match (command, rest.trim()) {
        ("/start", "") => Wish::Start,
        ("/stop", "") => Wish::Hold,
        ("/reset" | "/next", "") => Wish::Next,
        ("/again", "") => Wish::Again,
        ("/quit", "") => Wish::Quit,
        ("/pause", "") => Wish::Pause,
        ("/correct", "") => Wish::Correct,
        ("/save", "") => Wish::Save,
        ("/emergency", "") => Wish::Emergency,
        ("/clear", "") => Wish::Clear,
        ("/task" | "/instruction", task) if !task.is_empty() => Wish::Task(task.to_owned()),
        _ => return None,
    })
}

/// Whether a device has what only keyboards have.
fn is_keyboard(path: &Path) -> bool {
    const KEY_LEFT_SHIFT: u16 = 42;
    let Ok(path) = path.canonicalize() else { return false };
    let devices = sinew_drivers::teleop::input_devices().unwrap_or_default();
    devices.iter().any(|device| device.path == path && device.has_key(KEY_LEFT_SHIFT))
}

/// What has been wished for. Clones share it.
#[derive(Clone)]
pub struct Desk {
    operator: Operator,
    stop: StopFlag,
    strategy: Option<StrategyMode>,
    has_episodes: bool,
    state: Arc<State>,
}

#[derive(Default)]
struct State {
    started: AtomicBool,
    /// A run has begun, and nobody has asked for its end.
    running: AtomicBool,
    next: AtomicBool,
    again: AtomicBool,
    quit: AtomicBool,
    /// No more commands can come.
    deaf: AtomicBool,
    /// Keys of the terminal move the robot.
    keys_move: AtomicBool,
    /// Wishes come as commands.
    commands: AtomicBool,
}

impl Desk {
    /// `strategy` is a rollout's.
    pub fn new(operator: Operator, stop: StopFlag, strategy: Option<StrategyMode>) -> Self {
        Self { operator, stop, strategy, has_episodes: true, state: Arc::default() }
    }

    /// Nothing is recorded, so that there is no episode to end or to do again.
    #[must_use]
    pub fn without_episodes(self) -> Self {
        Self { has_episodes: false, ..self }
    }

    /// Listens to the keys of the terminal, where there is one, until what is returned is dropped. Those that move a robot go
    /// to `teleop`, and mean nothing else.
    pub fn hear_keys(&self, teleop: Option<TerminalKeys>) -> anyhow::Result<Option<Keys>> {
        let (desk, moves_robot) = (self.clone(), teleop.is_some());
        self.state.keys_move.store(moves_robot, Ordering::Release);
        let meaning = if moves_robot { wish_of_key_beside } else { wish_of_key };
        let pressed = move |key| {
            if let Some(wish) = meaning(desk.strategy, key) {
                desk.fulfil(wish);
            }
        };
        let keys = Keys::start(pressed, teleop)?;
        anyhow::ensure!(
            keys.is_some() || !moves_robot,
            "moving the robot by keys: expected a terminal on standard input that is this process's, found none"
        );
        Ok(keys)
    }

    /// What the keys do, in a line.
    pub fn legend(&self) -> String {
        if self.state.keys_move.load(Ordering::Acquire) {
            let pause = if self.strategy.is_some() { ", j pauses" } else { "" };
            let own = match self.strategy {
                Some(StrategyMode::Dagger) => ", h when paused hands over to the teleoperator and back",
                Some(StrategyMode::Highlight) => ", m begins and ends a highlight",
                _ => "",
            };
            let episodes = if self.has_episodes { ", n ends the episode, b drops it and does it again" } else { "" };
            return format!("space stops in an emergency until c clears it{episodes}{pause}{own}, esc ends");
        }
        let pause = if self.strategy.is_some() { "space pauses, " } else { "" };
        let own = match self.strategy {
            Some(StrategyMode::Dagger) => ", tab when paused hands over to the teleoperator and back",
            Some(StrategyMode::Highlight) => ", s begins and ends a highlight",
            _ => "",
        };
        let episodes = if self.has_episodes { "→ ends the episode, ← drops it and does it again" } else { "" };
        let comma = if own.is_empty() && !self.has_episodes { "" } else { ", " };
        format!("{pause}{episodes}{own}{comma}e stops in an emergency until c clears it, esc ends")
    }

    /// Listens to commands: lines that are edited in a terminal, or come on standard input.
    pub fn hear_commands(&self) -> anyhow::Result<()> {
        self.state.commands.store(true, Ordering::Release);
        let desk = self.clone();
        let prompt = Prompt::open(&COMMANDS)?;
        let listen = move || {
            match prompt {
                // What is pasted can have several.
                Some(mut prompt) => std::iter::from_fn(|| prompt.line()).for_each(|text| text.lines().for_each(|line| desk.obey(line))),
                None => {
                    let lines = std::io::stdin().lock().split(b'\n').map_while(Result::ok);
                    lines.for_each(|line| desk.obey(&String::from_utf8_lossy(&line)));
                }
            }
            desk.state.deaf.store(true, Ordering::Release);
        };
        std::thread::Builder::new().name("commands".into()).spawn(listen).context("starting the thread that reads commands")?;
        Ok(())
    }

    /// Does what `line` says, and answers.
    fn obey(&self, line: &str) {
        let line = line.trim();
        match wish_of_command(line) {
            Some(wish) => {
                let answer = self.answer(&wish);
                self.fulfil(wish);
                if let Some(answer) = answer {
                    note!("{answer}");
                }
            }
            None if line.is_empty() => {}
            None if line == "/instruction" => note!("/instruction needs words: /instruction TEXT"),
            None if line == "/help" => HELP.lines().for_each(|line| note!("{line}")),
            None => note!("{line:?} is no command; /help lists them"),
        }
    }

    /// What is said of a wish that says nothing itself.
    fn answer(&self, wish: &Wish) -> Option<String> {
        let runs = self.state.running.load(Ordering::Acquire);
        let of_other = |strategy: StrategyMode, what: &str| {
            (self.strategy != Some(strategy)).then(|| format!("{what} is for --strategy {}; nothing was done", in_words(&strategy)))
        };
        Some(match wish {
            Wish::Start if self.stop.level() == StopLevel::Emergency => "it starts when the emergency is over: /clear".to_owned(),
            Wish::Start if runs => "the policy acts".to_owned(),
            Wish::Start => "it starts".to_owned(),
            Wish::Hold => "the robot stands still; /start goes on".to_owned(),
            Wish::Next if runs => "the episode ends and is kept; /start begins the next".to_owned(),
            Wish::Again if runs => "the episode ends and is dropped; /start begins it again".to_owned(),
            Wish::Next | Wish::Again => "nothing runs; /start begins".to_owned(),
            Wish::Quit => "ending".to_owned(),
            Wish::Task(task) => format!("the instruction is {task:?} now"),
            Wish::Save => of_other(StrategyMode::Highlight, "/save").unwrap_or_else(|| "marked".to_owned()),
            Wish::Correct | Wish::Pause | Wish::Upload | Wish::Emergency | Wish::Clear => return None,
        })
    }

    /// Listens to the pedal `path`: LeRobot's three codes, and `KEY_E` for an emergency.
    pub fn hear_pedal(&self, path: &Path) -> anyhow::Result<()> {
        let mut pedal = Pedal::open(path)?;
        if is_keyboard(path) {
            note!("{} is a keyboard: its keys a, b, c and e mean what a pedal's do, whoever they are typed for", path.display());
        }
        let desk = self.clone();
        let listen = move || {
            loop {
                match pedal.next_press() {
                    Ok(code) => wish_of_press(desk.strategy, code).into_iter().for_each(|wish| desk.fulfil(wish)),
                    // Who relies on a pedal must not drive without it.
                    Err(error) => {
                        note!("{error}: {}; stopping", error.source);
                        return desk.stop.request(StopLevel::Stop);
                    }
                }
            }
        };
        std::thread::Builder::new().name("pedal".into()).spawn(listen).context("starting the thread that reads the pedal")?;
        Ok(())
    }

    /// What somebody wants with the buttons of the device that he moves the robot with.
    pub fn hear_teleoperator(&self, event: TeleopEvent) {
        match event {
            TeleopEvent::Success => self.fulfil(Wish::Next),
            TeleopEvent::Failure | TeleopEvent::Rerecord => self.fulfil(Wish::Again),
            TeleopEvent::Quit => self.fulfil(Wish::Quit),
            // Only beside a policy is there somebody to take over from.
            TeleopEvent::Intervene(does) if self.strategy == Some(StrategyMode::Dagger) => {
                let actor = if does { Actor::Human } else { Actor::Policy };
                self.operator.set_actor(actor);
                tell(actor);
            }
            TeleopEvent::Intervene(_) => {}
        }
    }

    /// What somebody can wish for now who has no keys.
    pub fn wishes(&self) -> Vec<WishName> {
        let mut wishes = Vec::new();
        if self.has_episodes {
            wishes.extend([WishName::Keep, WishName::Drop]);
        }
        if self.strategy.is_some() {
            wishes.extend([WishName::Pause, WishName::Resume]);
        }
        wishes.extend(match self.strategy {
            Some(StrategyMode::Dagger) => Some(WishName::Correct),
            Some(StrategyMode::Highlight) => Some(WishName::Mark),
            _ => None,
        });
        if self.has_episodes || self.strategy.is_some() {
            wishes.push(WishName::Instruct);
        }
        wishes.push(WishName::Finish);
        wishes
    }

    /// The same as a key or a command; `false` where it has no use.
    pub fn wish(&self, wish: EpisodeWish) -> bool {
        let (name, wish) = match wish {
            EpisodeWish::Keep {} => (WishName::Keep, Wish::Next),
            EpisodeWish::Drop {} => (WishName::Drop, Wish::Again),
            EpisodeWish::Mark {} => (WishName::Mark, Wish::Save),
            EpisodeWish::Pause {} => (WishName::Pause, Wish::Hold),
            EpisodeWish::Resume {} => (WishName::Resume, Wish::Start),
            EpisodeWish::Correct {} => (WishName::Correct, Wish::Correct),
            EpisodeWish::Instruct { instruction } => (WishName::Instruct, Wish::Task(instruction)),
            EpisodeWish::Finish {} => (WishName::Finish, Wish::Quit),
        };
        let has_use = self.wishes().contains(&name);
        if has_use {
            self.fulfil(wish);
        }
        has_use
    }

    fn fulfil(&self, wish: Wish) {
        let Self { operator, stop, state, .. } = self;
        match wish {
            Wish::Next | Wish::Again if !self.has_episodes => {}
            Wish::Start => {
                operator.set_actor(Actor::Policy);
                // In a run it only ends a pause; the next run wants a start of its own.
                if !state.running.load(Ordering::Acquire) {
                    state.started.store(true, Ordering::Release);
                }
            }
            Wish::Hold => operator.set_actor(Actor::Nobody),
            Wish::Next => {
                state.next.store(true, Ordering::Release);
                state.running.store(false, Ordering::Release);
                operator.end_episode(true);
            }
            Wish::Again => {
                state.again.store(true, Ordering::Release);
                state.running.store(false, Ordering::Release);
                operator.end_episode(false);
            }
            Wish::Quit => {
                state.quit.store(true, Ordering::Release);
                operator.end_all();
            }
            Wish::Pause => match operator.toggle_pause() {
                // As in LeRobot, who takes a turn himself gives it back first.
                Actor::Human => note!("\nthe teleoperator acts; {} gives back first", self.key_of_correction()),
                actor => tell(actor),
            },
            Wish::Correct if self.strategy != Some(StrategyMode::Dagger) => {
                let dagger = in_words(&StrategyMode::Dagger);
                note!("\na correction (/correct) is for --strategy {dagger}; nothing was done");
            }
            Wish::Correct => match operator.toggle_correction() {
                Actor::Policy => note!("\nthe policy acts, so that nobody can take over; pause it first"),
                actor => tell(actor),
            },
            Wish::Save => operator.mark(),
            Wish::Upload => note!(
                "\nnothing is uploaded while it runs; afterwards `sinew hub upload` does it, and `sinew record --publish` does it meanwhile"
            ),
            Wish::Emergency => {
                stop.emergency();
                note!("\nemergency stop; nothing runs until it is cleared (c, or /clear)");
            }
            Wish::Clear => {
                if stop.clear_emergency() {
                    note!("\nthe emergency is over");
                } else {
                    note!("\nthere is no emergency");
                }
            }
            Wish::Task(task) => operator.set_task(task),
        }
    }

    /// Whether the human wants no more.
    pub fn has_quit(&self) -> bool {
        self.state.quit.load(Ordering::Acquire)
    }

    /// Waits until the human starts; `false` when he never will.
    pub fn wait_for_start(&self) -> bool {
        loop {
            if self.has_quit() || self.stop.is_requested() {
                return false;
            }
            // Who has said all that he will say may have said this.
            if self.state.started.swap(false, Ordering::AcqRel) {
                break;
            }
            if self.state.deaf.load(Ordering::Acquire) {
                return false;
            }
            std::thread::sleep(LOOK);
        }
        self.state.running.store(true, Ordering::Release);
        true
    }

    fn key_of_correction(&self) -> &'static str {
        if self.state.commands.load(Ordering::Acquire) {
            "/correct"
        } else if self.state.keys_move.load(Ordering::Acquire) {
            "h"
        } else {
            "tab"
        }
    }

    /// An episode begins: who finds the robot paused is told how it goes on.
    pub fn begins(&self) {
        if self.strategy.is_some() && self.operator.actor() == Actor::Nobody {
            let key = if self.state.keys_move.load(Ordering::Acquire) { "j" } else { "space" };
            note!("\nthis episode begins paused; {key} lets the policy act");
        }
    }

    /// A run is over. Who was taking a turn himself has to say so anew.
    pub fn ended(&self) {
        self.state.running.store(false, Ordering::Release);
        if self.operator.actor() == Actor::Human {
            self.operator.set_actor(Actor::Nobody);
        }
    }

    /// Waits until an emergency that there is has been cleared; `false` when the process is to end.
    pub fn wait_for_clearance(&self) -> bool {
        while self.stop.level() == StopLevel::Emergency {
            if self.has_quit() || self.stop.is_abandoned() || self.state.deaf.load(Ordering::Acquire) {
                return false;
            }
            std::thread::sleep(LOOK);
        }
        !self.stop.is_requested()
    }

    /// The time between two episodes, `seconds` or as long as somebody `moves` the robot; whether the human wants to
    /// have the one before again.
    pub fn between(&self, seconds: f64, moves: Option<&mut dyn FnMut() -> bool>) -> bool {
        let Some(moves) = moves else { return self.wait_between(Duration::from_secs_f64(seconds)) };
        note!("{BETWEEN}");
        moves()
    }

    /// Waits for `time`, which the human may cut short; whether he wants to have the episode before again.
    fn wait_between(&self, time: Duration) -> bool {
        let State { next, again, .. } = &*self.state;
        next.store(false, Ordering::Release);
        again.store(false, Ordering::Release);
        let is_over = || next.load(Ordering::Acquire) || again.load(Ordering::Acquire) || self.has_quit() || self.stop.is_requested();
        note!("{BETWEEN}");
        let mut left = time;
        while !left.is_zero() && !is_over() {
            std::thread::sleep(LOOK.min(left));
            left = left.saturating_sub(LOOK);
        }
        again.load(Ordering::Acquire)
    }
}

fn tell(actor: Actor) {
    let who = match actor {
        Actor::Policy => "the policy acts",
        Actor::Human => "the teleoperator acts",
        Actor::Nobody => "paused",
    };
    note!("\n{who}");
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_and_commands_are_lerobots() {
        use StrategyMode::{Dagger, Episodic, Highlight};
        let of_rollout = |strategy, key| wish_of_key(Some(strategy), key);
        assert_eq!(of_rollout(Episodic, Key::Right), Some(Wish::Next));
        assert_eq!(of_rollout(Episodic, Key::Left), Some(Wish::Again));
        assert_eq!(of_rollout(Dagger, Key::Char(' ')), Some(Wish::Pause));
        assert_eq!(wish_of_key(None, Key::Char(' ')), None);
        assert_eq!(of_rollout(Dagger, Key::Tab), Some(Wish::Correct));
        assert_eq!(of_rollout(Highlight, Key::Char('s')), Some(Wish::Save));
        assert_eq!(of_rollout(Episodic, Key::Char('s')), None);
        assert_eq!(wish_of_press(Some(Dagger), KEY_B), Some(Wish::Correct));
        assert_eq!(wish_of_press(None, KEY_B), Some(Wish::Again));
        // What the desk hears beside keys that move a robot moves none.
        for kind in ["keyboard", "keyboard_ee", "keyboard_rover", "keyboard_lekiwi"] {
            let kind: sinew_drivers::teleop::TeleopKind = kind.parse().unwrap();
            for key in " cnbjhm".chars() {
                assert!(!kind.uses(sinew_drivers::teleop::TeleopKey::Char(key)), "{kind:?} {key:?}");
            }
        }
        assert_eq!(wish_of_key_beside(None, Key::Char(' ')), Some(Wish::Emergency));
        assert_eq!(wish_of_command(" /task  put it there "), Some(Wish::Task("put it there".into())));
        assert_eq!(wish_of_command("/task"), None);
        assert_eq!(wish_of_command("/start now"), None);
    }

    #[test]
    fn who_has_no_keys_wishes_what_has_a_use() {
        use WishName::{Correct, Drop, Finish, Instruct, Keep, Mark, Pause, Resume};
        let desk = |strategy| Desk::new(Operator::new(), StopFlag::new(), strategy);
        assert_eq!(desk(None).wishes(), [Keep, Drop, Instruct, Finish]);
        assert_eq!(desk(None).without_episodes().wishes(), [Finish]);
        assert_eq!(desk(Some(StrategyMode::Dagger)).wishes(), [Keep, Drop, Pause, Resume, Correct, Instruct, Finish]);
        let highlight = desk(Some(StrategyMode::Highlight));
        assert!(highlight.wishes().contains(&Mark) && !highlight.wish(EpisodeWish::Correct {}));
        assert!(highlight.wish(EpisodeWish::Pause {}) && highlight.operator.actor() == Actor::Nobody);
        assert!(highlight.wish(EpisodeWish::Instruct { instruction: "this".into() }));
        assert_eq!(highlight.operator.task().as_deref(), Some("this"));
        assert!(highlight.wish(EpisodeWish::Finish {}) && highlight.has_quit());
    }

    #[test]
    fn where_there_are_no_episodes_no_key_ends_one() {
        let (operator, stop) = (Operator::new(), StopFlag::new());
        let desk = Desk::new(operator, stop.clone(), None);
        assert!(desk.legend().contains("ends the episode"));
        let desk = desk.without_episodes();
        assert_eq!(desk.legend(), "e stops in an emergency until c clears it, esc ends");
        desk.fulfil(Wish::Next);
        assert!(!desk.state.next.load(Ordering::Acquire));
        stop.emergency();
        assert!(desk.answer(&Wish::Start).unwrap().contains("/clear"));
    }

    #[test]
    fn an_emergency_is_waited_out_and_a_quit_ends_every_wait() {
        let (operator, stop) = (Operator::new(), StopFlag::new());
        let desk = Desk::new(operator.clone(), stop.clone(), Some(StrategyMode::Base));
        desk.fulfil(Wish::Start);
        assert!(desk.wait_for_start());
        desk.fulfil(Wish::Emergency);
        let other = desk.clone();
        let waiting = std::thread::spawn(move || other.wait_for_clearance());
        desk.fulfil(Wish::Clear);
        assert!(waiting.join().unwrap());
        desk.fulfil(Wish::Hold);
        assert_eq!(operator.actor(), Actor::Nobody);
        // The end of a pause is no start of the next run, and no human acts in it unasked.
        desk.fulfil(Wish::Start);
        operator.set_actor(Actor::Human);
        desk.ended();
        assert_eq!(operator.actor(), Actor::Nobody);
        let (other, waited) = (desk.clone(), desk.clone());
        let waiting = std::thread::spawn(move || waited.wait_between(Duration::from_secs(1000)));
        while !waiting.is_finished() {
            other.fulfil(Wish::Again);
            std::thread::sleep(LOOK);
        }
        assert!(waiting.join().unwrap(), "the episode before is wanted again");
        desk.fulfil(Wish::Quit);
        assert!(!desk.wait_for_start() && !desk.wait_between(Duration::from_secs(1000)));
        // Ctrl-C in an emergency ends the process, and only then.
        stop.emergency();
        stop.escalate();
        assert!(stop.is_abandoned() && !desk.wait_for_clearance());
    }
}
