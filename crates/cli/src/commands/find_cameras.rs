//! `sinew find-cameras`: which cameras there are, what they offer, and a picture of each.

use std::sync::Arc;
use std::time::Duration;

use rayon::prelude::*;
use serde::Serialize;
use sinew_core::{Cameras as _, Clock, Tick};
use sinew_drivers::camera::v4l2::{self, FoundCamera, NodeState, Offer, Roots};
use sinew_drivers::camera::{CameraAddress, CameraSet, CameraSetup, PixelFormat, show_distances};
use sinew_runtime::MonotonicClock;

use crate::args::FindCamerasArgs;
use crate::contact_sheet::write_png;
use crate::text::say;
use crate::{Done, cameras, text};

/// How long a camera may take for its first pictures, most of which are dark.
const WITHIN: Duration = Duration::from_secs(5);

#[derive(Serialize)]
struct Found {
    /// What `--camera NAME=` wants to hear.
    source: String,
    node: String,
    name: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    usb: Option<Usb>,
    /// Sizes and rates that it offers.
    offers: Vec<String>,
    /// Images a second that came.
    rate_hz: Option<f64>,
    picture: Option<String>,
    /// The nearest and the farthest distance in a picture of distances, millimetres: white and nearly black there.
    #[serde(skip_serializing_if = "Option::is_none")]
    depth_mm: Option<(u16, u16)>,
    /// Why there is no picture.
    trouble: Option<String>,
}

#[derive(Serialize)]
struct Usb {
    vendor: String,
    product: String,
    serial: Option<String>,
    port: String,
}

pub fn run(args: &FindCamerasArgs) -> anyhow::Result<Done> {
    let roots = Roots::default();
    let cameras = v4l2::cameras(&roots)?;
    anyhow::ensure!(
        args.json || !cameras.is_empty(),
        "found no camera: is one plugged in, and does the kernel know it (`ls /dev/video*`)?"
    );
    let found: Vec<Found> = cameras.par_iter().map(|camera| look(camera, &roots, args)).collect();
    if args.json {
        text::print_json(&found)?;
        return Ok(Done::Ok);
    }
    for camera in &found {
        say!("{}  {} ({})", camera.source, camera.name, camera.node);
        if let Some(Usb { vendor, product, port, .. }) = &camera.usb {
            say!("  usb      {vendor}:{product}, port {port}");
        }
        camera.offers.iter().for_each(|offer| say!("  offers   {offer}"));
        if let (Some(picture), Some(rate)) = (&camera.picture, camera.rate_hz) {
            let depth =
                camera.depth_mm.map(|(near, far)| format!(", distances from {near} mm (white) to {far} mm (dark), unknown ones black"));
            say!("  picture  {picture}, {rate:.1} images a second{}", depth.unwrap_or_default());
        }
        camera.trouble.iter().for_each(|trouble| say!("  no picture: {trouble}"));
    }
    Ok(Done::Ok)
}

fn look(camera: &FoundCamera, roots: &Roots, args: &FindCamerasArgs) -> Found {
    let usb = camera.usb.as_ref().map(|usb| Usb {
        vendor: format!("{:04x}", usb.vendor),
        product: format!("{:04x}", usb.product),
        serial: usb.serial.clone(),
        port: usb.port.clone(),
    });
    let source = camera.address();
    let offers = source.parse().ok().and_then(|address| v4l2::offers_of(&address, roots).ok()).unwrap_or_default();
    let mut found = Found {
        node: format!("/dev/{}", camera.node),
        name: camera.card.clone(),
        usb,
        offers: offers.iter().map(ToString::to_string).collect(),
        rate_hz: None,
        picture: None,
        depth_mm: None,
        trouble: None,
        source,
    };
    match &camera.state {
        NodeState::Free if args.no_pictures => {}
        NodeState::Free => match picture(&mut found, &offers, args) {
            Ok(()) => {}
            Err(error) => found.trouble = Some(format!("{error:#}")),
        },
        NodeState::Busy(by) => {
            found.trouble = Some(by.as_ref().map_or_else(|| "another program holds it".to_owned(), |by| format!("{by} holds it")));
        }
        NodeState::Refused(why) => found.trouble = Some(why.clone()),
    }
    found
}

/// Writes a picture, and notes its path and the images a second that came.
fn picture(found: &mut Found, offers: &[Offer], args: &FindCamerasArgs) -> anyhow::Result<()> {
    let size = args.size.as_ref().map(|size| format!(",{size}")).unwrap_or_default();
    let name = found.node.trim_start_matches("/dev/");
    let mut given: CameraAddress = format!("{name}={}{size}", found.source).parse()?;
    let mut formats = offers.iter().filter_map(|offer| offer.four_cc.format()).peekable();
    let is_depth = formats.peek().is_some() && formats.all(|format| format == PixelFormat::Depth16);
    given.format = is_depth.then_some(PixelFormat::Depth16);
    let camera = cameras::describe(&given, None);
    let clock: Arc<dyn Clock> = Arc::new(MonotonicClock::new());
    let source = cameras::source(&camera, &given, clock.clone())?;
    let mut set = CameraSet::start(vec![CameraSetup::new(camera.clone(), source)], clock.clone())?;
    let rate_hz = set.wait_until_all_deliver(WITHIN)?.first().map_or(0.0, |delivery| delivery.rate_hz);
    let mut images = [camera.blank()];
    let tick = Tick { turn: 0, due: clock.now(), period: Duration::ZERO, wants_images: true };
    while images[0].sequence == 0 {
        set.newest(&tick, &mut images)?;
    }
    let name: String = found.source.chars().map(|c| if c.is_ascii_alphanumeric() || "-.".contains(c) { c } else { '_' }).collect();
    let path = args.out.join(format!("{}.png", name.trim_matches('_')));
    let greys = camera.depth.then(|| show_distances(&images[0].depth_mm));
    let rgb = greys.as_ref().map_or(&images[0].rgb[..], |(greys, _)| greys);
    write_png(&path, camera.width, camera.height, rgb)?;
    (found.picture, found.rate_hz) = (Some(path.display().to_string()), Some(rate_hz));
    found.depth_mm = greys.and_then(|(_, range)| range);
    Ok(())
}
