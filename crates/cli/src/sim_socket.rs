//! Images of a simulated world for another process, over a local socket: both ends.
//!
//! A client says `camera NAME\n` and hears `ok WIDTH HEIGHT\n` or `error WHY\n`. Then come images, each a header of
//! sequence (u64) and capture time (i64, nanoseconds of the machine's monotonic clock), little-endian, and its RGB bytes.

use std::io::{BufRead, BufReader, Read, Write};
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread;
use std::time::Duration;

use anyhow::Context;
use sinew_core::{Brief, CameraError, Cameras, Image, Pixels, RobotDescription, Tick, Timestamp};

const HEADER: usize = 16;
/// How long the other end may take for a word.
const PATIENCE: Duration = Duration::from_secs(2);
/// The longest first line.
const MOST_LINE: u64 = 256;

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

/// One camera of another process's world, with a thread that keeps its newest image.
struct Seen {
    name: String,
    newest: Arc<Mutex<Image>>,
    is_over: Arc<AtomicBool>,
    handed: u64,
}

/// Cameras of another process's world, in the description's order.
pub struct SocketCameras {
    cameras: Vec<Seen>,
}

impl SocketCameras {
    /// Joins each camera of `robot` to its socket in `sockets`, which are in the same order.
    pub fn connect(robot: &RobotDescription, sockets: &[PathBuf]) -> anyhow::Result<Self> {
        let mut cameras = Vec::new();
        for (camera, path) in robot.cameras.iter().zip(sockets) {
            let doing = || format!("opening camera {} at sim:{}", camera.name, path.display());
            let mut stream = UnixStream::connect(path).with_context(doing)?;
            stream.set_read_timeout(Some(PATIENCE)).with_context(doing)?;
            writeln!(stream, "camera {}", camera.name).with_context(doing)?;
            let mut stream = BufReader::new(stream);
            let mut line = String::new();
            stream.by_ref().take(MOST_LINE).read_line(&mut line).with_context(doing)?;
            let expected = format!("ok {} {}", camera.width, camera.height);
            anyhow::ensure!(line.trim_end() == expected, "{}: expected {expected:?}, found {:?}", doing(), line.trim_end());
            let image = Image::black(camera.width, camera.height);
            let (newest, is_over) = (Arc::new(Mutex::new(image.clone())), Arc::new(AtomicBool::new(false)));
            let (theirs, over) = (newest.clone(), is_over.clone());
            thread::Builder::new().name(format!("camera {}", camera.name)).spawn(move || {
                while !over.load(Ordering::Acquire) {
                    let Ok(next) = receive(&mut stream, image.width, image.height) else { break };
                    *lock(&theirs) = next;
                }
                over.store(true, Ordering::Release);
            })?;
            cameras.push(Seen { name: camera.name.clone(), newest, is_over, handed: 0 });
        }
        Ok(Self { cameras })
    }
}

fn receive(stream: &mut impl Read, width: u32, height: u32) -> std::io::Result<Image> {
    let mut header = [0; HEADER];
    stream.read_exact(&mut header)?;
    let [sequence, time] = [0, 8].map(|at| header.get(at..at + 8).and_then(|bytes| bytes.try_into().ok()).map_or(0, u64::from_le_bytes));
    let mut rgb = vec![0; width as usize * height as usize * 3];
    stream.read_exact(&mut rgb)?;
    Ok(Image { width, height, rgb: Pixels::from(rgb), captured_at: Timestamp::from_nanos(time.cast_signed()), sequence })
}

impl Cameras for SocketCameras {
    fn newest(&mut self, _: &Tick, images: &mut [Image]) -> Result<(), CameraError> {
        for (camera, image) in self.cameras.iter_mut().zip(images) {
            if camera.is_over.load(Ordering::Acquire) {
                return Err(CameraError { camera: Brief::of(&camera.name), what: Brief::of("the world that it looks at is gone") });
            }
            // The other thread holds it for as long as moving a pointer takes.
            if let Ok(newest) = camera.newest.try_lock()
                && newest.sequence > camera.handed
            {
                image.clone_from(&newest);
                camera.handed = newest.sequence;
            }
        }
        Ok(())
    }
}

impl Drop for SocketCameras {
    fn drop(&mut self) {
        self.cameras.iter().for_each(|camera| camera.is_over.store(true, Ordering::Release));
    }
}
