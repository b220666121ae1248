//! The three websockets: states, images, and the operator's commands.

use std::collections::VecDeque;
use std::time::Duration;

use sinew_core::service::{Quality, Shot};
use tungstenite::Message;

use super::lease::DEAD_MAN;
use super::socket::{Over, STUCK, Socket, text};
use super::stamps::Stamps;
use super::wire::{Ack, Command, CommandMessage, Hello, Me, Problem, ShotHead, StateMessage};
use super::{Shared, api, keyring};
use crate::time::Watch;

/// How often a socket looks whether the daemon ends, and whether somebody said something.
const LOOK: Duration = Duration::from_millis(20);
/// A state is sent again after so long when nothing has changed: who hears nothing knows that the line is dead.
const STILL: Duration = Duration::from_millis(900);
/// States and images a second where nothing is said, and at most.
const USUAL_HZ: f64 = 30.0;
const MOST_HZ: f64 = 120.0;
/// Images of a camera on their way that nobody has acknowledged.
const WINDOW: usize = 3;
/// How long an acknowledgement may take for this quality, and the next lower one.
const QUICK: Duration = Duration::from_millis(100);
const SLOW: Duration = Duration::from_millis(300);

fn period(rate_hz: Option<f64>) -> Result<Duration, Over> {
    let rate = rate_hz.unwrap_or(USUAL_HZ);
    if !(rate > 0.01 && rate.is_finite()) {
        return Err(Over::Told(api::problem(400, &format!("rate_hz is {rate}, expected 0.01 to {MOST_HZ}"))));
    }
    // A state that comes a little early is not left out.
    Ok(Duration::from_secs_f64(0.9 / rate.min(MOST_HZ)))
}

/// By what a socket was let in.
pub(super) struct Pass {
    pub me: Me,
    pub token: String,
    /// Of the keyring, when the token was good.
    pub revocations: u64,
}

impl Pass {
    /// Whether it is still good, and the daemon goes on.
    fn check(&mut self, shared: &Shared) -> Result<(), Over> {
        if shared.is_over() {
            return Err(Over::Told(api::problem(503, "the daemon ends")));
        }
        let revocations = shared.keyring.revocations();
        if revocations != self.revocations {
            if shared.keyring.who(&self.token).is_none() {
                return Err(Over::Told(api::problem(401, "this device was revoked")));
            }
            self.revocations = revocations;
        }
        Ok(())
    }
}

/// The newest states, until somebody has enough.
pub(super) fn states(shared: &Shared, mut socket: Socket, hello: &Hello, mut pass: Pass) {
    let over = (|| -> Result<(), Over> {
        let mut period = period(hello.rate_hz)?;
        socket.keep_little();
        socket.say(&StateMessage::Welcome(pass.me.clone()))?;
        let (mut seen, mut sent) = (0, Watch::start());
        loop {
            pass.check(shared)?;
            // Who wants other states may say so at any time. One who has enough is waited for.
            let within = if socket.has_enough() { LOOK } else { Duration::ZERO };
            if let Some(Hello { rate_hz, .. }) = socket.next(within)? {
                period = self::period(rate_hz)?;
            }
            let newest = shared.service.wait(seen, LOOK);
            if seen > 0 && sent.elapsed() < if newest == seen { STILL } else { period } {
                if newest != seen {
                    std::thread::sleep(period.saturating_sub(sent.elapsed()).min(LOOK));
                }
                continue;
            }
            let state = shared.state();
            let message = text(&StateMessage::State(&state))?;
            if socket.follow(|| message)? {
                (seen, sent) = (state.sequence, Watch::start());
            }
        }
    })();
    let Err(over) = over else { return };
    socket.end(over, |problem| text(&StateMessage::Error(problem)).ok());
}

/// What one viewer has of one camera.
struct View {
    camera: usize,
    name: String,
    /// The last image that was sent.
    seen: u64,
    sent: Watch,
    is_first: bool,
    /// Numbers of messages that nobody has acknowledged, and since when they are on their way.
    under_way: VecDeque<(u64, Watch)>,
}

/// Images, the newest ones only, as fast as they are acknowledged.
pub(super) fn shots(shared: &Shared, mut socket: Socket, hello: &Hello, mut pass: Pass) {
    let over = (|| -> Result<(), Over> {
        let period = period(hello.rate_hz)?;
        let mut views = views(shared, hello.cameras.as_deref())?;
        socket.say(&StateMessage::Welcome(pass.me.clone()))?;
        let (mut number, mut news, mut taking) = (0, 0, Duration::ZERO);
        loop {
            pass.check(shared)?;
            while let Some(Ack { ack }) = socket.next(Duration::ZERO)? {
                for view in &mut views {
                    while let Some((_, since)) = view.under_way.pop_front_if(|(number, _)| *number <= ack) {
                        taking = (taking * 7 + since.elapsed()) / 8;
                    }
                }
            }
            let stuck = views.iter().filter_map(|view| view.under_way.front()).map(|(_, since)| since.elapsed()).max();
            if stuck.is_some_and(|stuck| stuck > STUCK) {
                return Err(Over::Told(api::problem(408, "no image was acknowledged for ten seconds")));
            }
            let quality = quality(taking);
            for view in &mut views {
                if view.under_way.len() >= WINDOW || (!view.is_first && view.sent.elapsed() < period) || !socket.is_free()? {
                    continue;
                }
                let Some(shot) = shared.service.shot(view.camera, view.seen, quality) else { continue };
                let message = framed(number + 1, &view.name, &shot)?;
                if socket.offer(|| message)? {
                    number += 1;
                    (view.seen, view.sent, view.is_first) = (shot.sequence, Watch::start(), false);
                    view.under_way.push_back((number, Watch::start()));
                }
            }
            news = shared.service.wait(news, LOOK);
        }
    })();
    let Err(over) = over else { return };
    socket.end(over, |problem| text(&StateMessage::Error(problem)).ok());
}

fn views(shared: &Shared, wanted: Option<&[String]>) -> Result<Vec<View>, Over> {
    let names: Vec<String> = shared.service.robot().cameras.into_iter().map(|camera| camera.name).collect();
    if let Some(unknown) = wanted.into_iter().flatten().find(|wanted| !names.contains(wanted)) {
        return Err(Over::Told(api::problem(404, &format!("the robot has no camera {unknown}; it has {}", names.join(", ")))));
    }
    let is_wanted = |name: &String| wanted.is_none_or(|wanted| wanted.contains(name));
    let view = |(camera, name)| View { camera, name, seen: 0, sent: Watch::start(), is_first: true, under_way: VecDeque::new() };
    Ok(names.into_iter().enumerate().filter(|(_, name)| is_wanted(name)).map(view).collect())
}

/// For a viewer who takes so long to acknowledge.
fn quality(taking: Duration) -> Quality {
    match taking {
        taking if taking < QUICK => Quality::High,
        taking if taking < SLOW => Quality::Medium,
        _ => Quality::Low,
    }
}

/// The length of the head, the head, and the image.
fn framed(number: u64, camera: &str, shot: &Shot) -> Result<Message, Over> {
    let head = ShotHead {
        number,
        camera: camera.to_owned(),
        sequence: shot.sequence,
        width: shot.width,
        height: shot.height,
        age_ms: shot.age.as_secs_f64() * 1e3,
    };
    let head = serde_json::to_vec(&head).map_err(|error| Over::Told(api::problem(500, &format!("writing a head: {error}"))))?;
    let mut bytes = Vec::with_capacity(4 + head.len() + shot.jpeg.len());
    bytes.extend_from_slice(&(head.len() as u32).to_le_bytes());
    bytes.extend_from_slice(&head);
    bytes.extend_from_slice(&shot.jpeg);
    Ok(Message::binary(bytes))
}

/// The commands of somebody who is the operator, or wants to be.
pub(super) fn commands(shared: &Shared, mut socket: Socket, id: u64, mut pass: Pass) {
    let over = (|| -> Result<(), Over> {
        let name = pass.me.name.clone();
        socket.say(&CommandMessage::Welcome(pass.me.clone()))?;
        let (mut has_lease, mut stamps) = (false, Stamps::new());
        loop {
            pass.check(shared)?;
            let command = socket.next(LOOK)?;
            if has_lease && !shared.desk.is_held_by(id) {
                has_lease = false;
                socket.say(&CommandMessage::Expired {})?;
            }
            match command {
                None => {}
                Some(Command::Take {}) => {
                    let fresh = keyring::random_hex(16)
                        .map_err(|error| Over::Told(api::problem(500, &format!("asking the system for random numbers: {error}"))))?;
                    match shared.desk.take(id, &name, fresh) {
                        Ok(lease) => {
                            has_lease = true;
                            socket.say(&CommandMessage::Lease { lease, dead_man_ms: DEAD_MAN.as_millis() as u64 })?;
                        }
                        Err(holder) => socket.say(&CommandMessage::Refused { error: format!("{holder} has the lease") })?,
                    }
                }
                Some(Command::Release {}) => {
                    shared.desk.release(id);
                    if std::mem::take(&mut has_lease) {
                        socket.say(&CommandMessage::Expired {})?;
                    }
                }
                Some(Command::Alive {}) => {
                    if shared.desk.hear(id) {
                        continue;
                    }
                    socket.say(&none())?;
                }
                Some(Command::Goals { goals, number }) => {
                    if !shared.desk.hear(id) {
                        socket.say(&none())?;
                    } else if let Err(refusal) = shared.service.steer(&goals) {
                        socket.say(&CommandMessage::Refused { error: refusal.to_string() })?;
                    } else {
                        socket.say(&CommandMessage::Heard { number })?;
                    }
                }
                Some(Command::Hands { time_s, hands, number }) => {
                    let hold = |age| shared.service.hold(id, &hands, age).map_err(|refusal| refusal.to_string());
                    if !shared.desk.hear(id) {
                        socket.say(&none())?;
                    } else if let Err(error) = stamps.age(time_s).and_then(hold) {
                        socket.say(&CommandMessage::Refused { error })?;
                    } else {
                        socket.say(&CommandMessage::Heard { number })?;
                    }
                }
                Some(Command::Stop { stop }) => shared.stop(stop),
            }
        }
    })();
    shared.desk.release(id);
    let Err(over) = over else { return };
    socket.end(over, |problem| text(&CommandMessage::Error(problem)).ok());
}

fn none() -> CommandMessage {
    CommandMessage::Refused { error: "you have no lease; take it first".to_owned() }
}

/// What somebody is told who asks for a socket and may not have it.
pub(super) fn refuse(socket: Socket, problem: Problem) {
    socket.end(Over::Told(problem), |problem| text(&StateMessage::Error(problem)).ok());
}
