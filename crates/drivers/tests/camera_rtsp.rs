//! A camera over RTSP: a server of this test that speaks enough of it (RFC 2326, interleaved RTP of RFC 6184) with H.264 of openh264.

#![allow(clippy::unwrap_used, clippy::panic, reason = "what fails here fails the test")]

mod common;

use std::io::{BufRead, BufReader, Write};
use std::net::{TcpListener, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering::Relaxed};
use std::thread;
use std::time::{Duration, Instant};

use common::RealClock;
use data_encoding::BASE64;
use openh264::encoder::{Encoder, EncoderConfig, FrameRate, IntraFramePeriod};
use openh264::formats::{RgbSliceU8, YUVBuffer};
use openh264::{OpenH264API, nal_units};
use sinew_core::{CameraDescription, Cameras, Clock, Image, Tick};
use sinew_drivers::camera::{CameraSet, CameraSetup, OpenSource, Rtsp, SourceError, WhenCameraLost, draw_counter, read_counter};

const WIDTH: u32 = 320;
const HEIGHT: u32 = 240;
const FPS: u64 = 25;

#[derive(Default)]
struct Faults {
    /// Leave packets out.
    drops: AtomicBool,
    hangs_up: AtomicBool,
    wants_password: AtomicBool,
    drawn: AtomicU32,
}

struct Server {
    address: String,
    faults: Arc<Faults>,
}

impl Server {
    fn start() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap().to_string();
        let faults = Arc::new(Faults::default());
        let theirs = faults.clone();
        thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                let faults = theirs.clone();
                // A client that goes ends it.
                thread::spawn(move || serve(stream, &faults));
            }
        });
        Self { address, faults }
    }
}

fn encoder() -> Encoder {
    let config =
        EncoderConfig::new().max_frame_rate(FrameRate::from_hz(FPS as f32)).intra_frame_period(IntraFramePeriod::from_num_frames(10));
    Encoder::with_api_config(OpenH264API::from_source(), config).unwrap()
}

/// The units of the next picture, which shows `number`.
fn units(encoder: &mut Encoder, number: u32) -> Vec<Vec<u8>> {
    let mut rgb = vec![0; (WIDTH * HEIGHT * 3) as usize];
    for (i, pixel) in rgb.chunks_exact_mut(3).enumerate() {
        pixel.copy_from_slice(&[(i as u32 % WIDTH * 255 / WIDTH) as u8, 80, (i as u32 / WIDTH * 255 / HEIGHT) as u8]);
    }
    draw_counter(&mut rgb, WIDTH, HEIGHT, number);
    let yuv = YUVBuffer::from_rgb8_source(RgbSliceU8::new(&rgb, (WIDTH as usize, HEIGHT as usize)));
    let bytes = encoder.encode(&yuv).unwrap().to_vec();
    // Without their start codes.
    nal_units(&bytes).map(|unit| unit[unit.iter().position(|byte| *byte == 1).unwrap() + 1..].to_vec()).collect()
}

fn serve(mut stream: TcpStream, faults: &Faults) -> std::io::Result<()> {
    let mut reader = BufReader::new(stream.try_clone()?);
    loop {
        let (mut line, mut headers) = (String::new(), String::new());
        reader.read_line(&mut line)?;
        loop {
            let mut header = String::new();
            if reader.read_line(&mut header)? == 0 {
                return Ok(());
            }
            if header.trim().is_empty() {
                break;
            }
            headers.push_str(&header);
        }
        let sequence = headers.lines().find_map(|line| line.strip_prefix("CSeq:")).unwrap_or("0").trim().to_owned();
        let method = line.split(' ').next().unwrap_or_default();
        if faults.wants_password.load(Relaxed) && !headers.contains("Authorization") {
            let answer = format!("RTSP/1.0 401 Unauthorized\r\nCSeq: {sequence}\r\nWWW-Authenticate: Basic realm=\"x\"\r\n\r\n");
            stream.write_all(answer.as_bytes())?;
            continue;
        }
        if line.contains("/missing") {
            stream.write_all(format!("RTSP/1.0 404 Not Found\r\nCSeq: {sequence}\r\n\r\n").as_bytes())?;
            continue;
        }
        let (head, body) = match method {
            "DESCRIBE" => {
                let parameters: Vec<Vec<u8>> = units(&mut encoder(), 0).into_iter().filter(|unit| matches!(unit[0] & 31, 7 | 8)).collect();
                let sets: Vec<String> = parameters.iter().map(|unit| BASE64.encode(unit)).collect();
                let body = format!(
                    "v=0\r\no=- 1 1 IN IP4 127.0.0.1\r\ns=x\r\nt=0 0\r\nm=video 0 RTP/AVP 96\r\na=rtpmap:96 H264/90000\r\n\
                     a=fmtp:96 packetization-mode=1;profile-level-id=42C01E;sprop-parameter-sets={}\r\na=framerate:{FPS}\r\na=control:trackID=1\r\n",
                    sets.join(",")
                );
                ("Content-Type: application/sdp\r\n".to_owned(), body)
            }
            "SETUP" => ("Transport: RTP/AVP/TCP;unicast;interleaved=0-1;ssrc=0000abcd\r\nSession: 1\r\n".to_owned(), String::new()),
            "PLAY" => ("Session: 1\r\nRTP-Info: url=trackID=1;seq=1;rtptime=0\r\n".to_owned(), String::new()),
            _ => ("Session: 1\r\n".to_owned(), String::new()),
        };
        let length = body.len();
        stream.write_all(format!("RTSP/1.0 200 OK\r\nCSeq: {sequence}\r\n{head}Content-Length: {length}\r\n\r\n{body}").as_bytes())?;
        if method == "PLAY" {
            return play(stream, faults);
        }
    }
}

fn play(mut stream: TcpStream, faults: &Faults) -> std::io::Result<()> {
    let mut encoder = encoder();
    let (mut sequence, begun) = (1_u16, Instant::now());
    for picture in 0_u32.. {
        let number = faults.drawn.fetch_add(1, Relaxed);
        let units = units(&mut encoder, number);
        for (i, unit) in units.iter().enumerate() {
            let is_last = i + 1 == units.len();
            // Fragments of 1200 bytes.
            let pieces: Vec<Vec<u8>> = if unit.len() <= 1200 {
                vec![unit.clone()]
            } else {
                let chunks: Vec<&[u8]> = unit[1..].chunks(1200).collect();
                let fragment = |(at, chunk): (usize, &&[u8])| {
                    let ends = u8::from(at == 0) << 7 | u8::from(at + 1 == chunks.len()) << 6;
                    [&[unit[0] & 0xe0 | 28, ends | unit[0] & 31], *chunk].concat()
                };
                chunks.iter().enumerate().map(fragment).collect()
            };
            for (at, piece) in pieces.iter().enumerate() {
                let marker = u8::from(is_last && at + 1 == pieces.len()) << 7;
                let mut packet = vec![0x80, marker | 96];
                packet.extend(sequence.to_be_bytes());
                packet.extend((picture * (90_000 / FPS as u32)).to_be_bytes());
                packet.extend([0, 0, 0xab, 0xcd]);
                packet.extend(piece);
                sequence = sequence.wrapping_add(1);
                if faults.drops.load(Relaxed) && sequence % 7 == 0 {
                    continue;
                }
                stream.write_all(&[b'$', 0, (packet.len() >> 8) as u8, packet.len() as u8])?;
                stream.write_all(&packet)?;
            }
        }
        if faults.hangs_up.swap(false, Relaxed) {
            return Ok(());
        }
        let due = Duration::from_millis(u64::from(picture + 1) * 1000 / FPS);
        thread::sleep(due.saturating_sub(begun.elapsed()));
    }
    Ok(())
}

fn look(clock: &Arc<RealClock>, set: &mut CameraSet, images: &mut [Image]) {
    let tick = Tick { turn: 0, due: clock.now(), period: Duration::from_millis(10), wants_images: true };
    set.newest(&tick, images).unwrap();
}

#[test]
fn pictures_of_a_stream_come_in_time_and_survive_its_faults() {
    let server = Server::start();
    let clock = RealClock::new();
    let camera: CameraDescription = toml::from_str(&format!("name = \"net\"\nwidth = {WIDTH}\nheight = {HEIGHT}\nfps = {FPS}")).unwrap();
    let source = Rtsp::new(format!("rtsp://{}/live", server.address), clock.clone());
    let when_lost = WhenCameraLost::Reopen { within: Duration::from_secs(30) };
    let setup = CameraSetup { when_lost, ..CameraSetup::new(camera, Box::new(source)) };
    let mut set = CameraSet::start(vec![setup], clock.clone()).unwrap();
    let delivery = set.wait_until_all_deliver(Duration::from_secs(20)).unwrap().remove(0);
    assert!(delivery.rate_hz > 10.0 && delivery.rate_hz < 30.0, "{delivery:?}");
    let mut images = vec![Image::black(WIDTH, HEIGHT)];
    let (mut last, mut behind) = (0, 0);
    for _ in 0..100 {
        look(&clock, &mut set, &mut images);
        let number = read_counter(&images[0].rgb, WIDTH, HEIGHT).unwrap();
        assert!(number >= last, "{number} after {last}");
        last = number;
        behind = behind.max(server.faults.drawn.load(Relaxed) - number);
        clock.sleep_until(clock.now() + Duration::from_millis(10));
    }
    assert!(behind < 25, "{behind} pictures behind");

    // Lost packets: what is shown is whole, and they are counted.
    server.faults.drops.store(true, Relaxed);
    thread::sleep(Duration::from_secs(2));
    for _ in 0..50 {
        look(&clock, &mut set, &mut images);
        assert!(read_counter(&images[0].rgb, WIDTH, HEIGHT).is_some());
        thread::sleep(Duration::from_millis(10));
    }
    server.faults.drops.store(false, Relaxed);
    let health = set.monitor().health().remove(0);
    assert!(health.lost > 0, "{health:?}");

    // The camera hangs up, and is there again.
    server.faults.hangs_up.store(true, Relaxed);
    let start = Instant::now();
    loop {
        look(&clock, &mut set, &mut images);
        let health = set.monitor().health().remove(0);
        if health.reopened > 0
            && read_counter(&images[0].rgb, WIDTH, HEIGHT).unwrap() > last + 50
            && health.age.unwrap() < Duration::from_millis(500)
        {
            break;
        }
        assert!(start.elapsed() < Duration::from_secs(30), "{health:?}");
        thread::sleep(Duration::from_millis(10));
    }
}

#[test]
fn a_camera_that_refuses_says_why() {
    let server = Server::start();
    let clock = RealClock::new();
    let open = |url: String| Rtsp::new(url, clock.clone()).open().err();
    let said = |error: Option<SourceError>| error.unwrap().to_string();
    let missing = open(format!("rtsp://{}/missing", server.address));
    assert!(matches!(&missing, Some(SourceError::Unusable { what, .. }) if what.contains("404")), "{missing:?}");
    server.faults.wants_password.store(true, Relaxed);
    assert!(said(open(format!("rtsp://{}/live", server.address))).contains("401"));
    assert!(open(format!("rtsp://me:p%40ss@{}/live", server.address)).is_none());
    let name = Rtsp::new("rtsp://me:secret@cam/live".to_owned(), clock.clone()).name();
    assert_eq!(name, "rtsp://cam/live", "no password is shown");
    assert!(matches!(open("rtsp://127.0.0.1:1/x".to_owned()), Some(SourceError::Lost { .. })));
    assert!(said(open("http://x/".to_owned())).contains("expected rtsp://"));
}
