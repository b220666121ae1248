//! The judge of an episode, beside the control thread.

use std::io;
use std::ops::ControlFlow;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::thread::Scope;
use std::time::Duration;

use sinew_core::{Clock, Environment, Outcome};

use crate::Fault;
use crate::beside::Beside;
use crate::clock::HostTime;

/// A question, and on its way back its answer.
pub(crate) struct Verdict {
    answer: Result<Outcome, Fault>,
}

/// Asks an environment how the episode stands, tick by tick, without waiting for it.
pub(crate) struct Judge(Beside<Verdict>);

impl Judge {
    /// `environment` is judged on a thread of `scope`.
    pub(crate) fn start<'scope>(scope: &'scope Scope<'scope, '_>, environment: &'scope mut dyn Environment) -> io::Result<Self> {
        let beside = Beside::new(Verdict { answer: Ok(Outcome::Running) }, |work| {
            let judge = move || {
                work.run(|verdict: &mut Verdict| match catch_unwind(AssertUnwindSafe(|| environment.outcome())) {
                    Ok(outcome) => {
                        verdict.answer = Ok(outcome);
                        ControlFlow::Continue(())
                    }
                    Err(payload) => {
                        verdict.answer = Err(Fault::panic("judge", &*payload));
                        ControlFlow::Break(())
                    }
                });
            };
            Ok(std::thread::Builder::new().name("judge".into()).spawn_scoped(scope, judge)?.thread().clone())
        })?;
        Ok(Self(beside))
    }

    /// A tick has ended: asks, and says how the episode stood when it was asked last. On a clock that doesn't run by
    /// itself the answer is that of this tick.
    pub(crate) fn outcome(&mut self, clock: &dyn Clock) -> Result<Outcome, Fault> {
        if !clock.runs_by_itself() {
            self.0.ask();
            let answer = self.0.wait(|| true).map(Verdict::take);
            return answer.unwrap_or_else(|| Err(Fault::Panic { who: "judge", message: "its thread is gone".to_owned() }));
        }
        let answer = self.0.poll().map_or(Ok(Outcome::Running), Verdict::take);
        self.0.ask();
        answer
    }

    /// How the episode stood after its last tick, of which [`outcome`](Self::outcome) has asked: waits a little for it.
    pub(crate) fn last_word(&mut self) -> Result<Outcome, Fault> {
        let asked = HostTime::now();
        let patient = || HostTime::now().nanos_since(asked) < LAST_WORD.as_nanos() as i64;
        if self.0.is_waiting() { self.0.wait(patient).map_or(Ok(Outcome::Running), Verdict::take) } else { Ok(Outcome::Running) }
    }
}

/// How long the verdict on an episode's last tick is waited for.
const LAST_WORD: Duration = Duration::from_millis(50);

impl Verdict {
    fn take(&mut self) -> Result<Outcome, Fault> {
        std::mem::replace(&mut self.answer, Ok(Outcome::Running))
    }
}
