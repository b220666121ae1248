//! A robot that is led over a network that goes dark, stalls, or has two who would lead.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "what fails here fails the test")]

mod faulty;

use std::io::{Read as _, Write as _};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::atomic::{AtomicBool, Ordering::SeqCst};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use faulty::Network;
use sinew_core::service::{ChannelInfo, Unit};
use sinew_remote::{Follower, Leader, LinkInfo};

fn info() -> LinkInfo {
    let channel = ChannelInfo { name: "a.pos".into(), unit: Unit::Radian, lower: None, upper: None, scale: 1.0, offset: 0.0 };
    LinkInfo { robot: "fake".into(), rate_hz: 50, state: vec![channel.clone()], action: vec![channel] }
}

/// When each goal was followed; a goal is the number of milliseconds since the beginning at which it was wanted.
type Followed = Arc<Mutex<Vec<(f64, f64)>>>;

struct Ends {
    follower: Follower,
    followed: Followed,
    begun: Instant,
    address: SocketAddr,
}

fn follower() -> Ends {
    let address = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let (followed, begun) = (Followed::default(), Instant::now());
    let notes = followed.clone();
    let led = move |_: Duration, goals: &[f64]| notes.lock().unwrap().push((ms(begun), goals[0]));
    let place = format!("listen:tcp/{address}").parse().unwrap();
    let follower = Follower::open(&place, &"arm".parse().unwrap(), &info(), led).unwrap();
    follower.tell([Some(0.25)].into_iter(), &[0.5]);
    Ends { follower, followed, begun, address }
}

fn ms(begun: Instant) -> f64 {
    begun.elapsed().as_secs_f64() * 1e3
}

fn leader(through: SocketAddr) -> Leader {
    Leader::open(format!("tcp/{through}").parse().unwrap(), "arm".parse().unwrap()).unwrap()
}

/// Leads for so long; when feedback was missing first, and when it was there last, in milliseconds since the beginning.
fn lead(leader: &mut Leader, begun: Instant, time: Duration) {
    let until = Instant::now() + time;
    while Instant::now() < until {
        if leader.feedback().is_some() {
            leader.send(&[ms(begun)]);
        }
        std::thread::sleep(Duration::from_millis(20));
    }
}

/// That nothing that was followed was older than the dead-man.
#[track_caller]
fn assert_fresh(followed: &Followed) {
    let followed = followed.lock().unwrap();
    let oldest = followed.iter().map(|(at, wanted)| at - wanted).fold(0.0, f64::max);
    assert!(oldest <= 300.0, "a goal was followed that is {oldest} ms old");
    assert!(followed.windows(2).all(|pair| pair[0].1 < pair[1].1), "in order");
}

#[test]
fn after_a_black_out_of_five_seconds_it_is_led_again_within_two() {
    let ends = follower();
    let network = Network::before(ends.address);
    let mut leader = leader(network.address);
    assert_eq!(leader.info(Duration::from_secs(2)).unwrap(), Some(info()));
    lead(&mut leader, ends.begun, Duration::from_secs(2));
    let feedback = leader.feedback().unwrap();
    assert_eq!((&feedback.position[..], &feedback.sent[..]), (&[Some(0.25)][..], &[0.5][..]));
    assert!(feedback.leader.is_some() && !leader.is_refused(&feedback));
    let before = ends.followed.lock().unwrap().len();
    assert!(before > 50, "{before}");
    network.switch().store(true, SeqCst);
    let dark = ms(ends.begun);
    lead(&mut leader, ends.begun, Duration::from_secs(5));
    assert!(leader.feedback().is_none(), "the leader's side knows it");
    network.switch().store(false, SeqCst);
    let light = ms(ends.begun);
    lead(&mut leader, ends.begun, Duration::from_secs(3));
    assert_fresh(&ends.followed);
    let followed = ends.followed.lock().unwrap().clone();
    let last = followed.iter().map(|(at, _)| *at).take_while(|at| *at < light).last().unwrap();
    let again = followed.iter().map(|(at, _)| *at).find(|at| *at >= light).unwrap();
    println!("followed last {:.0} ms after it went dark, and again {:.0} ms after it was light", last - dark, again - light);
    assert!(last - dark < 100.0 && again - light < 2000.0, "{} {}", last - dark, again - light);
}

/// Hands on what comes but while it stalls; nothing is lost.
fn stalling(to: SocketAddr) -> (SocketAddr, Arc<AtomicBool>) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let (address, stalls) = (listener.local_addr().unwrap(), Arc::new(AtomicBool::new(false)));
    let stalled = stalls.clone();
    std::thread::spawn(move || {
        for near in listener.incoming() {
            let (near, far) = (near.unwrap(), TcpStream::connect(to).unwrap());
            for (mut from, mut to) in [(near.try_clone().unwrap(), far.try_clone().unwrap()), (far, near)] {
                let stalled = stalled.clone();
                to.set_nodelay(true).unwrap();
                std::thread::spawn(move || {
                    let mut bytes = [0; 4096];
                    while let Ok(count @ 1..) = from.read(&mut bytes) {
                        while stalled.load(SeqCst) {
                            std::thread::sleep(Duration::from_millis(1));
                        }
                        if to.write_all(&bytes[..count]).is_err() {
                            break;
                        }
                    }
                });
            }
        }
    });
    (address, stalls)
}

#[test]
fn what_was_held_up_is_not_followed_when_it_comes_at_last() {
    let ends = follower();
    let (through, stalls) = stalling(ends.address);
    let mut leader = leader(through);
    lead(&mut leader, ends.begun, Duration::from_secs(1));
    stalls.store(true, SeqCst);
    lead(&mut leader, ends.begun, Duration::from_secs(1));
    stalls.store(false, SeqCst);
    lead(&mut leader, ends.begun, Duration::from_secs(1));
    assert_fresh(&ends.followed);
    let counts = ends.follower.counts();
    println!("{counts:?}");
    assert!(counts.old > 0, "what was on its way when it stalled came late: {counts:?}");
    assert_eq!((counts.bad, counts.others), (0, 0), "{counts:?}");
    let after = ends.followed.lock().unwrap().iter().filter(|(at, _)| *at > 2100.0).count();
    assert!(after > 20, "{after}");
}

#[test]
fn one_leads_and_the_next_after_the_dead_man() {
    let ends = follower();
    let (mut first, mut second) = (leader(ends.address), leader(ends.address));
    lead(&mut first, ends.begun, Duration::from_millis(500));
    let alone = ends.follower.counts().followed;
    assert!(alone > 10, "{alone}");
    let until = Instant::now() + Duration::from_millis(500);
    while Instant::now() < until {
        first.send(&[ms(ends.begun)]);
        second.send(&[-1.0]);
        std::thread::sleep(Duration::from_millis(20));
    }
    assert!(second.is_refused(&second.feedback().unwrap()) && !first.is_refused(&first.feedback().unwrap()));
    assert!(ends.followed.lock().unwrap().iter().all(|(_, goal)| *goal >= 0.0));
    assert!(ends.follower.counts().others > 10);
    // The first falls silent.
    let silent = Instant::now();
    while ends.followed.lock().unwrap().last().unwrap().1 >= 0.0 {
        second.send(&[-1.0]);
        std::thread::sleep(Duration::from_millis(5));
        assert!(silent.elapsed() < Duration::from_secs(2));
    }
    assert!(silent.elapsed() >= Duration::from_millis(270), "{:?}", silent.elapsed());
    // Nobody is led under a name that is had, and who is not there has no feedback.
    let place = format!("tcp/{}", ends.address).parse().unwrap();
    let error = Follower::open(&place, &"arm".parse().unwrap(), &info(), |_, _| {}).err().unwrap().to_string();
    assert!(error.contains("another robot there is led as arm"), "{error}");
    let nobody = Leader::open(place, "nobody".parse().unwrap()).unwrap();
    assert_eq!((nobody.info(Duration::from_millis(200)).unwrap(), nobody.feedback()), (None, None));
}
