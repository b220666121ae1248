//! Each end with a test at the other.

use std::fs::File;
use std::io::{self, Read, Write};
use std::os::fd::OwnedFd;
use std::os::unix::net::UnixStream;
use std::sync::mpsc;
use std::thread;
use std::time::{Duration, Instant};

use proptest::prelude::*;
use sinew_core::{Lease, LeaseError, LeaseState, Lifeline, LifelineCheck, LifelinePort};

use super::guard::{WatchError, Watched, attend};
use super::heartbeat::Watchdog;
use super::wire::{Inbox, Message, Received, WireError};
use super::{LEASE, check_lifeline, write_lifeline};
use crate::{StopFlag, StopLevel};

const LONG: Duration = Duration::from_secs(10);

fn port(frames: Vec<Vec<u8>>) -> (LifelinePort, io::PipeReader) {
    let (reader, writer) = io::pipe().unwrap();
    (LifelinePort { name: "arm".into(), descriptor: writer.into(), frames, gap: Duration::from_millis(2), checks: vec![] }, reader)
}

fn wait(until: impl Fn() -> bool) {
    let start = Instant::now();
    while !until() {
        assert!(start.elapsed() < LONG);
        thread::sleep(Duration::from_millis(1));
    }
}

/// The test's end of a socket.
struct Peer {
    socket: UnixStream,
    inbox: Inbox,
}

impl Peer {
    fn new(socket: UnixStream) -> Self {
        Self { socket, inbox: Inbox::default() }
    }

    fn say(&self, message: &Message) {
        assert!(message.send_short(&self.socket).unwrap());
    }

    fn hear(&mut self) -> Received {
        self.inbox.next(&self.socket, None).unwrap()
    }

    /// Whether something comes within some milliseconds.
    fn hears_within_ms(&mut self, ms: i64) -> bool {
        let deadline_ns = crate::clock::monotonic_ns() + ms * 1_000_000;
        !matches!(self.inbox.next(&self.socket, Some(deadline_ns)).unwrap(), Received::Nothing)
    }
}

// The main process's end.

fn watched() -> (Watchdog, StopFlag, Peer) {
    let (ours, theirs) = UnixStream::pair().unwrap();
    let stop = StopFlag::new();
    (Watchdog::over(ours, None, stop.clone(), None).unwrap(), stop, Peer::new(theirs))
}

fn armed() -> (Watchdog, StopFlag, Peer) {
    let (watchdog, stop, mut peer) = watched();
    thread::scope(|scope| {
        let arming = scope.spawn(|| watchdog.arm(Lifeline::default()));
        let Received::Message(Message::Arm { number, .. }) = peer.hear() else { panic!("no ARM") };
        assert_eq!(watchdog.state(), LeaseState::Unconfirmed);
        peer.say(&Message::Held { number });
        arming.join().unwrap().unwrap();
    });
    (watchdog, stop, peer)
}

#[test]
fn the_lease_is_held_while_beats_are_confirmed_and_no_longer() {
    let (watchdog, stop, mut peer) = armed();
    for _ in 0..2 {
        // Nobody confirms.
        thread::sleep(LEASE);
        assert_eq!(watchdog.state(), LeaseState::Unconfirmed);
        // A beat alone is no lease; its confirmation is.
        watchdog.beat();
        let Received::Message(Message::Beat { number }) = peer.hear() else { panic!("no BEAT") };
        assert_eq!(watchdog.state(), LeaseState::Unconfirmed);
        peer.say(&Message::Held { number });
        // Where this test was kept waiting for long, the beat is too old; then the next does it.
        let start = Instant::now();
        while watchdog.state() != LeaseState::Held {
            assert!(start.elapsed() < LONG);
            watchdog.beat();
            if peer.hears_within_ms(6) {
                peer.say(&Message::Held { number: watchdog.newest_sent() });
            }
        }
        while peer.hears_within_ms(20) {}
    }
    watchdog.disarm();
    assert_eq!(watchdog.state(), LeaseState::Unconfirmed, "torque is off, and to stay so");
    assert!(matches!(peer.hear(), Received::Message(Message::Disarm)));
    drop(watchdog);
    assert!(matches!(peer.hear(), Received::Closed) && !stop.is_requested());
}

#[test]
fn a_confirmation_lasts_from_when_the_beat_was_made() {
    let (watchdog, _, mut peer) = armed();
    watchdog.beat();
    let Received::Message(Message::Beat { number }) = peer.hear() else { panic!("no BEAT") };
    thread::sleep(LEASE);
    peer.say(&Message::Held { number });
    thread::sleep(Duration::from_millis(20));
    assert_eq!(watchdog.state(), LeaseState::Unconfirmed, "it comes too late");
}

#[test]
fn only_what_the_control_thread_made_is_sent() {
    let (watchdog, _, mut peer) = armed();
    // ARM was a beat; its own time may be sent once more.
    peer.hears_within_ms(30);
    assert!(!peer.hears_within_ms(50), "the heartbeat thread lives, the control thread doesn't");
    watchdog.beat();
    assert!(peer.hears_within_ms(1000));
    assert!(!peer.hears_within_ms(50), "each once");
}

#[test]
fn a_watchdog_that_has_acted_is_lost_for_good_and_told_when_the_robot_is_safe() {
    let (watchdog, stop, mut peer) = armed();
    peer.say(&Message::Taken);
    wait(|| watchdog.state() == LeaseState::Lost);
    assert_eq!(stop.level(), StopLevel::Now);
    watchdog.beat();
    peer.say(&Message::Held { number: watchdog.newest_sent() });
    thread::sleep(Duration::from_millis(20));
    assert_eq!(watchdog.state(), LeaseState::Lost);
    assert!(matches!(watchdog.arm(Lifeline::default()), Err(LeaseError::Lost)));
    watchdog.disarm();
    let mut disarmed = false;
    loop {
        match peer.hear() {
            Received::Message(Message::Disarm) => disarmed = true,
            Received::Closed => break,
            Received::Message(Message::Beat { .. }) => {}
            other => panic!("{other:?}"),
        }
    }
    assert!(disarmed);
}

#[test]
fn a_watchdog_that_is_gone_or_cannot_be_understood_is_lost() {
    for bytes in [&b""[..], b"a whole lot of text", &[1, 3, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0]] {
        let (watchdog, stop, mut peer) = armed();
        if bytes.is_empty() {
            drop(peer);
        } else {
            peer.socket.write_all(bytes).unwrap();
            while !matches!(peer.hear(), Received::Closed) {}
        }
        wait(|| watchdog.state() == LeaseState::Lost && stop.level() == StopLevel::Now);
    }
    let (watchdog, _, peer) = armed();
    peer.say(&Message::Held { number: u64::MAX >> 1 });
    wait(|| watchdog.state() == LeaseState::Lost);
}

#[test]
fn a_watchdog_that_does_not_answer_does_not_arm() {
    let (watchdog, _, mut peer) = watched();
    let start = Instant::now();
    let error = watchdog.arm(Lifeline::default()).unwrap_err();
    assert!(matches!(error, LeaseError::Unconfirmed { .. }) && start.elapsed() < LONG, "{error}");
    assert_eq!(error.to_string(), "arming the watchdog: expected its confirmation within 1s, found none");
    assert!(matches!(peer.hear(), Received::Message(Message::Arm { .. })));
    assert!(matches!(peer.hear(), Received::Message(Message::Disarm)), "should it wake later");
    assert_eq!(watchdog.state(), LeaseState::Unconfirmed);
}

#[test]
fn a_lifeline_that_is_too_large_is_refused() {
    let (watchdog, stop, mut peer) = watched();
    let frames = |count, bytes| vec![vec![0; bytes]; count];
    let gap = |gap| LifelinePort { gap, ..port(vec![]).0 };
    let cases: [(Vec<LifelinePort>, &str); 6] = [
        ((0..9).map(|_| port(vec![]).0).collect(), "at most 8 ports, found 9"),
        (vec![port(frames(65, 1)).0], "at most 64 packets for a port, found 65"),
        (vec![port(frames(1, 1025)).0], "at most 1024 bytes of a packet, found 1025"),
        (vec![gap(Duration::from_secs(1))], "at most 20000 microseconds between two packets, found 1000000"),
        (vec![LifelinePort { name: "x".repeat(256), ..port(vec![]).0 }], "at most 255 bytes of a port's name, found 256"),
        (vec![port(frames(64, 1024)).0], "at most 65536 bytes in all, found 65675"),
    ];
    for (ports, expected) in cases {
        let error = watchdog.arm(Lifeline { ports }).unwrap_err();
        assert_eq!(error.to_string(), format!("arming the watchdog: expected {expected}"));
    }
    assert!(!peer.hears_within_ms(20) && !stop.is_requested());
}

// The watchdog's end.

/// A watchdog with a patience of 0.1 s, and what comes of it.
fn guarded<F>(make_safe: F) -> (Peer, thread::JoinHandle<Result<Watched, WatchError>>)
where
    F: FnMut(&Lifeline) -> Result<(), io::Error> + Send + 'static,
{
    let (ours, theirs) = UnixStream::pair().unwrap();
    (Peer::new(ours), thread::spawn(move || attend(OwnedFd::from(theirs), super::WATCHDOG_PATIENCE, make_safe)))
}

fn arm(peer: &mut Peer, lifeline: Lifeline) {
    Message::send_arm(&peer.socket, 7, lifeline).unwrap();
    assert!(matches!(peer.hear(), Received::Message(Message::Held { number: 7 })));
}

#[test]
fn packets_reach_their_port_in_order_with_their_gap() {
    let (mut peer, watchdog) = guarded(|lifeline| write_lifeline(lifeline).map_err(io::Error::other));
    let frames = || vec![b"one ".to_vec(), b"two ".to_vec(), vec![]];
    let (ports, readers): (Vec<_>, Vec<_>) = (0..3).map(|_| port(frames())).unzip();
    arm(&mut peer, Lifeline { ports });
    drop(peer);
    for mut reader in readers {
        let mut text = String::new();
        reader.read_to_string(&mut text).unwrap();
        // What a process that was killed had half written may swallow one.
        assert_eq!(text, "one two ".repeat(3));
    }
    assert_eq!(watchdog.join().unwrap().unwrap(), Watched::Gone);
}

#[test]
fn a_port_that_is_gone_is_named_and_the_others_get_theirs() {
    let (first, mut reader) = port(vec![b"bytes".to_vec()]);
    let (second, unplugged) = port(vec![vec![1], vec![2]]);
    drop(unplugged);
    let lifeline = Lifeline { ports: vec![LifelinePort { name: "leg".into(), ..second }, first] };
    let begin = Instant::now();
    let error = write_lifeline(&lifeline).unwrap_err();
    assert_eq!(error.to_string(), "writing packet 1 of 2 of the safe action to leg");
    assert_eq!(error.source.kind(), io::ErrorKind::BrokenPipe);
    assert!(begin.elapsed() < LONG);
    drop(lifeline);
    let mut text = String::new();
    reader.read_to_string(&mut text).unwrap();
    assert_eq!(text, "bytes");
}

#[test]
fn it_can_be_armed_again_and_says_which_beats_it_heard() {
    let (mut peer, watchdog) = guarded(|_| Err(io::Error::other("nobody asked for it")));
    for _ in 0..2 {
        arm(&mut peer, Lifeline::default());
        peer.say(&Message::Beat { number: 11 });
        assert!(matches!(peer.hear(), Received::Message(Message::Held { number: 11 })));
        peer.say(&Message::Disarm);
        peer.say(&Message::Beat { number: 12 });
        assert!(matches!(peer.hear(), Received::Message(Message::Held { number: 12 })));
        assert!(!peer.hears_within_ms(150), "disarmed it waits as long as it takes");
    }
    drop(peer);
    assert_eq!(watchdog.join().unwrap().unwrap(), Watched::Ended);
}

#[test]
fn it_repeats_the_safe_action_and_answers_taken_until_it_is_disarmed() {
    let (told, actions) = mpsc::channel();
    let (mut peer, watchdog) = guarded(move |_| told.send(Instant::now()).map_err(io::Error::other));
    arm(&mut peer, Lifeline::default());
    let begin = Instant::now();
    let first = actions.recv_timeout(LONG).unwrap();
    assert!(first - begin > Duration::from_millis(90));
    let second = actions.recv_timeout(LONG).unwrap();
    assert!(second - first > Duration::from_millis(45));
    while peer.hears_within_ms(1) {}
    peer.say(&Message::Beat { number: 12 });
    assert!(matches!(peer.hear(), Received::Message(Message::Taken)));
    let soon = (0..1000).map(|_| actions.recv_timeout(LONG).unwrap()).find(|action| *action - first > Duration::from_millis(1100)).unwrap();
    let later = actions.recv_timeout(LONG).unwrap();
    assert!(later - soon > Duration::from_millis(450));
    peer.say(&Message::Disarm);
    assert_eq!(watchdog.join().unwrap().unwrap(), Watched::Frozen);
}

#[test]
fn a_safe_action_that_fails_is_tried_again_for_one_that_is_gone() {
    let mut failures = 4;
    let (told, actions) = mpsc::channel();
    let (mut peer, watchdog) = guarded(move |_| {
        told.send(()).map_err(io::Error::other)?;
        failures -= 1;
        if failures >= 0 { Err(io::Error::other("no power")) } else { Ok(()) }
    });
    arm(&mut peer, Lifeline::default());
    drop(peer);
    assert_eq!(watchdog.join().unwrap().unwrap(), Watched::Gone);
    assert_eq!(actions.iter().count(), 5);
}

#[test]
fn what_it_cannot_understand_while_armed_makes_the_robot_safe() {
    // Text, and a kind that only the watchdog says.
    for bytes in [&b"a whole lot of text"[..], &[1, 5, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0]] {
        let (told, actions) = mpsc::channel();
        let (mut peer, watchdog) = guarded(move |_| told.send(()).map_err(io::Error::other));
        arm(&mut peer, Lifeline::default());
        peer.socket.write_all(bytes).unwrap();
        actions.recv_timeout(LONG).unwrap();
        assert!(matches!(peer.hear(), Received::Closed), "we learn that there is no watchdog any more");
        for _ in 0..3 {
            actions.recv_timeout(LONG).unwrap();
        }
        drop(peer);
        assert!(matches!(watchdog.join().unwrap(), Err(WatchError::Message(_))));
    }
}

// Messages.

fn header(kind: u8, length: u32) -> Vec<u8> {
    let mut bytes = vec![1, kind, 0, 0];
    bytes.extend(length.to_le_bytes());
    bytes.extend(9u64.to_le_bytes());
    bytes
}

/// What comes of some bytes before the other end is gone.
fn read(bytes: &[u8]) -> Received {
    let (mut ours, theirs) = UnixStream::pair().unwrap();
    ours.write_all(bytes).unwrap();
    drop(ours);
    Peer::new(theirs).hear()
}

#[test]
fn lengths_and_counts_are_checked_before_they_are_believed() {
    let arm = |payload: &[u8]| [header(1, payload.len() as u32), payload.to_vec()].concat();
    let cases = [
        (vec![9; 16], WireError::Version { found: 9 }),
        (header(0, 0), WireError::Kind { found: 0 }),
        (header(2, 1), WireError::TooMuch { what: "bytes of a message", most: 0, found: 1 }),
        (header(1, u32::MAX), WireError::TooMuch { what: "bytes of a message", most: 65536, found: u64::from(u32::MAX) }),
        (arm(&[]), WireError::Count { what: "bytes of a count", expected: 1, found: 0 }),
        (arm(&[9]), WireError::TooMuch { what: "ports", most: 8, found: 9 }),
        (arm(&[1, 1, b'x', 0, 0, 0, 0, 0]), WireError::Count { what: "open ports", expected: 1, found: 0 }),
        (arm(&[0, 5]), WireError::Count { what: "bytes after the last port", expected: 0, found: 1 }),
    ];
    for (bytes, expected) in cases {
        let Received::Garbled(found) = read(&bytes) else { panic!("{bytes:?}") };
        assert_eq!(found, expected);
    }
    assert!(matches!(read(&header(2, 0)[..15]), Received::Closed), "half a message is none");
}

#[test]
fn a_lifeline_arrives_whole_and_its_ports_close_with_it() {
    let (ours, theirs) = UnixStream::pair().unwrap();
    let mut peer = Peer::new(theirs);
    let (first, mut reader) = port(vec![b"bytes".to_vec()]);
    Message::send_arm(&ours, 3, Lifeline { ports: vec![first] }).unwrap();
    let Received::Message(Message::Arm { number: 3, lifeline }) = peer.hear() else { panic!("no ARM") };
    let [port] = &lifeline.ports[..] else { panic!("{lifeline:?}") };
    assert_eq!((&*port.name, &port.frames[..], port.gap), ("arm", &[b"bytes".to_vec()][..], Duration::from_millis(2)));
    File::from(port.descriptor.try_clone().unwrap()).write_all(b"through").unwrap();
    drop(lifeline);
    let mut text = String::new();
    reader.read_to_string(&mut text).unwrap();
    assert_eq!(text, "through", "and it is closed with its lifeline");
}

proptest! {
    #[test]
    fn no_bytes_break_the_reader(mut bytes in prop::collection::vec(any::<u8>(), 0..200), is_arm in any::<bool>()) {
        if is_arm {
            let payload = bytes;
            bytes = [header(1, payload.len() as u32), payload].concat();
        }
        read(&bytes);
    }
}

#[test]
fn motors_that_are_to_hold_are_asked_until_they_answer() {
    let check = |motor: u8| LifelineCheck { packet: vec![0xff, motor], answer: vec![0xaa, motor, 1] };
    let (ours, mut theirs) = UnixStream::pair().unwrap();
    // What nobody asked for lies there already.
    theirs.write_all(&[0xaa, 2, 1, 7]).unwrap();
    let ports = vec![LifelinePort { checks: vec![check(1), check(2), check(3)], ..port(vec![]).0 }];
    let lifeline =
        Lifeline { ports: ports.into_iter().map(|port| LifelinePort { descriptor: ours.try_clone().unwrap().into(), ..port }).collect() };
    let motors = thread::spawn(move || {
        let (mut asked, mut packet) = ([0; 4], [0; 2]);
        while theirs.read_exact(&mut packet).is_ok() {
            let motor = usize::from(packet[1]);
            asked[motor] += 1;
            // The first hears the second question only, the second has no torque, the third answers at once.
            match (motor, asked[motor]) {
                (1, 2) => theirs.write_all(&[0x55, 0xaa, 1, 1, 9]).unwrap(),
                (2, _) => theirs.write_all(&[0xaa, 2, 0]).unwrap(),
                (3, _) => theirs.write_all(&[0xaa, 3, 1]).unwrap(),
                _ => {}
            }
        }
        asked
    });
    // As the safe action leaves it.
    write_lifeline(&lifeline).unwrap();
    assert_eq!(check_lifeline(&lifeline), (2, 3));
    drop((lifeline, ours));
    assert_eq!(motors.join().unwrap(), [0, 2, 3, 1]);
}
