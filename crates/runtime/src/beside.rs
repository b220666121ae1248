//! Somebody slow on a thread of his own, asked one question at a time by a thread that does not wait.

use std::io;
use std::ops::ControlFlow;
use std::thread::{self, Thread};

use sinew_core::{Clock, Timestamp};

use crate::ring::{Receiver, Sender, ring};

/// What goes to and fro: there is one, so that nothing is allocated or freed by whoever asks.
struct Post<J> {
    asker: Option<Thread>,
    job: J,
}

/// The asking end. Dropping it ends the thread once that has come back from its last job.
pub(crate) struct Beside<J> {
    questions: Sender<Box<Post<J>>>,
    answers: Receiver<Box<Post<J>>>,
    /// `None` while it is being worked on.
    post: Option<Box<Post<J>>>,
}

/// The working end.
pub(crate) struct Work<J> {
    questions: Receiver<Box<Post<J>>>,
    answers: rtrb::Producer<Box<Post<J>>>,
}

impl<J> Work<J> {
    /// Works on every job until nobody can ask any more, or `serve` breaks off.
    pub(crate) fn run(mut self, mut serve: impl FnMut(&mut J) -> ControlFlow<()>) {
        while let Some(mut post) = self.questions.recv() {
            let asker = post.asker.clone();
            let flow = serve(&mut post.job);
            let nobody_listens = self.answers.push(post).is_err();
            if let Some(asker) = asker {
                asker.unpark();
            }
            if nobody_listens || flow.is_break() {
                return;
            }
        }
    }
}

impl<J> Beside<J> {
    /// `start` starts the thread that runs the [`Work`], and answers with its handle.
    pub(crate) fn new(job: J, start: impl FnOnce(Work<J>) -> io::Result<Thread>) -> io::Result<Self> {
        let (questions, to_answer) = ring(1);
        let (answering, answers) = ring(1);
        let thread = start(Work { questions: to_answer, answers: answering })?;
        Ok(Self { questions: Sender::new(questions, thread), answers, post: Some(Box::new(Post { asker: None, job })) })
    }

    /// As [`new`](Self::new), on a thread that nobody waits for.
    pub(crate) fn spawn(name: &str, job: J, serve: impl FnMut(&mut J) -> ControlFlow<()> + Send + 'static) -> io::Result<Self>
    where
        J: Send + 'static,
    {
        Self::new(job, |work| {
            let handle = thread::Builder::new().name(name.into()).spawn(move || work.run(serve))?;
            Ok(handle.thread().clone())
        })
    }

    /// The job, while nobody works on it.
    pub(crate) fn job(&mut self) -> Option<&mut J> {
        self.post.as_mut().map(|post| &mut post.job)
    }

    /// Whether an answer is outstanding.
    pub(crate) fn is_waiting(&self) -> bool {
        self.post.is_none()
    }

    /// Has the job worked on, without waiting; `false` while it is already, or when the thread has ended. The
    /// calling thread is the one that the answer will wake.
    pub(crate) fn ask(&mut self) -> bool {
        let Some(mut post) = self.post.take() else { return false };
        post.asker.get_or_insert_with(thread::current);
        if post.asker.as_ref().is_some_and(|asker| asker.id() != thread::current().id()) {
            post.asker = Some(thread::current());
        }
        self.post = self.questions.try_send(post).err();
        self.post.is_none()
    }

    /// The job, if it has just come back.
    pub(crate) fn poll(&mut self) -> Option<&mut J> {
        let post = self.answers.try_recv()?;
        Some(&mut self.post.insert(post).job)
    }

    /// The job, if it comes back before `deadline`.
    pub(crate) fn poll_until(&mut self, clock: &dyn Clock, deadline: Timestamp) -> Option<&mut J> {
        let post = self.answers.recv_until(clock, deadline)?;
        Some(&mut self.post.insert(post).job)
    }

    /// Waits for the job to come back for as long as `patient` says so, which is asked now and then; `None` when it
    /// does not, or the thread has ended.
    pub(crate) fn wait(&mut self, patient: impl FnMut() -> bool) -> Option<&mut J> {
        let post = self.answers.recv_while(patient)?;
        Some(&mut self.post.insert(post).job)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_question_at_a_time_goes_to_and_fro() {
        let mut beside = Beside::spawn("doubling", 0u64, |job| {
            assert!(*job != 13, "a bug");
            *job *= 2;
            ControlFlow::Continue(())
        })
        .unwrap();
        for number in [3, 5] {
            *beside.job().unwrap() = number;
            assert!(beside.ask() && !beside.ask() && beside.is_waiting());
            assert_eq!(beside.wait(|| true), Some(&mut (2 * number)));
        }
        *beside.job().unwrap() = 13;
        assert!(beside.ask());
        assert_eq!(beside.wait(|| true), None, "a thread that has ended is no reason to wait");
    }
}
