//! A checkpoint bound to a robot: the [`Policy`] that the runtime sees.

use std::sync::Arc;

use sinew_core::{
    ActionChunk, CameraDescription, Continuation, Image, Observation, Policy, PolicyError, PolicyInfo, RobotDescription, Units,
};

use crate::chunk::{Actions, Chunk};
use crate::features::{ACTION, FeatureKind, IMAGES, STATE};
use crate::fit::{Fit, FitRow};
use crate::infer::{Inputs, describe};
use crate::processor::Array;
use crate::{BindError, Checkpoint, Guidance, GuidanceMode, GuidanceSettings, InferError, TemporalEnsembler, Together};

impl Fit {
    /// Compares without touching the weights.
    pub fn of(checkpoint: &Checkpoint, robot: &RobotDescription) -> Self {
        let (state, action) = (robot.state_names(), robot.action_names());
        let in_words = |names: &[String]| format!("{} values: {}", names.len(), names.join(", "));
        let mut rows = Vec::new();
        let mut row = |feature: &str, checkpoint: String, robot: String, fits| {
            rows.push(FitRow { feature: feature.to_owned(), checkpoint, robot, fits });
        };
        // A policy that does without some of its cameras still needs one.
        let sees = robot.cameras.iter().any(|camera| checkpoint.inputs.get(&feature_of(checkpoint, camera)).is_some());
        for (name, feature) in checkpoint.inputs.iter() {
            match feature.kind {
                FeatureKind::Visual => {
                    let cameras = robot.cameras.iter().filter(|camera| feature_of(checkpoint, camera) == name).collect::<Vec<_>>();
                    let (have, fits) = match cameras[..] {
                        [] if sees && checkpoint.plan.may_miss(name) => ("no such camera, it may stay away".to_owned(), true),
                        [] => ("no such camera".to_owned(), false),
                        [c] => {
                            let fits = checkpoint.plan.takes_any_image_size() || feature.shape == [3, c.height as usize, c.width as usize];
                            // Distances are no colours, whatever their size.
                            let name = if raw_feature(c) == name { String::new() } else { format!(" of the camera {}", c.name) };
                            (in_words_of(c) + &name, fits && !c.depth)
                        }
                        [a, b, ..] => (format!("two cameras for it: {}, {}", a.name, b.name), false),
                    };
                    row(name, describe(feature), have, fits);
                }
                FeatureKind::State if name == STATE => row(name, describe(feature), in_words(&state), feature.shape == [state.len()]),
                _ if checkpoint.plan.may_miss(name) => row(name, describe(feature), "nothing of the kind, it may stay away".into(), true),
                _ => row(name, describe(feature), "nothing of the kind".into(), false),
            }
        }
        let width = checkpoint.action_width();
        let (wants, names_fit) = match &checkpoint.action_names {
            Some(names) => (format!("{width} values: {}", names.join(", ")), *names == action),
            None => (format!("{width} values"), true),
        };
        row(ACTION, wants, in_words(&action), names_fit && width == action.len());
        for (camera, key) in &checkpoint.renames {
            if !robot.cameras.iter().any(|known| raw_feature(known) == *camera) {
                row(camera, format!("renamed to {key}"), "no such camera".into(), false);
            }
        }
        // LeRobot's checkpoints don't say at which rate their dataset was recorded.
        row("control rate", "not stated".into(), format!("{} Hz", robot.control_rate_hz), true);
        for camera in &robot.cameras {
            if checkpoint.inputs.get(&feature_of(checkpoint, camera)).is_none() {
                row(&raw_feature(camera), "not used".into(), in_words_of(camera), true);
            }
        }
        Self { robot: robot.name.clone(), rows }
    }
}

/// What a camera gives.
fn in_words_of(camera: &CameraDescription) -> String {
    let kind = if camera.depth { "depth image (distances, no colours)" } else { "image" };
    format!("a {}x{} {kind}", camera.width, camera.height)
}

/// What a robot calls its camera's image.
fn raw_feature(camera: &CameraDescription) -> String {
    format!("{IMAGES}{}", camera.name)
}

/// What that is called when the preprocessor is through with it.
fn feature_of(checkpoint: &Checkpoint, camera: &CameraDescription) -> String {
    checkpoint.preprocessor.renamed(&raw_feature(camera)).to_owned()
}

/// A checkpoint that fits a robot. It takes observations in SI in the order of the robot's channels of
/// state, converts them to the dataset's units, and answers in SI in the order of its channels of
/// action. Clones share the weights, so every worker of an evaluation can have its own.
#[derive(Clone, Debug)]
pub struct BoundPolicy {
    checkpoint: Arc<Checkpoint>,
    info: PolicyInfo,
    /// Of the state that it takes; none where it takes none.
    state_units: Option<Units>,
    action_units: Units,
    /// Where in the observation each camera's image is, and its feature's name.
    cameras: Vec<(usize, String)>,
    ensembler: Option<TemporalEnsembler>,
    /// How a chunk continues the one before, where the policy can do so.
    guidance: Option<GuidanceSettings>,
    /// The newest answer, for the next to continue.
    newest: Option<Chunk>,
    /// What the newest continues, and the next will if the newest came too late.
    executed: Option<Chunk>,
    /// What the first answer's noise is drawn from; each of the next has the next number.
    seed: u64,
    /// Since the reset.
    answers: u64,
    /// Threads of its own to compute on.
    threads: Option<Arc<rayon::ThreadPool>>,
    /// Who else asks the same checkpoint.
    together: Option<Arc<Together>>,
}

impl BoundPolicy {
    /// Checks that every feature fits, then reads the weights, unless another policy bound to the
    /// same `checkpoint` did.
    ///
    /// # Errors
    /// [`BindError::Mismatch`] shows both sides; otherwise the weights could not be read.
    pub fn bind(checkpoint: &Arc<Checkpoint>, robot: &RobotDescription) -> Result<Self, BindError> {
        let fit = Fit::of(checkpoint, robot);
        if !fit.is_fit() {
            return Err(BindError::Mismatch { fit });
        }
        checkpoint.load()?;
        let info = checkpoint.info();
        let cameras = robot.cameras.iter().enumerate().filter_map(|(i, camera)| {
            checkpoint.inputs.get(&feature_of(checkpoint, camera))?;
            Some((i, raw_feature(camera)))
        });
        Ok(Self {
            cameras: cameras.collect(),
            state_units: checkpoint.inputs.get(STATE).map(|_| Units::of(&robot.state_channels())),
            action_units: Units::of(&robot.action_channels()),
            info: PolicyInfo {
                family: info.family.clone(),
                parameters: info.parameters,
                n_obs_steps: info.n_obs_steps,
                chunk_size: info.chunk_size,
                n_action_steps: info.n_action_steps,
            },
            ensembler: info.temporal_ensemble_coeff.map(|coeff| TemporalEnsembler::new(coeff, info.chunk_size, checkpoint.action_width())),
            guidance: checkpoint.can_continue().then(|| info.guidance.unwrap_or_default()),
            newest: None,
            executed: None,
            checkpoint: Arc::clone(checkpoint),
            seed: 0,
            answers: 0,
            threads: None,
            together: None,
        })
    }

    /// How chunks continue each other, where [`Policy::can_continue`]: at first the checkpoint's own
    /// settings or, where it has none, LeRobot's defaults.
    pub fn guidance(&self) -> Option<GuidanceSettings> {
        self.guidance
    }

    /// Sets how chunks continue each other.
    ///
    /// # Errors
    /// When the policy can't do so, or not by this mode.
    pub fn set_guidance(&mut self, settings: GuidanceSettings) -> Result<(), InferError> {
        self.checkpoint.check_guidance(settings.mode)?;
        self.guidance = Some(settings);
        Ok(())
    }

    /// Computes on `count` threads of its own, which clones share, instead of on rayon's global ones
    /// (`RAYON_NUM_THREADS` of them, for the whole process). The answers are the same to the last
    /// bit. One thread a policy is best for many workers side by side, and for small networks.
    ///
    /// # Errors
    /// When the threads could not be started.
    pub fn with_threads(mut self, count: usize) -> Result<Self, BindError> {
        let builder = rayon::ThreadPoolBuilder::new().num_threads(count.max(1)).thread_name(|i| format!("policy-{i}"));
        self.threads = Some(Arc::new(builder.build().map_err(|source| BindError::Threads { count, source: Box::new(source) })?));
        Ok(self)
    }

    /// Is answered together with others that share `together`, which is of the same checkpoint, where no chunk is to be
    /// continued.
    #[must_use]
    pub fn with_others(mut self, together: &Arc<Together>) -> Self {
        self.together = Some(Arc::clone(together));
        self
    }

    fn inputs(&self, observations: &[Observation], task: &str) -> Result<Inputs, InferError> {
        let mut inputs = Inputs::new().task(task).seed(self.seed.wrapping_add(self.answers));
        if let Some(units) = &self.state_units {
            let mut steps = Vec::with_capacity(observations.len());
            for observation in observations {
                let (found, expected) = (observation.state.width(), units.width());
                if found != expected {
                    let [found, expected] = [found, expected].map(|width| format!("{width} values"));
                    return Err(InferError::WrongInput { key: STATE.to_owned(), found, expected });
                }
                let mut values = vec![0.0; expected];
                units.to_dataset(observation.state.values(), &mut values);
                steps.push(values);
            }
            inputs = inputs.vectors(STATE, steps);
        }
        for (index, feature) in &self.cameras {
            let images: Vec<&Image> = observations.iter().filter_map(|observation| observation.images.get(*index)).collect();
            if let Some(now) = images.last() {
                let steps = images.iter().map(|image| image.rgb.to_vec()).collect();
                inputs = inputs.images(feature, now.height as usize, now.width as usize, steps);
            }
        }
        Ok(inputs)
    }

    /// What is left of the answer that is being executed, for the next to follow.
    fn rest_of_executed(&self, continuing: Continuation) -> Option<Guidance> {
        let previous = self.executed.as_ref()?.rest(continuing.rows_left);
        let guidance = Guidance { previous, inference_delay: continuing.delay_rows, settings: self.guidance? };
        (guidance.previous.actions.rows > 0).then_some(guidance)
    }

    fn answer(
        &mut self,
        tick: u64,
        observations: &[Observation],
        task: &str,
        continuing: Option<Continuation>,
    ) -> Result<Actions, InferError> {
        let inputs = self.inputs(observations, task)?;
        if !continuing.is_some_and(|continuing| continuing.newest_is_unused) {
            self.executed = self.newest.take();
        }
        let guidance = continuing.and_then(|continuing| self.rest_of_executed(continuing));
        self.answers += 1;
        let answer = match (&self.together, &self.threads) {
            // Not on the policy's threads: who waits in one would hold it.
            (Some(together), _) if together.is_used() && guidance.is_none() => together.normalized(inputs)?,
            (_, Some(threads)) => threads.install(|| self.checkpoint.normalized(&inputs, guidance.as_ref()))?,
            (_, None) => self.checkpoint.normalized(&inputs, guidance.as_ref())?,
        };
        let (answer, observed) = answer;
        let answer = match &mut self.ensembler {
            Some(ensembler) => Array { values: ensembler.update(tick, &answer.values), ..answer },
            None => answer,
        };
        let normalized = self.guidance.map(|_| answer.values.clone());
        let actions = self.checkpoint.unnormalized(answer, observed)?;
        self.newest = normalized.map(|values| Chunk { normalized: Actions { values, ..actions }, actions: actions.clone() });
        Ok(actions)
    }

    fn chunk(&mut self, observations: &[Observation], task: &str, continuing: Option<Continuation>) -> Result<ActionChunk, PolicyError> {
        let tick = observations.last().map_or(0, |now| now.tick);
        let actions = self.answer(tick, observations, task, continuing).map_err(|error| PolicyError::Compute {
            doing: format!("running the {} policy on the observation of tick {tick}", self.info.family),
            source: Box::new(error),
        })?;
        let mut goals = vec![0.0; actions.values.len()];
        for (goals, row) in goals.chunks_exact_mut(actions.width).zip(actions.values.chunks_exact(actions.width)) {
            self.action_units.to_si(row, goals);
        }
        Ok(ActionChunk::new(tick, actions.width, goals)?)
    }
}

impl Policy for BoundPolicy {
    fn info(&self) -> &PolicyInfo {
        &self.info
    }

    fn reset(&mut self, seed: u64) {
        // Episodes with neighbouring seeds have no noise in common.
        (self.seed, self.answers) = (fastrand::Rng::with_seed(seed).u64(..), 0);
        (self.newest, self.executed) = (None, None);
        if let Some(ensembler) = &mut self.ensembler {
            ensembler.reset();
        }
    }

    fn infer(&mut self, observations: &[Observation], task: &str) -> Result<ActionChunk, PolicyError> {
        self.chunk(observations, task, None)
    }

    fn infer_continuing(&mut self, observations: &[Observation], task: &str, continuing: Continuation) -> Result<ActionChunk, PolicyError> {
        self.chunk(observations, task, Some(continuing))
    }

    fn can_continue(&self) -> bool {
        self.guidance.is_some()
    }

    fn most_delay_rows(&self) -> Option<usize> {
        let trained = self.guidance.is_some_and(|settings| settings.mode == GuidanceMode::Trained);
        trained.then(|| self.checkpoint.info().trained_delay)
    }
}
