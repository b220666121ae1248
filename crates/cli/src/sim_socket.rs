//! Images of a simulated world for another process, over a local socket: both ends.
//!
//! A client says `camera NAME\n` and hears `ok WIDTH HEIGHT\n` or `error WHY\n`. Then come images, each a header of
//! sequence (u64) and capture time (i64, nanoseconds of the machine's monotonic clock), little-endian, and its RGB bytes.

use std::io::{BufRead, BufReader, ErrorKind, Read, Write};
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread;
use std::time::Duration;

use anyhow::Context;
use sinew_core::{Image, RobotDescription, Timestamp};
use sinew_drivers::camera::{OpenSource, Picture, PixelFormat, Source, SourceError, Stream};

const HEADER: usize = 16;
/// How long the other end may take for a word.
const PATIENCE: Duration = Duration::from_secs(2);
/// The longest first line.
const MOST_LINE: u64 = 256;
/// The longest side of an image that is believed.
const MOST_SIDE: u32 = 8192;

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// The images that clients wait for.
#[derive(Default)]
struct Shown {
    images: Mutex<Vec<Image>>,
    changed: Condvar,
}

/// Shows images to whoever asks, until it is dropped.
pub struct CameraServer {
    shown: Arc<Shown>,
    path: PathBuf,
}

impl CameraServer {
    /// Listens at `path`; a socket that nobody listens at any more is replaced.
    pub fn start(path: &Path, robot: &RobotDescription) -> anyhow::Result<Self> {
        let doing = || format!("offering cameras at {}", path.display());
        if UnixStream::connect(path).is_ok() {
            anyhow::bail!("{}: another program offers some there", doing());
        }
        // Left behind by a process that was killed; what is no socket stays, and binding says so.
        if std::fs::symlink_metadata(path).is_ok_and(|it| std::os::unix::fs::FileTypeExt::is_socket(&it.file_type())) {
            std::fs::remove_file(path).with_context(doing)?;
        }
        let listener = UnixListener::bind(path).with_context(doing)?;
        let shown = Arc::new(Shown::default());
        let names: Vec<String> = robot.cameras.iter().map(|camera| camera.name.clone()).collect();
        let theirs = shown.clone();
        thread::Builder::new().name("camera server".into()).spawn(move || {
            for client in listener.incoming().flatten() {
                let (shown, names) = (theirs.clone(), names.clone());
                let serve = move || {
                    // A client that goes is no error of ours.
                    let _ = serve(client, &shown, &names);
                };
                if let Err(error) = thread::Builder::new().name("camera client".into()).spawn(serve) {
                    tracing::warn!("a camera's client is turned away: {error}");
                }
            }
        })?;
        Ok(Self { shown, path: path.to_owned() })
    }

    /// Newer images, in the description's order.
    pub fn show(&self, images: &[Image]) {
        images.clone_into(&mut lock(&self.shown.images));
        self.shown.changed.notify_all();
    }
}

impl Drop for CameraServer {
    fn drop(&mut self) {
        // Whoever comes now finds nobody; a path that is gone is as well.
        let _ = std::fs::remove_file(&self.path);
    }
}

fn serve(mut client: UnixStream, shown: &Shown, names: &[String]) -> std::io::Result<()> {
    client.set_read_timeout(Some(PATIENCE))?;
    client.set_write_timeout(Some(PATIENCE))?;
    let mut line = String::new();
    BufReader::new((&client).take(MOST_LINE)).read_line(&mut line)?;
    let wanted = line.trim_end().strip_prefix("camera ").unwrap_or_default();
    let Some(at) = names.iter().position(|name| name == wanted) else {
        return writeln!(client, "error there is no camera {wanted:?}; there are {}", names.join(", "));
    };
    let (mut sent, mut is_greeted) = (0, false);
    loop {
        let image = {
            let images = lock(&shown.images);
            let images = shown.changed.wait_while(images, |images| images.get(at).is_none_or(|image| image.sequence <= sent));
            images.unwrap_or_else(PoisonError::into_inner)[at].clone()
        };
        if !is_greeted {
            writeln!(client, "ok {} {}", image.width, image.height)?;
            is_greeted = true;
        }
        let mut header = [0; HEADER];
        header[..8].copy_from_slice(&image.sequence.to_le_bytes());
        header[8..].copy_from_slice(&image.captured_at.as_nanos().to_le_bytes());
        client.write_all(&header)?;
        client.write_all(&image.rgb)?;
        sent = image.sequence;
    }
}

/// A camera of another process's world.
pub struct SimCamera {
    socket: PathBuf,
    camera: String,
}

impl SimCamera {
    pub fn new(socket: PathBuf, camera: String) -> Self {
        Self { socket, camera }
    }

    fn greeted(&self) -> Result<Received, String> {
        let failed = |error: std::io::Error| error.to_string();
        let mut stream = UnixStream::connect(&self.socket).map_err(failed)?;
        stream.set_read_timeout(Some(PATIENCE)).map_err(failed)?;
        writeln!(stream, "camera {}", self.camera).map_err(failed)?;
        let mut stream = BufReader::new(stream);
        let mut line = String::new();
        stream.by_ref().take(MOST_LINE).read_line(&mut line).map_err(failed)?;
        let words: Vec<&str> = line.split_whitespace().collect();
        let size = match words[..] {
            ["ok", width, height] => width.parse().ok().zip(height.parse().ok()),
            _ => None,
        };
        let size = size.filter(|(width, height)| (1..=MOST_SIDE).contains(width) && (1..=MOST_SIDE).contains(height));
        let (width, height) = size.ok_or_else(|| format!("expected \"ok WIDTH HEIGHT\", found {:?}", line.trim_end()))?;
        let stream_is = Stream { width, height, format: PixelFormat::Rgb, fps: None };
        let bytes = vec![0; HEADER + width as usize * height as usize * 3];
        Ok(Received { name: self.name(), stream, is: stream_is, bytes, have: 0 })
    }
}

impl OpenSource for SimCamera {
    fn name(&self) -> String {
        format!("sim:{}", self.socket.display())
    }

    fn open(&mut self) -> Result<Box<dyn Source>, SourceError> {
        let lost = |what| SourceError::Lost { doing: "opening", source_name: self.name(), what };
        Ok(Box::new(self.greeted().map_err(lost)?))
    }
}

/// Images that another process sends.
struct Received {
    name: String,
    stream: BufReader<UnixStream>,
    is: Stream,
    /// A header and its image, as far as they have come.
    bytes: Vec<u8>,
    have: usize,
}

impl Source for Received {
    fn stream(&self) -> Stream {
        self.is
    }

    fn next(&mut self, wait: Duration, take: &mut dyn FnMut(&Picture<'_>)) -> Result<bool, SourceError> {
        let lost = |what: String| SourceError::Lost { doing: "reading", source_name: self.name.clone(), what };
        self.stream.get_ref().set_read_timeout(Some(wait.max(Duration::from_millis(1)))).map_err(|error| lost(error.to_string()))?;
        while self.have < self.bytes.len() {
            match self.stream.read(&mut self.bytes[self.have..]) {
                Ok(0) => return Err(lost("the world that it looks at is gone".to_owned())),
                Ok(count) => self.have += count,
                Err(error) if matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut | ErrorKind::Interrupted) => {
                    return Ok(false);
                }
                Err(error) => return Err(lost(error.to_string())),
            }
        }
        self.have = 0;
        let (header, rgb) = self.bytes.split_at(HEADER);
        let [sequence, time] =
            [0, 8].map(|at| header.get(at..at + 8).and_then(|bytes| bytes.try_into().ok()).map_or(0, u64::from_le_bytes));
        take(&Picture {
            format: PixelFormat::Rgb,
            width: self.is.width,
            height: self.is.height,
            stride: self.is.width as usize * 3,
            bytes: rgb,
            captured_at: Timestamp::from_nanos(time.cast_signed()),
            sequence,
        });
        Ok(true)
    }
}
