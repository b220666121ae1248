//! Decoding by an installed ffmpeg, for what is not built in.

use std::io::{self, Read};
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdout, Stdio};

use crate::ReadError;
use crate::media::ffmpeg::{command, program};

/// Raw pictures from a running ffmpeg, one after another.
pub(crate) struct FfmpegStream {
    path: PathBuf,
    child: Child,
    out: ChildStdout,
}

impl FfmpegStream {
    /// Decodes `path` from `from_s` seconds on into pictures of `pixel_format`, such as `rgb24`.
    pub(crate) fn begin(path: &Path, codec: &str, from_s: f64, pixel_format: &str) -> Result<Self, ReadError> {
        let mut command = command();
        if from_s > 0.0 {
            command.arg("-ss").arg(format!("{from_s:.6}"));
        }
        command.arg("-noautorotate").arg("-i").arg(path).args([
            "-map",
            "0:v:0",
            "-vsync",
            "passthrough",
            "-f",
            "rawvideo",
            "-pix_fmt",
            pixel_format,
            "pipe:1",
        ]);
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
        let out = child.stdout.take().ok_or_else(|| failed("ffmpeg gives no output".to_owned()))?;
        Ok(Self { path: path.to_owned(), child, out })
    }

    /// Fills `picture` with the next one.
    pub(crate) fn next(&mut self, picture: &mut [u8]) -> Result<(), ReadError> {
        self.out.read_exact(picture).map_err(|error| {
            let mut said = String::new();
            if let Some(stderr) = &mut self.child.stderr {
                // What it says is only to explain; that it ended is the error.
                stderr.take(4096).read_to_string(&mut said).unwrap_or_default();
            }
            ReadError::Decode { path: self.path.clone(), what: format!("ffmpeg gave no further picture ({error}): {}", said.trim()) }
        })
    }
}

impl Drop for FfmpegStream {
    fn drop(&mut self) {
        // It may have ended by itself, which makes both fail.
        if let Err(error) = self.child.kill().and_then(|()| self.child.wait()) {
            tracing::debug!(%error, "ending ffmpeg");
        }
    }
}
