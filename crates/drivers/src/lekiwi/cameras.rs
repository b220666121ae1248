//! The pictures that come with a LeKiwi's observations.

use std::sync::{Arc, Condvar, Mutex, PoisonError};
use std::{io, thread};

use sinew_core::{Brief, CameraDescription, CameraError, Cameras, Image, ImageBuffers, Pixels, RobotDescription, Tick, Timestamp};

use crate::net::Newest;

/// Decodes a JPEG: width, height, and its bytes as RGB, row by row. The error says what was wrong.
pub type DecodeJpeg = Box<dyn FnMut(&[u8]) -> Result<(u32, u32, Vec<u8>), String> + Send>;

/// JPEGs of an observation by their cameras' names.
pub(super) struct Pictures {
    pub names: Vec<String>,
    pub jpegs: Vec<Vec<u8>>,
    /// When each was taken, and its number.
    pub times: Vec<(Timestamp, u64)>,
}

/// The newest observation's pictures, for the thread that decodes them. Those that it had no time for are left out.
#[derive(Default)]
pub(super) struct Inbox {
    next: Mutex<Next>,
    has_come: Condvar,
}

#[derive(Default)]
struct Next {
    pictures: Option<Pictures>,
    is_over: bool,
}

impl Inbox {
    pub fn put(&self, pictures: Pictures) {
        self.next.lock().unwrap_or_else(PoisonError::into_inner).pictures = Some(pictures);
        self.has_come.notify_one();
    }

    pub fn end(&self) {
        self.next.lock().unwrap_or_else(PoisonError::into_inner).is_over = true;
        self.has_come.notify_one();
    }

    /// Waits for the next; `None` when there will be none.
    fn take(&self) -> Option<Pictures> {
        let next = self.next.lock().unwrap_or_else(PoisonError::into_inner);
        let waits = |next: &mut Next| next.pictures.is_none() && !next.is_over;
        let mut next = self.has_come.wait_while(next, waits).unwrap_or_else(PoisonError::into_inner);
        if next.is_over { None } else { next.pictures.take() }
    }
}

/// What is known of a camera.
#[derive(Clone, Default)]
struct Seen {
    rgb: Pixels,
    captured_at: Timestamp,
    /// 0 before the first.
    sequence: u64,
    /// What is wrong with its pictures.
    fault: Option<Brief>,
}

/// The cameras of a LeKiwi behind its host. An image is as old as its observation: what the host says, and without that since
/// it arrived. Images are decoded on a thread of their own; whoever asks for the newest never waits.
pub struct LeKiwiCameras {
    cameras: Vec<CameraDescription>,
    seen: Arc<Vec<Newest<Seen>>>,
}

impl LeKiwiCameras {
    /// Starts the thread that decodes what is put into `inbox`, until that ends.
    pub(super) fn start(robot: &RobotDescription, inbox: Arc<Inbox>, mut decode: DecodeJpeg) -> io::Result<Self> {
        let cameras = robot.cameras.clone();
        let seen: Arc<Vec<Newest<Seen>>> = Arc::new(cameras.iter().map(|_| Newest::default()).collect());
        let (described, shared) = (cameras.clone(), seen.clone());
        thread::Builder::new().name("lekiwi-images".to_owned()).spawn(move || {
            let bytes = |camera: &CameraDescription| camera.width as usize * camera.height as usize * 3;
            let mut buffers: Vec<ImageBuffers> = described.iter().map(|camera| ImageBuffers::new(3, bytes(camera))).collect();
            while let Some(pictures) = inbox.take() {
                for (i, camera) in described.iter().enumerate() {
                    let at = pictures.names.iter().position(|name| *name == camera.name);
                    let picture = at.and_then(|at| pictures.jpegs.get(at).zip(pictures.times.get(at)));
                    // One that could not be encoded is empty: the last one stands, and grows old.
                    let Some((jpeg, (time, number))) = picture.filter(|(jpeg, _)| !jpeg.is_empty()) else { continue };
                    if shared[i].lock().sequence == *number {
                        continue;
                    }
                    let decoded = decode(jpeg).and_then(|(width, height, rgb)| {
                        let fits = (width, height) == (camera.width, camera.height) && rgb.len() == bytes(camera);
                        let wrong = || format!("expected pictures of {} by {}, found {width} by {height}", camera.width, camera.height);
                        if fits { Ok(rgb) } else { Err(wrong()) }
                    });
                    match decoded {
                        Ok(rgb) => {
                            let rgb = buffers[i].fill(|bytes| bytes.copy_from_slice(&rgb));
                            *shared[i].lock() = Seen { rgb, captured_at: *time, sequence: *number, fault: None };
                        }
                        Err(error) => shared[i].lock().fault = Some(Brief::of(error)),
                    }
                }
            }
        })?;
        Ok(Self { cameras, seen })
    }
}

impl Cameras for LeKiwiCameras {
    /// An image of another size than the description's, or one that can't be decoded, is an error.
    fn newest(&mut self, _: &Tick, images: &mut [Image]) -> Result<(), CameraError> {
        for ((camera, seen), image) in self.cameras.iter().zip(self.seen.iter()).zip(images) {
            let Some(seen) = seen.try_lock() else { continue };
            if let Some(what) = seen.fault {
                return Err(CameraError { camera: Brief::of(&camera.name), what });
            }
            if seen.sequence != 0 && seen.sequence != image.sequence {
                image.rgb.clone_from(&seen.rgb);
                (image.width, image.height) = (camera.width, camera.height);
                (image.captured_at, image.sequence) = (seen.captured_at, seen.sequence);
            }
        }
        Ok(())
    }
}
