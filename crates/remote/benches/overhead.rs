//! What being remote costs on one machine: two raw cameras of 640x480 to a server that answers at once, and back.
//!
//! `cargo bench -p sinew-remote --bench overhead` prints it.

#![allow(clippy::unwrap_used, clippy::print_stdout, reason = "a measurement for people")]

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
        Ok(Served { rows: 50, width: 6, values: vec![0.5; 300] })
    }
}

fn main() {
    const REQUESTS: usize = 1000;
    let text = include_str!("../../../robots/so101/robot.toml");
    let mut robot = RobotDescription::from_toml("so101", text).unwrap();
    robot.cameras = ["front", "wrist"].map(|name| CameraDescription::new(name.into(), 640, 480)).into();
    let server = Server::bind(ServerOptions::new("127.0.0.1:0".parse().unwrap())).unwrap();
    server.serve(Arc::new(AtOnce));
    let address = format!("ws://{}", server.address()).parse().unwrap();
    let options = RemoteOptions { keys: Some(KeyMap::lerobot().unwrap()), ..RemoteOptions::new(address) };
    let mut policy = RemotePolicy::connect(&options, &robot).unwrap();
    let mut observation = Observation::for_robot(&robot);
    for tick in 0..REQUESTS as u64 {
        observation.tick = tick;
        let image = &mut observation.images[0].rgb;
        image[tick as usize] ^= 0xff;
        policy.infer(std::slice::from_ref(&observation), "put the cube into the bin").unwrap();
    }
    let report = policy.reporter().report();
    println!("{} answers to requests of {} bytes; milliseconds at p50, p99, max", report.answers, report.bytes_sent / report.requests);
    for (name, times) in [
        ("prepare", &report.prepare_ms),
        ("send", &report.send_ms),
        ("wait", &report.wait_ms),
        ("of it the server", &report.server_ms),
        ("read", &report.read_ms),
        ("all", &report.total_ms),
    ] {
        let [p50, p99, max] = [0.5, 0.99, 1.0].map(|q| times.quantile(q).unwrap());
        println!("{name:16} {p50:8.3} {p99:8.3} {max:8.3}");
    }
}
