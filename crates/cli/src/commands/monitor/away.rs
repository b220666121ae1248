//! The state of a robot that is not on a serial port, as its daemon or its host tells it.

use std::sync::Arc;
use std::time::Duration;

use anyhow::Context;
use sinew_core::{Clock, Observation, RobotDescription, RobotError, Tick, Timestamp, Validity};
use sinew_runtime::{MonotonicClock, StopFlag};

use super::Watching;
use crate::args::refuse_given;
use crate::buses::number;
use crate::live::LiveText;
use crate::text::say;
use crate::way::Way;
use crate::{Done, hardware, text};

/// Shows the state of `robot`. Nothing is told to it.
pub fn run(args: &Watching<'_>, robot: RobotDescription, way: Way) -> anyhow::Result<Done> {
    let name = robot.name.clone();
    let serial = [("--id", args.id.is_some()), ("--latency-ms", args.arm.latency_ms.is_some())];
    refuse_given(&serial, &format!("is for motors on a serial port of this machine, and those of {name} are elsewhere"))?;
    #[cfg(feature = "can")]
    anyhow::ensure!(
        !matches!(way, Way::Can(_)),
        "watching {name}: expected motors on a serial port, a daemon or a host; meeting motors on a CAN bus may change their mode"
    );
    let is_host = matches!(way, Way::LeKiwi { .. });
    refuse_given(&[("--token", !is_host && args.token.is_some())], "is for a LeKiwi's host, and this is none")?;
    let stop = StopFlag::new();
    stop.escalate_on_signals().context("listening for Ctrl-C")?;
    let clock: Arc<dyn Clock> = Arc::new(MonotonicClock::new());
    let robot = Arc::new(RobotDescription { cameras: Vec::new(), ..robot });
    let token = if is_host { hardware::token(args.token) } else { None };
    let (mut connected, _) = way.connect(robot.clone(), token, None, clock.clone())?;
    let mut observation = Observation::for_robot(&robot);
    let period = Duration::from_secs(1) / args.fps;
    let begin = clock.now();
    let is_over = |now: Timestamp| args.seconds.is_some_and(|seconds| now.nanos_since(begin) as f64 * 1e-9 >= seconds);
    let (mut live, mut looks, mut failed, mut oldest_s) = (LiveText::new(), 0u64, 0u64, None::<f64>);
    let mut trouble = None;
    while !stop.is_requested() && !is_over(clock.now()) {
        observation.age();
        let tick = Tick { turn: looks, due: clock.now(), period, wants_images: false };
        trouble = connected.finish_read(&tick, clock.now() + period, &mut observation).err();
        failed += u64::from(trouble.is_some());
        looks += 1;
        let seen = values(&robot, &observation, clock.now());
        oldest_s = seen.iter().filter_map(|value| value.age_s).chain(oldest_s).reduce(f64::max);
        live.show(|| table(&seen));
        clock.sleep_until(clock.now() + period);
    }
    let (seen, report) = (values(&robot, &observation, clock.now()), connected.report());
    if args.json {
        text::print_json(&serde_json::json!({
            "robot": name, "looks": looks, "failed": failed, "longest_age_s": oldest_s, "state": seen, "connections": report,
        }))?;
    } else {
        say!("{}", table(&seen).trim_end());
        say!("\n{}", report.table().trim_end());
        let ages =
            oldest_s.map_or("no value was heard".to_owned(), |s| format!("no value that was heard was older than {:.0} ms", s * 1e3));
        say!("{looks} looks, {failed} of them failed; {ages}{}", unknown(&seen));
    }
    if let Some(why) = is_gone(&seen, trouble) {
        return Err(why.context(format!("watching {name}")));
    }
    Ok(if stop.is_requested() { Done::Interrupted } else { Done::Ok })
}

/// A number of its state.
#[derive(serde::Serialize)]
struct Value {
    feature: String,
    /// In the dataset's unit; as it was last, where it is missing.
    value: Option<f64>,
    age_s: Option<f64>,
    is_missing: bool,
}

fn values(robot: &RobotDescription, observation: &Observation, now: Timestamp) -> Vec<Value> {
    let state = &observation.state;
    let value = |(channel, (value, reading)): (sinew_core::Channel, (&f64, &sinew_core::Reading))| {
        let (scale, offset) = channel.scale_offset;
        Value {
            feature: channel.name,
            value: reading.time.map(|_| value * scale + offset),
            age_s: reading.time.map(|time| now.nanos_since(time) as f64 * 1e-9),
            is_missing: reading.validity == Validity::Missing,
        }
    };
    robot.state_channels().into_iter().zip(state.values().iter().zip(state.readings())).map(value).collect()
}

/// Which values are not known at the end; a robot may lack some.
fn unknown(values: &[Value]) -> String {
    let missing: Vec<&str> = values.iter().filter(|value| value.is_missing).map(|value| value.feature.as_str()).collect();
    if missing.is_empty() { String::new() } else { format!("; not known at the end: {}", missing.join(", ")) }
}

/// Why nobody is there at the end, if that is so: the last look failed, or nothing is known of the robot.
fn is_gone(values: &[Value], trouble: Option<RobotError>) -> Option<anyhow::Error> {
    if let Some(trouble) = trouble {
        return Some(anyhow::Error::new(trouble).context("the last look at it failed"));
    }
    if values.is_empty() || values.iter().any(|value| !value.is_missing) {
        return None;
    }
    let newest_s = values.iter().filter_map(|value| value.age_s).reduce(f64::min);
    let since = newest_s.map_or("was heard".to_owned(), |s| format!("has been heard for {s:.1} s"));
    Some(anyhow::anyhow!("expected values of its state, found that none {since}"))
}

/// What is seen now.
fn table(values: &[Value]) -> String {
    let head = ["feature", "value", "age", "note"];
    let mut rows = vec![head.map(str::to_owned).to_vec()];
    for Value { feature, value, age_s, is_missing } in values {
        let value = value.map_or_else(|| "-".to_owned(), |value| format!("{value:.4}"));
        let missing = if *is_missing { "missing" } else { "" };
        rows.push(vec![feature.clone(), value, number(age_s.map(|age| age * 1e3), "ms"), missing.to_owned()]);
    }
    text::table_on_stderr(&rows)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn value(age_s: Option<f64>, is_missing: bool) -> Value {
        Value { feature: "a.pos".to_owned(), value: age_s, age_s, is_missing }
    }

    #[test]
    fn a_robot_that_nobody_hears_is_no_success() {
        let says = |values: &[Value], trouble| is_gone(values, trouble).map(|why| format!("{why:#}"));
        let (fresh, old, never) = (|| value(Some(0.01), false), || value(Some(2.0), true), || value(None, true));
        assert_eq!(says(&[fresh(), never()], None), None, "one that has no IMU");
        assert_eq!(unknown(&[fresh(), never()]), "; not known at the end: a.pos");
        assert_eq!(says(&[never(), never()], None).unwrap(), "expected values of its state, found that none was heard");
        assert_eq!(says(&[old(), never()], None).unwrap(), "expected values of its state, found that none has been heard for 2.0 s");
        let trouble = RobotError::transient("reading it", "no daemon");
        let says = says(&[fresh()], Some(trouble)).unwrap();
        assert!(says.starts_with("the last look at it failed: ") && says.contains("no daemon"), "{says}");
    }
}
