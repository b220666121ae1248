//! Looks through a camera and tells what comes: `cargo run --release -p sinew-drivers --example look_through -- NAME=SOURCE,WxH@FPS
//! [SECONDS]`. Opens what is no device: `pattern`, `file:`, `http://`, `zmq://`, and with the feature `rtsp` that.

#![allow(clippy::print_stdout, reason = "printing is what it is for")]

use std::sync::Arc;
use std::time::{Duration, Instant};

use sinew_core::{CameraDescription, Cameras, Clock, Image, Tick, Timestamp};
use sinew_drivers::camera::{CameraAddress, CameraSet, CameraSetup, WhenCameraLost, read_counter};

struct RealClock(Instant);

impl Clock for RealClock {
    fn now(&self) -> Timestamp {
        Timestamp::from_nanos(i64::try_from(self.0.elapsed().as_nanos()).unwrap_or(i64::MAX))
    }

    fn sleep_until(&self, deadline: Timestamp) {
        let left = deadline.nanos_since(self.now());
        std::thread::sleep(Duration::from_nanos(u64::try_from(left).unwrap_or(0)));
    }

    fn runs_by_itself(&self) -> bool {
        true
    }
}

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let mut arguments = std::env::args().skip(1);
    let address: CameraAddress = arguments.next().ok_or("expected NAME=SOURCE,WxH@FPS")?.parse()?;
    let seconds: u64 = arguments.next().map_or(Ok(3), |text| text.parse())?;
    let (width, height) = address.size.ok_or("expected a size, WxH@FPS, behind the source")?;
    let mut camera: CameraDescription =
        serde_json::from_value(serde_json::json!({ "name": address.name, "width": width, "height": height }))?;
    address.describe(&mut camera);
    let clock = Arc::new(RealClock(Instant::now()));
    let source = address.source(&camera, clock.clone()).ok_or("expected a source that is no device")?;
    let when_lost = WhenCameraLost::Reopen { within: Duration::from_secs(10) };
    let setup = CameraSetup { when_lost, shape: address.shape(), decode: address.decode(), ..CameraSetup::new(camera, source) };
    let mut set = CameraSet::start(vec![setup], clock.clone())?;
    println!("{:?}", set.wait_until_all_deliver(Duration::from_secs(10))?);
    let mut images = [Image::black(width, height)];
    let (mut seen, mut last, mut counted) = (0, 0, Vec::new());
    for turn in 0..seconds * 100 {
        let tick = Tick { turn, due: clock.now(), period: Duration::from_millis(10), wants_images: true };
        set.newest(&tick, &mut images)?;
        if images[0].sequence != last {
            (seen, last) = (seen + 1, images[0].sequence);
            counted.extend(read_counter(&images[0].rgb, width, height));
        }
        clock.sleep_until(tick.due + tick.period);
    }
    println!("{seen} images, {} of them numbered, {:?} to {:?}", counted.len(), counted.first(), counted.last());
    println!("{:?}", set.monitor().health());
    Ok(())
}
