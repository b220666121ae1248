//! Decoding by an installed ffmpeg, for what is not built in.

use std::io::{self, Read};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::mpsc::{Receiver, RecvTimeoutError, Sender, SyncSender, channel, sync_channel};
use std::thread;
use std::time::Duration;

use crate::ReadError;
use crate::media::ffmpeg::{command, program};
use crate::progress::Waiting;

/// Raw pictures from a running ffmpeg, one after another.
///
/// A thread reads them, a few ahead; another reads what ffmpeg says, all of it, since it stands still while
/// nobody does.
pub(crate) struct FfmpegStream {
    path: PathBuf,
    child: Child,
    pictures: Receiver<io::Result<Vec<u8>>>,
    /// Gives room back to the thread that reads.
    spent: Sender<Vec<u8>>,
    said: Receiver<String>,
    /// How long a picture may take.
    patience: Duration,
}

/// ffmpeg may have to decode minutes of video before the first picture that is wanted.
const PATIENCE: Duration = Duration::from_secs(60);
/// How often one who waits is asked whether to go on.
const ASK_EVERY: Duration = Duration::from_millis(20);
/// Pictures that are read ahead.
const AHEAD: usize = 2;
/// So much of what ffmpeg says is kept.
const SAID_BYTES: usize = 4096;

impl FfmpegStream {
    /// Decodes `path` from `from_s` seconds on into pictures of `pixel_format`, such as `rgb24`, of
    /// `picture_bytes` each.
    pub(crate) fn begin(path: &Path, codec: &str, from_s: f64, pixel_format: &str, picture_bytes: usize) -> Result<Self, ReadError> {
        let mut command = command();
        if from_s > 0.0 {
            command.arg("-ss").arg(format!("{from_s:.6}"));
        }
        command.arg("-noautorotate").arg("-i").arg(path);
        command.args(["-map", "0:v:0", "-vsync", "passthrough", "-f", "rawvideo", "-pix_fmt", pixel_format, "pipe:1"]);
        Self::run(command, path, codec, picture_bytes, PATIENCE)
    }

    fn run(mut command: Command, path: &Path, codec: &str, picture_bytes: usize, patience: Duration) -> Result<Self, ReadError> {
        let child = command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn();
        let failed = |what: String| ReadError::Decode { path: path.to_owned(), what };
        let mut child = child.map_err(|error| {
            let program = program();
            let how = match error.kind() {
                io::ErrorKind::NotFound => "it is not installed; install ffmpeg, or name it in FFMPEG".to_owned(),
                _ => error.to_string(),
            };
            failed(format!("{codec} needs the program {}: {how}", program.display()))
        })?;
        let (Some(out), Some(err)) = (child.stdout.take(), child.stderr.take()) else {
            return Err(failed("ffmpeg gives no output".to_owned()));
        };
        let (to_us, pictures) = sync_channel(AHEAD);
        let (spent, from_us) = channel();
        let (say, said) = channel();
        // Both end when ffmpeg does, which dropping this sees to. Nobody waits for them: a program that
        // ffmpeg started might hold the pipes open.
        thread::spawn(move || read_pictures(out, picture_bytes, &to_us, &from_us));
        thread::spawn(move || read_messages(err, &say));
        Ok(Self { path: path.to_owned(), child, pictures, spent, said, patience })
    }

    /// Fills `picture` with the next one, for as long as `waiting` wants to wait.
    ///
    /// # Errors
    /// When there is none, it takes too long, or `waiting` ends it.
    pub(crate) fn next(&mut self, picture: &mut [u8], waiting: &mut Waiting<'_>) -> Result<(), ReadError> {
        let mut waited = Duration::ZERO;
        loop {
            if waiting().is_break() {
                return Err(ReadError::Stopped { path: self.path.clone() });
            }
            match self.pictures.recv_timeout(ASK_EVERY) {
                Ok(Ok(bytes)) if bytes.len() == picture.len() => {
                    picture.copy_from_slice(&bytes);
                    // A thread that is gone needs no room.
                    let _ = self.spent.send(bytes);
                    return Ok(());
                }
                Ok(Ok(bytes)) => return Err(self.failed(&format!("a picture has {} bytes, expected {}", bytes.len(), picture.len()))),
                Ok(Err(error)) => return Err(self.failed(&format!("ffmpeg gave no further picture ({error})"))),
                Err(RecvTimeoutError::Timeout) => waited += ASK_EVERY,
                Err(RecvTimeoutError::Disconnected) => return Err(self.failed("ffmpeg gave no further picture")),
            }
            if waited >= self.patience {
                self.end();
                return Err(self.failed(&format!("ffmpeg gave no picture for {:.0} s and was ended", self.patience.as_secs_f64())));
            }
        }
    }

    fn failed(&self, what: &str) -> ReadError {
        // What it said is only to explain; that it ended is the error.
        let said = self.said.recv_timeout(Duration::from_secs(1)).unwrap_or_default();
        let what = if said.trim().is_empty() { what.to_owned() } else { format!("{what}: {}", said.trim()) };
        ReadError::Decode { path: self.path.clone(), what }
    }

    fn end(&mut self) {
        // It may have ended by itself, which makes both fail.
        if let Err(error) = self.child.kill().and_then(|()| self.child.wait()) {
            tracing::debug!(%error, "ending ffmpeg");
        }
    }
}

impl Drop for FfmpegStream {
    fn drop(&mut self) {
        self.end();
    }
}

/// Sends whole pictures until there is none or nobody wants one.
fn read_pictures(mut out: impl Read, bytes: usize, to: &SyncSender<io::Result<Vec<u8>>>, spent: &Receiver<Vec<u8>>) {
    loop {
        let mut picture = spent.try_recv().unwrap_or_default();
        picture.resize(bytes, 0);
        let read = out.read_exact(&mut picture).map(|()| picture);
        let is_over = read.is_err();
        if to.send(read).is_err() || is_over {
            return;
        }
    }
}

/// Reads all that is said and sends its end when there is no more.
fn read_messages(mut err: impl Read, to: &Sender<String>) {
    let (mut said, mut room) = (Vec::new(), [0; SAID_BYTES]);
    while let Ok(count @ 1..) = err.read(&mut room) {
        said.extend(&room[..count]);
        said.drain(..said.len().saturating_sub(SAID_BYTES));
    }
    // It may be that nobody asks.
    let _ = to.send(String::from_utf8_lossy(&said).into_owned());
}

#[cfg(test)]
mod tests {
    use std::ops::ControlFlow;

    use super::*;
    use crate::progress::patient;

    fn script(text: &str, patience: Duration) -> FfmpegStream {
        let mut command = Command::new("sh");
        command.args(["-c", text]);
        FfmpegStream::run(command, Path::new("film.mp4"), "hvc1", 6, patience).unwrap()
    }

    #[test]
    fn one_that_says_more_than_a_pipe_holds_is_heard_to_its_end() {
        // 200 kB of complaints, then a picture, then none.
        let talk = "i=0; while [ $i -lt 2000 ]; do printf '%0100d' $i >&2; i=$((i+1)); done; printf abcdef; echo over >&2";
        let mut stream = script(talk, Duration::from_secs(20));
        let mut picture = [0; 6];
        stream.next(&mut picture, &mut patient).unwrap();
        assert_eq!(&picture, b"abcdef");
        let error = stream.next(&mut picture, &mut patient).unwrap_err().to_string();
        assert!(error.contains("no further picture") && error.ends_with("over") && error.len() < 5000, "{error}");
    }

    #[test]
    fn one_that_gives_nothing_is_ended() {
        let mut stream = script("sleep 1000", Duration::from_millis(100));
        let error = stream.next(&mut [0; 6], &mut patient).unwrap_err().to_string();
        assert!(error.contains("gave no picture for 0 s and was ended"), "{error}");
    }

    #[test]
    fn a_wait_for_a_picture_ends_when_it_is_asked_to() {
        let mut stream = script("sleep 1000", Duration::from_secs(1000));
        let mut asked = 0;
        let mut stop = || {
            asked += 1;
            if asked < 4 { ControlFlow::Continue(()) } else { ControlFlow::Break(()) }
        };
        let error = stream.next(&mut [0; 6], &mut stop).unwrap_err();
        assert!(matches!(error, ReadError::Stopped { .. }), "{error}");
        assert_eq!(asked, 4);
    }
}
