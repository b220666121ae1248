//! The sinks of one episode, each on a thread of its own.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::{Arc, mpsc};
use std::thread::{self, Scope, Thread};
use std::time::Duration;

use sinew_core::{EpisodeEnd, EpisodeStart, Frame, FrameSink, OnFailure, Outcome, Pixels, SinkError};

use crate::Fault;
use crate::frames::{Feed, Standing, let_go};
use crate::realtime::{Role, place};
use crate::ring::{Receiver, Sender, ring};

/// How often a sink's thread looks for frames by itself: it is woken only where its ring is half full.
const LOOKS_EVERY: Duration = Duration::from_millis(20);

/// What the session's thread tells a sink's.
enum Word {
    /// Take frames until there are no more, and give them back.
    Feed(Receiver<Box<Frame>>, Sender<Box<Frame>>),
    End(EpisodeEnd),
}

/// What a sink's thread tells the session's, having begun, taken all frames, and ended.
#[derive(Default)]
struct News {
    taken: u64,
    fault: Option<Fault>,
}

/// All sinks of an episode.
pub(crate) struct Sinks {
    all: Vec<Sink>,
}

/// The session's end of one.
struct Sink {
    name: String,
    is_fatal: bool,
    standing: Arc<Standing>,
    /// `None` when it could not be started.
    thread: Option<Thread>,
    words: mpsc::Sender<Word>,
    news: mpsc::Receiver<News>,
    /// Whether it has yet to say that it has begun, and that it took all frames.
    is_beginning: bool,
    is_fed: bool,
    taken: u64,
    faults: Vec<Fault>,
}

impl Sink {
    fn start<'scope, 'env>(scope: &'scope Scope<'scope, 'env>, sink: &'scope mut dyn FrameSink, start: &EpisodeStart) -> Self {
        let (words, to_hear) = mpsc::channel();
        let (telling, news) = mpsc::channel();
        let (name, on_failure, standing) = (sink.name().to_owned(), sink.on_failure(), Arc::<Standing>::default());
        let (start, shared) = (start.clone(), standing.clone());
        let serve = move || serve(sink, on_failure, &start, &shared, &to_hear, &telling);
        let thread = thread::Builder::new().name(name.replace('\0', " ")).spawn_scoped(scope, serve);
        let (thread, faults) = match thread {
            Ok(handle) => (Some(handle.thread().clone()), Vec::new()),
            Err(source) => (None, vec![Fault::Thread { who: "sink", source }]),
        };
        let is_fatal = on_failure == OnFailure::Fatal;
        Self { name, is_fatal, standing, thread, words, news, is_beginning: true, is_fed: false, taken: 0, faults }
    }

    /// Waits for its thread's next news.
    fn hear(&mut self) {
        if self.thread.is_none() {
            return;
        }
        match self.news.recv() {
            Ok(News { taken, fault }) => {
                self.taken = taken;
                self.faults.extend(fault);
            }
            Err(mpsc::RecvError) => {
                self.thread = None;
                self.faults.push(Fault::Panic { who: "sink", message: "its thread is gone".to_owned() });
            }
        }
    }

    /// Waits until it has begun.
    fn hear_that_it_has_begun(&mut self) {
        if std::mem::take(&mut self.is_beginning) {
            self.hear();
        }
    }

    /// Waits until it has taken all frames, where it was given any.
    fn hear_that_all_is_taken(&mut self) {
        self.hear_that_it_has_begun();
        if std::mem::take(&mut self.is_fed) {
            self.hear();
        }
    }
}

impl Sinks {
    /// Begins all at once.
    pub(crate) fn begin<'scope>(scope: &'scope Scope<'scope, '_>, sinks: &'scope mut [&mut dyn FrameSink], start: &EpisodeStart) -> Self {
        Self { all: sinks.iter_mut().map(|sink| Sink::start(scope, &mut **sink, start)).collect() }
    }

    /// Waits until all have begun.
    pub(crate) fn have_begun(&mut self) {
        self.all.iter_mut().for_each(Sink::hear_that_it_has_begun);
    }

    fn fatal(&self) -> impl Iterator<Item = &Sink> {
        self.all.iter().filter(|sink| sink.is_fatal)
    }

    fn fatal_mut(&mut self) -> impl Iterator<Item = &mut Sink> {
        self.all.iter_mut().filter(|sink| sink.is_fatal)
    }

    /// Whether one has failed whose failure ends the episode.
    pub(crate) fn have_failed(&self) -> bool {
        self.fatal().any(|sink| !sink.faults.is_empty())
    }

    /// How many could begin, and so are to be given frames.
    pub(crate) fn takers(&self) -> usize {
        self.all.iter().filter(|sink| sink.faults.is_empty()).count()
    }

    /// The control thread's ends of the rings of those that could begin, in which `frames`, as many to each, go round;
    /// and what [`feed`](Self::feed) needs.
    pub(crate) fn rings(&self, mut frames: Vec<Box<Frame>>) -> (Vec<Feed>, Vec<SinksEnd>) {
        let each = frames.len() / self.takers().max(1);
        let (mut feeds, mut ends) = (Vec::new(), Vec::new());
        for (index, sink) in self.all.iter().enumerate().filter(|(_, sink)| sink.faults.is_empty()) {
            let Some(thread) = sink.thread.clone() else { continue };
            let (filling, filled) = ring(each);
            let (mut freeing, free) = ring(each);
            for frame in frames.drain(..each) {
                // The ring has room for all; were it full, the frame would be freed.
                let _ = freeing.push(frame);
            }
            let filling = Sender::in_batches(filling, thread);
            feeds.push(Feed { filled: filling, free, standing: sink.standing.clone(), is_fatal: sink.is_fatal });
            ends.push(SinksEnd { index, filled: filled.looking_every(LOOKS_EVERY), freeing });
        }
        (feeds, ends)
    }

    /// Has those that have begun take what `control` gives, which waits for them where it is `lossless`.
    pub(crate) fn feed(&mut self, ends: Vec<SinksEnd>, control: &Thread, lossless: bool) {
        for SinksEnd { index, filled, freeing } in ends {
            let sender = if lossless { Sender::in_batches } else { Sender::unheard };
            let sink = &mut self.all[index];
            sink.is_fed = sink.faults.is_empty() && sink.words.send(Word::Feed(filled, sender(freeing, control.clone()))).is_ok();
        }
    }

    /// Waits until those whose failure ends the episode have taken all that they were given, and returns why they
    /// could not.
    pub(crate) fn settle(&mut self) -> Vec<Fault> {
        self.fatal_mut().for_each(Sink::hear_that_all_is_taken);
        self.fatal_mut().flat_map(|sink| std::mem::take(&mut sink.faults)).collect()
    }

    /// Whether nothing would be lost that somebody records if the episode were kept, as far as frames go: each
    /// sink whose failure ends the episode has some.
    pub(crate) fn have_frames(&self) -> bool {
        self.fatal().all(|sink| sink.taken > 0)
    }

    pub(crate) fn is_recorded(&self) -> bool {
        self.fatal().next().is_some()
    }

    /// Ends all at once, waits for them, and returns what went wrong with those that matter.
    pub(crate) fn end(&mut self, outcome: &Outcome, keep: bool) -> Vec<Fault> {
        for sink in &self.all {
            // One whose thread is gone has said so.
            let _ = sink.words.send(Word::End(EpisodeEnd { outcome: outcome.clone(), keep, lost_frames: sink.standing.lost() }));
        }
        for sink in &mut self.all {
            sink.hear_that_all_is_taken();
            sink.hear();
        }
        self.fatal_mut().flat_map(|sink| std::mem::take(&mut sink.faults)).collect()
    }

    /// Those that were left behind, each by its name and why.
    pub(crate) fn detached(&self) -> Vec<String> {
        let why = |fault: &Fault| match fault {
            Fault::Sink(source) => crate::fault::chain(source),
            fault => fault.chain(),
        };
        let left = self.all.iter().filter(|sink| !sink.is_fatal && !sink.faults.is_empty());
        left.map(|sink| format!("{}: {}", sink.name, sink.faults.iter().map(why).collect::<Vec<_>>().join("; then "))).collect()
    }

    /// What each could not take in time.
    pub(crate) fn lost(&self) -> Vec<(String, u64)> {
        self.all.iter().map(|sink| (sink.name.clone(), sink.standing.lost())).collect()
    }
}

/// A sink's ends of its rings, until the control thread is there to be named.
pub(crate) struct SinksEnd {
    index: usize,
    filled: Receiver<Box<Frame>>,
    freeing: rtrb::Producer<Box<Frame>>,
}

/// A sink's thread, for one episode. A sink that fails is not fed again, only ended.
fn serve(
    sink: &mut dyn FrameSink,
    on_failure: OnFailure,
    start: &EpisodeStart,
    standing: &Standing,
    words: &mpsc::Receiver<Word>,
    news: &mpsc::Sender<News>,
) {
    place(match on_failure {
        OnFailure::Fatal => Role::Recorder,
        OnFailure::Detach => Role::Viewer,
    });
    // The session's thread hears all news before it goes.
    let tell = |news_now: News| drop(news.send(news_now));
    let fault = guarded(|| sink.begin(start)).err();
    let (mut taken, mut is_whole) = (0, fault.is_none());
    if !is_whole {
        standing.leave();
    }
    tell(News { taken, fault });
    loop {
        match words.recv() {
            Ok(Word::Feed(mut filled, mut free)) => {
                let fault = take_all(sink, &mut taken, standing, &mut filled, &mut free);
                is_whole &= fault.is_none();
                drop(free);
                tell(News { taken, fault });
            }
            Ok(Word::End(end)) => {
                let end = EpisodeEnd { keep: end.keep && is_whole && taken > 0, ..end };
                tell(News { taken, fault: guarded(|| sink.end(&end)).err() });
                return;
            }
            Err(mpsc::RecvError) => {
                // The session has panicked: nothing of this may remain.
                let end = EpisodeEnd { outcome: Outcome::Running, keep: false, lost_frames: standing.lost() };
                let _ = guarded(|| sink.end(&end));
                return;
            }
        }
    }
}

/// Takes frames until there are no more, and returns why not all were taken.
fn take_all(
    sink: &mut dyn FrameSink,
    taken: &mut u64,
    standing: &Standing,
    filled: &mut Receiver<Box<Frame>>,
    free: &mut Sender<Box<Frame>>,
) -> Option<Fault> {
    let nothing = Pixels::default();
    let mut fault = None;
    while let Some(mut frame) = filled.recv() {
        if fault.is_none() {
            match guarded(|| sink.frame(&frame)) {
                Ok(()) => *taken += 1,
                Err(why) => {
                    fault = Some(why);
                    standing.leave();
                    free.wake();
                }
            }
        }
        // Here rather than by the control thread, which would free them where nobody else has them.
        let_go(&mut frame, &nothing);
        // The ring has room for every frame there is; were it gone, the frame would be freed.
        let _ = free.try_send(frame);
    }
    fault
}

fn guarded(call: impl FnOnce() -> Result<(), SinkError>) -> Result<(), Fault> {
    catch_unwind(AssertUnwindSafe(call)).map_err(|payload| Fault::panic("sink", &*payload))?.map_err(Fault::Sink)
}
