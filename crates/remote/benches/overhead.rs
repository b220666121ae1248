//! What being remote costs on one machine: two cameras of 640x480 to a server that answers at once, and back. Raw over openpi's
//! websocket, then as JPEGs over HTTP.
//!
//! `cargo bench -p sinew-remote --bench overhead` prints it.

#![allow(clippy::unwrap_used, clippy::print_stdout, reason = "a measurement for people")]

use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::{SocketAddr, TcpListener};
use std::sync::Arc;

use sinew_core::{CameraDescription, Observation, Policy as _, RobotDescription};
use sinew_remote::codec::{Packer, Value};
use sinew_remote::{Answerer, KeyMap, RemoteOptions, RemotePolicy, Served, Server, ServerOptions};

/// Looks at every image's size and answers 50 rows.
struct AtOnce;

impl Answerer for AtOnce {
    fn metadata(&self) -> Vec<u8> {
        let mut packer = Packer::default();
        packer.map(0);
        packer.into_bytes()
    }

    fn answer(&self, observation: &Value<'_>) -> Result<Served, String> {
        let bytes: usize =
            observation.entries().iter().map(|(_, value)| if let Value::Tensor(tensor) = value { tensor.data.len() } else { 0 }).sum();
        assert!(bytes > 2 * 640 * 480 * 3);
        Ok(Served { rows: 50, width: 6, values: vec![0.5; 300], took: None })
    }
}

/// Answers POSTs at once with 50 rows, each time a little others.
fn endpoint() -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    std::thread::spawn(move || {
        for (serial, tcp) in listener.incoming().map_while(Result::ok).enumerate() {
            let (mut reader, mut writer) = (BufReader::new(tcp.try_clone().unwrap()), tcp);
            writer.set_nodelay(true).unwrap();
            let mut rows = vec![vec![serial as f64; 6]; 50];
            let mut body = Vec::new();
            loop {
                let (mut length, mut line) = (0, String::new());
                while reader.read_line(&mut line).unwrap_or(0) > 2 {
                    length = line.strip_prefix("Content-Length: ").map_or(length, |length| length.trim().parse().unwrap());
                    line.clear();
                }
                body.resize(length, 0);
                if length == 0 || reader.read_exact(&mut body).is_err() {
                    break;
                }
                rows[0][0] += 1e-3;
                let json = serde_json::json!({ "actions": rows }).to_string();
                write!(writer, "HTTP/1.1 200 OK\r\nContent-Length: {}\r\n\r\n{json}", json.len()).unwrap();
            }
        }
    });
    address
}

fn main() {
    let server = Server::bind(ServerOptions::new("127.0.0.1:0".parse().unwrap())).unwrap();
    server.serve(Arc::new(AtOnce));
    measure(&format!("ws://{}", server.address()), 1000);
    measure(&format!("http://{}", endpoint()), 200);
}

fn measure(address: &str, requests: u64) {
    let text = include_str!("../../../robots/so101/robot.toml");
    let mut robot = RobotDescription::from_toml("so101", text).unwrap();
    robot.cameras = ["front", "wrist"].map(|name| CameraDescription::new(name.into(), 640, 480)).into();
    let address = address.parse().unwrap();
    let options = RemoteOptions { keys: Some(KeyMap::lerobot().unwrap()), ..RemoteOptions::new(address) };
    let mut policy = RemotePolicy::connect(&options, &robot).unwrap();
    let mut observation = Observation::for_robot(&robot);
    // Edges, slopes and noise, as a camera has them.
    for image in &mut observation.images {
        let noise = (0_u32..).map(|i| (i.wrapping_mul(2_654_435_761) >> 29) as u8);
        image
            .rgb
            .iter_mut()
            .zip(noise)
            .enumerate()
            .for_each(|(i, (byte, noise))| *byte = (i / 3 % 640 / 5 + i / 1920 / 60 * 16) as u8 + noise);
    }
    for tick in 0..requests {
        observation.tick = tick;
        let image = &mut observation.images[0].rgb;
        image[tick as usize] ^= 0xff;
        policy.infer(std::slice::from_ref(&observation), "put the cube into the bin").unwrap();
    }
    let report = policy.reporter().report();
    println!(
        "{}: {} answers to requests of {} bytes; milliseconds at p50, p99, max",
        report.address,
        report.answers,
        report.bytes_sent / report.requests
    );
    for (name, times) in [
        ("prepare", &report.prepare_ms),
        ("send", &report.send_ms),
        ("wait", &report.wait_ms),
        ("of it the server", &report.server_ms),
        ("read", &report.read_ms),
        ("all", &report.total_ms),
    ] {
        // Only openpi's answers say what the server took.
        let [Some(p50), Some(p99), Some(max)] = [0.5, 0.99, 1.0].map(|q| times.quantile(q)) else { continue };
        println!("{name:16} {p50:8.3} {p99:8.3} {max:8.3}");
    }
}
