//! Sources of pictures against real servers and files, also such as stall, close, lie and send garbage.

#![allow(clippy::unwrap_used, clippy::panic, reason = "what fails here fails the test")]

mod common;

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::path::Path;
use std::sync::Arc;
use std::thread;
use std::time::{Duration, Instant};

use common::RealClock;
use data_encoding::BASE64;
use image::codecs::jpeg::JpegEncoder;
use image::{ExtendedColorType, RgbImage};
use sinew_core::{CameraDescription, Cameras, Clock, Image, Tick, Timestamp};
use sinew_drivers::camera::{
    CameraAddress, CameraSet, CameraSetup, Decoder, HttpMjpeg, ImageFiles, OpenSource, PixelFormat, Source, SourceError, WhenCameraLost,
    ZmqCamera, draw_counter, read_counter,
};

const PATIENCE: Duration = Duration::from_secs(20);
const WIDTH: u32 = 64;
const HEIGHT: u32 = 48;

fn scene(number: u32) -> Vec<u8> {
    let mut rgb: Vec<u8> = (0..WIDTH * HEIGHT).flat_map(|i| [(i % WIDTH * 3) as u8, 60, 200]).collect();
    draw_counter(&mut rgb, WIDTH, HEIGHT, number);
    rgb
}

fn jpeg(number: u32) -> Vec<u8> {
    let mut jpeg = Vec::new();
    JpegEncoder::new_with_quality(&mut jpeg, 90).encode(&scene(number), WIDTH, HEIGHT, ExtendedColorType::Rgb8).unwrap();
    jpeg
}

/// Answers a request.
type Answer = Box<dyn Fn(&str, &mut TcpStream) -> std::io::Result<()> + Send>;

/// Serves each connection with the next of `answers`, the last one for all that follow; `http://` of it.
fn server(answers: Vec<Answer>) -> String {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = format!("http://{}", listener.local_addr().unwrap());
    thread::spawn(move || {
        for (i, stream) in listener.incoming().flatten().enumerate() {
            let mut stream: TcpStream = stream;
            let (mut reader, mut request) = (BufReader::new(stream.try_clone().unwrap()), String::new());
            while !request.ends_with("\r\n\r\n") && reader.read_line(&mut request).unwrap_or(0) > 0 {}
            // A client that goes is no error of the server's.
            let _ = answers[i.min(answers.len() - 1)](&request, &mut stream);
        }
    });
    address
}

const HEAD: &str = "HTTP/1.0 200 OK\r\nContent-Type: multipart/x-mixed-replace;boundary=frame\r\n\r\n";

fn part(number: u32) -> Vec<u8> {
    let jpeg = jpeg(number);
    let mut part = format!("--frame\r\nContent-Type: image/jpeg\r\nContent-Length: {}\r\n\r\n", jpeg.len()).into_bytes();
    part.extend(jpeg);
    part.extend(b"\r\n");
    part
}

/// What a source gave: number, when it was captured, its sequence.
fn next(source: &mut dyn Source) -> Result<(u32, Timestamp, u64), SourceError> {
    let (start, mut decoder, mut found) = (Instant::now(), Decoder::default(), None);
    while found.is_none() {
        source.next(Duration::from_millis(50), &mut |picture| {
            let (width, height) = decoder.size(picture).unwrap();
            let mut rgb = vec![0; (width * height * 3) as usize];
            decoder.decode(picture, &mut rgb).unwrap();
            found = Some((read_counter(&rgb, width, height).unwrap(), picture.captured_at, picture.sequence));
        })?;
        assert!(start.elapsed() < PATIENCE);
    }
    Ok(found.unwrap())
}

#[test]
fn a_stream_over_http_is_read_as_it_comes() {
    let clock = RealClock::new();
    let plain = |_: &str, stream: &mut TcpStream| {
        stream.write_all(HEAD.as_bytes())?;
        for number in 0..2000 {
            // In pieces, so that pictures come in halves.
            for piece in part(number).chunks(700) {
                stream.write_all(piece)?;
            }
            thread::sleep(Duration::from_millis(10));
        }
        Ok(())
    };
    let chunked = |_: &str, stream: &mut TcpStream| {
        stream.write_all(
            b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\nContent-Type: multipart/x-mixed-replace; boundary=\"--frame\"\r\n\r\n",
        )?;
        for number in 0..2000 {
            for piece in part(number).chunks(1000) {
                stream.write_all(format!("{:x}\r\n", piece.len()).as_bytes())?;
                stream.write_all(piece)?;
                stream.write_all(b"\r\n")?;
            }
            thread::sleep(Duration::from_millis(10));
        }
        Ok(())
    };
    for url in [server(vec![Box::new(plain)]), server(vec![Box::new(chunked)])] {
        let mut source = HttpMjpeg::new(url, clock.clone()).open().unwrap();
        let mut last = next(&mut *source).unwrap();
        for _ in 0..50 {
            let now = next(&mut *source).unwrap();
            assert!(now.0 > last.0 && now.1 > last.1 && now.1 <= clock.now());
            assert_eq!(now.2 - last.2, u64::from(now.0 - last.0), "what was left out is counted");
            last = now;
        }
        // Who comes late gets the newest, not what has waited for him.
        thread::sleep(Duration::from_millis(500));
        let late = next(&mut *source).unwrap();
        let again = next(&mut *source).unwrap();
        assert!(late.0 > last.0 + 10 && again.0 < late.0 + 10, "{last:?} {late:?} {again:?}");
    }
}

#[test]
fn a_picture_that_comes_again_over_http_is_as_old_as_it_was() {
    let clock = RealClock::new();
    let url = server(vec![Box::new(|_: &str, stream: &mut TcpStream| {
        stream.write_all(HEAD.as_bytes())?;
        for i in 0..500 {
            stream.write_all(&part(u32::from(i >= 100)))?;
            thread::sleep(Duration::from_millis(10));
        }
        Ok(())
    })]);
    let mut source = HttpMjpeg::new(url, clock.clone()).open().unwrap();
    let first = next(&mut *source).unwrap();
    for _ in 0..10 {
        assert_eq!(next(&mut *source).unwrap().1, first.1, "the camera behind it is gone");
    }
    while next(&mut *source).unwrap().0 == first.0 {}
    assert!(next(&mut *source).unwrap().1 > first.1);
}

#[test]
fn redirections_passwords_and_refusals_are_understood() {
    let clock = RealClock::new();
    let target = server(vec![Box::new(|request: &str, stream: &mut TcpStream| {
        let is_known = request.contains(&format!("Authorization: Basic {}\r\n", BASE64.encode(b"me:p@ss")));
        if !is_known {
            return stream.write_all(b"HTTP/1.1 401 Unauthorized\r\nContent-Length: 0\r\n\r\n");
        }
        assert!(request.starts_with("GET /video?x=1 HTTP/1.1\r\nHost: 127.0.0.1:"), "{request}");
        stream.write_all(HEAD.as_bytes())?;
        stream.write_all(&part(7))?;
        stream.write_all(&part(8))
    })]);
    let host = target.trim_start_matches("http://").to_owned();
    let points = format!("HTTP/1.1 302 Found\r\nLocation: http://me:p%40ss@{host}/video?x=1\r\n\r\n");
    let redirecting = server(vec![Box::new(move |_: &str, stream: &mut TcpStream| stream.write_all(points.as_bytes()))]);
    let mut source = HttpMjpeg::new(format!("{redirecting}/old"), clock.clone()).open().unwrap();
    assert!(next(&mut *source).unwrap().0 >= 7);
    // Both have come by now, and the server closed.
    assert!(matches!(next(&mut *source), Err(SourceError::Lost { what, .. }) if what.contains("closed")) || next(&mut *source).is_err());

    let error = |url: String| match HttpMjpeg::new(url, clock.clone()).open() {
        Ok(_) => panic!("it was opened"),
        Err(error) => error,
    };
    let unusable = |url: String, expected: &str| {
        let error = error(url);
        assert!(matches!(error, SourceError::Unusable { .. }) && error.to_string().contains(expected), "{error}");
    };
    let says = |answer: &'static str| server(vec![Box::new(move |_: &str, stream: &mut TcpStream| stream.write_all(answer.as_bytes()))]);
    unusable(format!("{target}/video?x=1"), "USER:PASSWORD@");
    unusable(says("HTTP/1.1 404 Not Found\r\n\r\n"), "expected status 200, found 404");
    unusable(says("HTTP/1.1 200 OK\r\nContent-Type: image/jpeg\r\n\r\n"), "multipart/x-mixed-replace");
    unusable(says("HTTP/1.1 200 OK\r\nContent-Type: multipart/x-mixed-replace\r\n\r\n"), "a boundary");
    unusable(says("SSH-2.0-OpenSSH\r\n\r\n"), "an answer of HTTP");
    unusable(says("HTTP/1.1 302 Found\r\nLocation: https://x/\r\n\r\n"), "encrypted");
    unusable(says("HTTP/1.1 302 Found\r\nLocation: /again\r\n\r\n"), "redirections");
    for url in [says("HTTP/1.1 503 Busy\r\n\r\n"), says("HTTP/1.1 2"), "http://127.0.0.1:1/".to_owned()] {
        assert!(matches!(error(url), SourceError::Lost { .. }));
    }
    let shown = HttpMjpeg::new("http://me:secret@cam/v".to_owned(), clock.clone()).name();
    assert_eq!(shown, "http://cam/v", "no password is shown");
}

#[test]
fn a_server_that_fails_in_the_middle_is_asked_again_and_half_a_picture_is_none() {
    let clock = RealClock::new();
    let run = |stream: &mut TcpStream, from: u32, count: u32| -> std::io::Result<()> {
        stream.write_all(HEAD.as_bytes())?;
        for number in from..from + count {
            stream.write_all(&part(number))?;
            thread::sleep(Duration::from_millis(10));
        }
        Ok(())
    };
    let url = server(vec![
        // Half a picture that says it is whole, one of another size, no picture; then it closes in a picture's middle.
        Box::new(move |_: &str, stream: &mut TcpStream| {
            run(stream, 0, 20)?;
            let half = &jpeg(20)[..400];
            stream.write_all(format!("--frame\r\nContent-Length: {}\r\n\r\n", half.len()).as_bytes())?;
            stream.write_all(half)?;
            let mut other = Vec::new();
            JpegEncoder::new(&mut other).encode(&[9; 32 * 32 * 3], 32, 32, ExtendedColorType::Rgb8).unwrap();
            for bytes in [&other[..], b"no picture"] {
                thread::sleep(Duration::from_millis(60));
                stream.write_all(format!("\r\n--frame\r\nContent-Length: {}\r\n\r\n", bytes.len()).as_bytes())?;
                stream.write_all(bytes)?;
            }
            thread::sleep(Duration::from_millis(60));
            stream.write_all(b"\r\n")?;
            let last = part(21);
            stream.write_all(&last[..last.len() / 2])
        }),
        // It stalls in a picture's middle.
        Box::new(move |_: &str, stream: &mut TcpStream| {
            run(stream, 100, 20)?;
            stream.write_all(&part(120)[..500])?;
            thread::sleep(Duration::from_millis(3500));
            Ok(())
        }),
        Box::new(|_: &str, stream: &mut TcpStream| stream.write_all(b"HTTP/1.1 503 Busy\r\n\r\n")),
        // Garbage where a part should begin.
        Box::new(|_: &str, stream: &mut TcpStream| {
            stream.write_all(HEAD.as_bytes())?;
            stream.write_all(&[0x55; 40_000])
        }),
        Box::new(move |_: &str, stream: &mut TcpStream| run(stream, 200, 5000)),
    ]);
    let camera: CameraDescription = toml::from_str("name = \"net\"\nwidth = 64\nheight = 48").unwrap();
    let when_lost = WhenCameraLost::Reopen { within: Duration::from_secs(60) };
    let setup = CameraSetup { when_lost, ..CameraSetup::new(camera, Box::new(HttpMjpeg::new(url, clock.clone()))) };
    let mut set = CameraSet::start(vec![setup], clock.clone()).unwrap();
    let mut images = vec![Image::black(WIDTH, HEIGHT)];
    let (start, mut last) = (Instant::now(), 0);
    while last < 210 {
        let tick = Tick { turn: 0, due: clock.now(), period: Duration::from_millis(10), wants_images: true };
        set.newest(&tick, &mut images).unwrap();
        if images[0].sequence > 0 {
            let number = read_counter(&images[0].rgb, WIDTH, HEIGHT).unwrap();
            assert!(number >= last && ![20, 21, 120].contains(&number), "{number} after {last}");
            last = number;
        }
        assert!(start.elapsed() < 2 * PATIENCE, "{:?}", set.monitor().health());
        thread::sleep(Duration::from_millis(5));
    }
    let health = set.monitor().health().remove(0);
    assert!(health.reopened >= 2 && health.broken >= 1, "{health:?}");
}

/// Bytes that pyzmq 27 (libzmq 4.3.5) sends for a PUB socket, and a message of LeRobot's image server:
/// `scripts/make_zmq_camera_golden.py`.
const GREETING: &[u8] = include_bytes!("golden/zmq_greeting.bin");
const MESSAGE: &[u8] = include_bytes!("golden/zmq_message.bin");
/// What LeRobot's `ZMQCamera` made of that message: 32 by 24 pixels, RGB.
const SHOWN: &[u8] = include_bytes!("golden/zmq_shown.bin");

/// A PUB socket that sends what `messages` says, each with a pause behind it.
fn publisher(messages: impl Fn(usize) -> Option<Vec<u8>> + Send + 'static) -> u16 {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = listener.local_addr().unwrap().port();
    thread::spawn(move || {
        for mut stream in listener.incoming().flatten() {
            let mut serve = || -> std::io::Result<()> {
                stream.write_all(GREETING)?;
                let mut theirs = [0; 64 + 2 + 25];
                stream.read_exact(&mut theirs)?;
                assert!(theirs.ends_with(b"\x05READY\x0bSocket-Type\x00\x00\x00\x03SUB"), "{theirs:02x?}");
                let mut subscription = [0; 3];
                stream.read_exact(&mut subscription)?;
                assert_eq!(subscription, [0, 1, 1]);
                for i in 0.. {
                    let Some(message) = messages(i) else { break };
                    for piece in message.chunks(900) {
                        stream.write_all(piece)?;
                    }
                    thread::sleep(Duration::from_millis(15));
                }
                Ok(())
            };
            let _ = serve();
        }
    });
    port
}

fn framed(json: &str) -> Vec<u8> {
    let mut bytes = vec![2];
    bytes.extend((json.len() as u64).to_be_bytes());
    bytes.extend(json.as_bytes());
    bytes
}

#[test]
fn a_message_of_lerobot_s_image_server_shows_what_lerobot_shows() {
    let clock = RealClock::new();
    let port = publisher(|_| Some(MESSAGE.to_vec()));
    let mut source = ZmqCamera::new("127.0.0.1".to_owned(), port, "head_camera".to_owned(), clock.clone()).open().unwrap();
    let mut shown = Vec::new();
    let start = Instant::now();
    while shown.is_empty() {
        source
            .next(Duration::from_millis(50), &mut |picture| {
                assert_eq!((picture.format, picture.width, picture.height), (PixelFormat::Rgb, 32, 24));
                shown = picture.bytes.to_vec();
            })
            .unwrap();
        assert!(start.elapsed() < PATIENCE);
    }
    let worst = shown.iter().zip(SHOWN).map(|(a, b)| a.abs_diff(*b)).max().unwrap();
    assert!(shown.len() == SHOWN.len() && worst <= 4, "a byte is {worst} off");
    // The server's time tells that it is the same picture again.
    let mut again = 0;
    for _ in 0..5 {
        source.next(Duration::from_millis(30), &mut |_| again += 1).unwrap();
    }
    assert_eq!(again, 0);
}

#[test]
fn what_a_publisher_should_not_send_is_told() {
    let clock = RealClock::new();
    let open = |port| ZmqCamera::new("127.0.0.1".to_owned(), port, "wrist".to_owned(), clock.clone()).open().unwrap();
    let error = |port| {
        let mut source = open(port);
        let start = Instant::now();
        loop {
            assert!(start.elapsed() < PATIENCE);
            match source.next(Duration::from_millis(50), &mut |_| ()) {
                Ok(_) => {}
                Err(error) => return error.to_string(),
            }
        }
    };
    let of = |name: &str, number: u32| {
        framed(&format!("{{\"timestamps\": {{\"{name}\": {number}.5}}, \"images\": {{\"{name}\": \"{}\"}}}}", BASE64.encode(&jpeg(number))))
    };
    let said = error(publisher(move |i| Some(of("head\u{1}", i as u32))));
    assert!(said.contains("expected images of wrist, found head?") || said.contains("expected JSON"), "{said}");
    assert!(error(publisher(|_| Some(framed("[1, 2]")))).contains("LeRobot's image server"));
    assert!(error(publisher(|_| Some(vec![0xf0, 1]))).contains("flags"));
    assert!(error(publisher(|_| Some(vec![2, 0xff, 0, 0, 0, 0, 0, 0, 0]))).contains("at most"));
    assert!(error(publisher(|i| (i < 3).then(|| framed("{\"images\": {}}")))).contains("closed"));
    // Pictures among messages without one, and one that is none.
    let port = publisher(move |i| {
        Some(match i % 3 {
            0 => of("wrist", i as u32),
            1 => of("head", i as u32),
            _ => framed("{\"timestamps\": {}, \"images\": {}}"),
        })
    });
    let mut source = open(port);
    let mut last = 0;
    for _ in 0..20 {
        let (number, captured_at, _) = next(&mut *source).unwrap();
        assert!(number >= last && number % 3 == 0 && captured_at <= clock.now());
        last = number + 1;
    }
}

#[test]
fn images_of_a_folder_come_in_their_order_at_the_asked_rate() {
    let clock = RealClock::new();
    let folder = tempfile::TempDir::new().unwrap();
    for number in 0..12 {
        let path = folder.path().join(format!("frame{number}.{}", if number % 2 == 0 { "png" } else { "jpg" }));
        if number % 2 == 0 {
            RgbImage::from_raw(WIDTH, HEIGHT, scene(number)).unwrap().save(path).unwrap();
        } else {
            std::fs::write(path, jpeg(number)).unwrap();
        }
    }
    std::fs::write(folder.path().join("notes.txt"), "no image").unwrap();
    let open = |path: &Path, fps| ImageFiles::new(path.to_owned(), fps, clock.clone()).open();
    let mut source = open(folder.path(), 100.0).unwrap();
    assert_eq!((source.stream().width, source.stream().height), (WIDTH, HEIGHT));
    let first = next(&mut *source).unwrap();
    for _ in 0..40 {
        let (number, captured_at, sequence) = next(&mut *source).unwrap();
        assert_eq!(u64::from(number), sequence % 12);
        let due_ms = (sequence - first.2) as f64 * 10.0;
        assert!((captured_at.nanos_since(first.1) as f64 * 1e-6 - due_ms).abs() < 0.01);
    }
    let mut still = open(&folder.path().join("frame10.png"), 50.0).unwrap();
    assert_eq!([next(&mut *still).unwrap().0, next(&mut *still).unwrap().0], [10, 10]);

    let error = |path: &Path, fps| match open(path, fps) {
        Ok(_) => panic!("it was opened"),
        Err(error) => error.to_string(),
    };
    let empty = tempfile::TempDir::new().unwrap();
    assert!(error(empty.path(), 30.0).contains("expected images"));
    assert!(error(&empty.path().join("none.png"), 30.0).contains("No such file"));
    assert!(error(folder.path(), 0.0).contains("pictures a second"));
    std::fs::write(empty.path().join("bad.png"), &jpeg(1)[..300]).unwrap();
    assert!(error(empty.path(), 30.0).contains("bad.png"));
}

#[test]
fn an_address_opens_its_source() {
    let clock = RealClock::new();
    let mut camera: CameraDescription = toml::from_str("name = \"front\"\nwidth = 64\nheight = 48").unwrap();
    let address: CameraAddress = "front=pattern,80x60@50,rotate=90".parse().unwrap();
    address.describe(&mut camera);
    let mut source = address.source(&camera, clock.clone()).unwrap().open().unwrap();
    assert_eq!((source.stream().width, source.stream().height, source.stream().fps), (60, 80, Some(50.0)));
    assert!(source.next(Duration::from_secs(1), &mut |_| ()).unwrap());
    let folder = tempfile::TempDir::new().unwrap();
    let video = folder.path().join("a.mp4");
    std::fs::write(&video, "").unwrap();
    let opens = |source: &str| {
        let address: CameraAddress = format!("front={source}").parse().unwrap();
        address.source(&camera, clock.clone() as Arc<dyn Clock>).map(|source| source.name())
    };
    assert_eq!(opens(&format!("file:{}", folder.path().display())), Some(format!("file:{}", folder.path().display())));
    assert_eq!(opens("http://me:pass@cam/v"), Some("http://cam/v".to_owned()));
    assert_eq!(opens("zmq://cam/head"), Some("zmq://cam:5555/head".to_owned()));
    for elsewhere in [format!("file:{}", video.display()), "usb:1".to_owned(), "0".to_owned(), "zmq".to_owned(), "sim:x".to_owned()] {
        assert_eq!(opens(&elsewhere), None, "{elsewhere}");
    }
}
