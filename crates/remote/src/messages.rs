//! Questions as one message each way over a connection, which is what openpi's servers, endpoints and GR00T's service take.

use std::time::Duration;

use crate::answer;
use crate::link::{Answered, Frame, KnownBy, Legs, Link};
use crate::policy::{Asked, Failed, Got};
use crate::request::Requests;
use crate::time::{Deadline, Watch};

/// Who asks over a link.
pub(crate) struct Messages {
    link: Link,
    frame: Frame,
    /// Where it is a part of each request.
    token: Option<String>,
    answer_keys: Vec<String>,
    numbers_answers: bool,
    number: i64,
}

impl Messages {
    pub fn new(link: Link, token: Option<String>, answer_keys: Vec<String>, numbers_answers: bool) -> Self {
        Self { link, frame: Frame::new(), token, answer_keys, numbers_answers, number: 0 }
    }

    pub fn link(&self) -> &Link {
        &self.link
    }

    /// Asks; an answer is known by its number, where the server repeats it, else as said.
    pub fn ask(&mut self, requests: &mut Requests, asked: &Asked<'_>, within: Duration, else_by: KnownBy<'_>) -> Result<Got, Failed> {
        let mut watch = Watch::start();
        self.number += 1;
        let (number, protocol, token) = (self.number, self.link.address().protocol(), self.token.as_deref());
        let written = self.frame.write(|bytes| requests.write(bytes, protocol, asked.observations, (asked.task, number, token)));
        written.map_err(Failed::Unwritten)?;
        let prepare = watch.lap();
        let until = Deadline::after(within.saturating_sub(Duration::from_secs_f64(prepare * 1e-3)));
        let is_mine = |bytes: &[u8]| answer::number_of(bytes).is_some_and(|of| i64::try_from(of) == Ok(number));
        let known_by = if self.numbers_answers { KnownBy::Number(&is_mine) } else { else_by };
        let Answered { bytes, send_ms, wait_ms } = self.link.ask(&mut self.frame, until, known_by).map_err(Failed::Unavailable)?;
        watch.lap();
        let rows = answer::read(&bytes, &self.answer_keys, protocol).map_err(Failed::Refused)?;
        let legs = Legs { prepare, send: send_ms, wait: wait_ms, server: rows.server_ms, read: watch.lap() };
        Ok(Got { rows, legs, sent_bytes: self.frame.payload_bytes() })
    }
}
