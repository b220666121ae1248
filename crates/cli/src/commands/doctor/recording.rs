//! What a recording needs: room and speed of the disk, an encoder, and the Hub to share it.

use std::io::Write as _;
use std::path::Path;
use std::time::{Duration, Instant};

use sinew_hub::{Hub, HubError, HubOptions, RepoKind, Search};
use sinew_recorder::{VideoOptions, encoder_rate};

use super::{Check, State};
use crate::text;

/// What a disk is tried with.
const WRITTEN: usize = 32 << 20;
const SYNCS: u32 = 8;
/// Less room than this is told: an hour of two cameras takes about as much.
const LITTLE: u64 = 2_000_000_000;
/// A sync that takes longer than this delays the end of an episode visibly.
const SLOW_SYNC: Duration = Duration::from_millis(60);

/// The folder that one records to where nothing else is said.
pub fn disk() -> Vec<Check> {
    let folder = std::env::current_dir().unwrap_or_else(|_gone| ".".into());
    let place = folder.display();
    let room = rustix::fs::statvfs(&folder).map_or(0, |disk| disk.f_bavail.saturating_mul(disk.f_frsize));
    match try_disk(&folder) {
        Err(error) => vec![
            Check::ok("disk", format!("{place} can't be written to: {error}"))
                .advise(State::Problem, "record into a folder that is yours, with --out"),
        ],
        Ok((rate, sync)) => {
            let found =
                format!("{} free in {place}, {:.0} MB/s, a sync takes {:.1} ms", text::bytes(room), rate * 1e-6, sync.as_secs_f64() * 1e3);
            let check = Check::ok("disk", found);
            vec![if room < LITTLE {
                check.advise(State::Problem, "free some space: an hour of two cameras takes about 2 GB")
            } else if sync > SLOW_SYNC {
                check.advise(State::Hint, "an episode that begins while the last one is saved may lose rows; use a faster disk")
            } else {
                check
            }]
        }
    }
}

/// Bytes a second, and the longest of some syncs of a small change.
fn try_disk(folder: &Path) -> std::io::Result<(f64, Duration)> {
    let path = folder.join(format!(".sinew-doctor-{}", std::process::id()));
    let tried = (|| {
        let mut file = std::fs::File::create_new(&path)?;
        let block = vec![0x5a; 1 << 20];
        let start = Instant::now();
        for _ in 0..WRITTEN / block.len() {
            file.write_all(&block)?;
        }
        file.sync_data()?;
        let rate = WRITTEN as f64 / start.elapsed().as_secs_f64();
        let mut longest = Duration::ZERO;
        for _ in 0..SYNCS {
            let start = Instant::now();
            file.write_all(&block[..4096])?;
            file.sync_data()?;
            longest = longest.max(start.elapsed());
        }
        Ok((rate, longest))
    })();
    // One that was never made needs not to be removed.
    let _ = std::fs::remove_file(&path);
    tried
}

const CAMERA: (u32, u32) = (640, 480);
const CAMERA_HZ: f64 = 30.0;

/// How many cameras the built-in encoder keeps up with.
pub fn encoder() -> Vec<Check> {
    let (width, height) = CAMERA;
    vec![match encoder_rate(&VideoOptions::default(), width, height) {
        Err(error) => Check::ok("encoder", error.to_string()).advise(State::Problem, "choose another with --codec, or report this"),
        Ok(rate) => {
            let cameras = (rate / CAMERA_HZ).floor();
            let found = format!("h264, {rate:.0} images of {width}x{height} a second on one processor: {cameras:.0} cameras at 30 Hz");
            let check = Check::ok("encoder", found);
            if cameras >= 2.0 {
                check
            } else {
                check.advise(State::Hint, "use smaller images, or a hardware encoder such as --codec h264_vaapi")
            }
        }
    }]
}

/// Whether the Hub answers, and to whom.
pub fn hub() -> Vec<Check> {
    let options = HubOptions::from_env();
    let endpoint = options.endpoint.clone();
    let cache = options.cache_dir.clone();
    let mut checks = Vec::new();
    if options.offline {
        checks.push(Check::ok("hub", "HF_HUB_OFFLINE or --offline is set: nothing is asked"));
    } else if let Some(token) = options.token.clone() {
        let hub = Hub::new(HubOptions { retries: 0, timeout: Duration::from_secs(5), ..options });
        checks.push(match hub.whoami(Some(&token)) {
            Ok(account) => Check::ok("hub", format!("{endpoint} knows you as {}", account.name)),
            Err(HubError::Refused { .. }) => {
                Check::ok("hub", format!("{endpoint} refuses the token")).advise(State::Problem, "log in again with `sinew hub login`")
            }
            Err(error) => Check::ok("hub", error.to_string())
                .advise(State::Hint, "check the network, HTTPS_PROXY and SSL_CERT_FILE; what is in the cache works without"),
        });
    } else {
        let hub = Hub::new(HubOptions { retries: 0, timeout: Duration::from_secs(5), ..options });
        let asks = Search { kind: RepoKind::Model, limit: 1, ..Search::default() };
        checks.push(match hub.search(&asks) {
            Ok(_) => Check::ok("hub", format!("{endpoint} answers; no token is stored"))
                .advise(State::Hint, "`sinew hub login` lets you upload, and read private and gated repositories"),
            Err(error) => Check::ok("hub", error.to_string())
                .advise(State::Hint, "check the network, HTTPS_PROXY and SSL_CERT_FILE; what is in the cache works without"),
        });
    }
    let writable = std::fs::create_dir_all(&cache).and_then(|()| try_write(&cache));
    if let Err(error) = writable {
        let found = format!("{} can't be written to: {error}", cache.display());
        checks.push(Check::ok("cache", found).advise(State::Problem, "set HF_HOME to a folder that is yours"));
    }
    checks
}

fn try_write(folder: &Path) -> std::io::Result<()> {
    let path = folder.join(format!(".sinew-doctor-{}", std::process::id()));
    std::fs::write(&path, b"")?;
    std::fs::remove_file(&path)
}
