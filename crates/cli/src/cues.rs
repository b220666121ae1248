//! Words, or a bell, for somebody who looks at a robot and not at a screen.

use std::process::{Command, Stdio};
use std::sync::mpsc::{Receiver, Sender, channel};
use std::time::Duration;

use anyhow::Context;

use crate::live;
use crate::text::note;

/// Programs that speak, of which the first that is there is used: speech-dispatcher's client, then espeak's.
const SPEAKERS: [(&str, &[&str]); 3] = [("spd-say", &["--wait", "--"]), ("espeak-ng", &["--"]), ("espeak", &["--"])];
/// What takes longer to say is cut off, so that no cue comes when it is no longer true.
const MOST: Duration = Duration::from_secs(5);
const LOOK: Duration = Duration::from_millis(20);

/// Says things on a thread of its own, one after the other; nobody waits for it.
pub struct Cues(Option<Sender<String>>);

impl Cues {
    /// Speaks where it is `asked`.
    ///
    /// # Errors
    /// When there can be no thread for it.
    pub fn start(asked: bool) -> anyhow::Result<Self> {
        if !asked {
            return Ok(Self(None));
        }
        let (sender, words) = channel();
        std::thread::Builder::new().name("cues".into()).spawn(move || speak(&words)).context("starting the thread that speaks")?;
        Ok(Self(Some(sender)))
    }

    pub fn say(&self, words: impl Into<String>) {
        if let Some(sender) = &self.0 {
            // A thread that has gone has nothing to say.
            let _ = sender.send(words.into());
        }
    }
}

fn speak(heard: &Receiver<String>) {
    let speaker = SPEAKERS.into_iter().find(|(program, _)| is_there(program));
    if speaker.is_none() {
        let names = SPEAKERS.map(|(program, _)| program).join(", ");
        note!("--say: no speech program is installed here (one of {names}); the bell rings instead");
    }
    while let Ok(words) = heard.recv() {
        // What was to be said meanwhile is no longer so.
        let words = heard.try_iter().last().unwrap_or(words);
        match speaker {
            Some((program, options)) => run(program, options, &words),
            None => live::ring(),
        }
    }
}

fn is_there(program: &str) -> bool {
    let path = std::env::var_os("PATH").unwrap_or_default();
    std::env::split_paths(&path).any(|folder| folder.join(program).is_file())
}

fn run(program: &str, options: &[&str], words: &str) {
    let mut command = Command::new(program);
    command.args(options).arg(words).stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
    let Ok(mut speaking) = command.spawn() else { return live::ring() };
    for _ in 0..MOST.as_millis() / LOOK.as_millis() {
        match speaking.try_wait() {
            Ok(Some(status)) if status.success() => return,
            // It can't speak: no sound device, no daemon.
            Ok(Some(_)) | Err(_) => return live::ring(),
            Ok(None) => std::thread::sleep(LOOK),
        }
    }
    // It may have ended meanwhile.
    let _ = speaking.kill();
    let _ = speaking.wait();
}
