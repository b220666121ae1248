//! Each request of the interface: its path, who may make it, what it takes and answers.

use schemars::{JsonSchema, Schema, SchemaGenerator};
use serde::Serialize;
use serde::de::DeserializeOwned;
use sinew_core::service::{
    CalibrationAnswer, DatasetItem, EpisodeItem, EpisodeWish, LogLine, PolicyItem, Quality, Refusal, RobotInfo, State, StopWish, Task,
    TaskState, Work, WorkEnd,
};

use super::wire::{BeginPairing, Begun, Certificate, Device, Done, Me, Nothing, Pair, Paired, Pairing, Problem, Revoke, Role, Stop};
use super::{Https, Shared, openapi};

/// A request that was let in.
pub(super) struct Call<'a> {
    pub shared: &'a Shared,
    /// Who makes it; of one that anybody may make, nobody.
    pub me: Option<Me>,
    /// What stands in the place of each `{…}` of the path.
    pub names: Vec<&'a str>,
    pub query: &'a str,
    pub body: &'a [u8],
}

/// What is answered.
pub(super) struct Reply {
    pub kind: &'static str,
    pub bytes: Vec<u8>,
}

/// What makes the schema of a body.
pub(super) type SchemaOf = fn(&mut SchemaGenerator) -> Schema;

pub(super) struct Route {
    pub method: &'static str,
    /// With `{…}` for a name, and `{…*}` at its end for a path.
    pub path: &'static str,
    /// Who may; `None` for anybody.
    pub role: Option<Role>,
    /// Whether it needs the operator's lease while somebody has it.
    pub needs_lease: bool,
    pub summary: &'static str,
    pub takes: Option<SchemaOf>,
    /// What comes back as JSON, or the kind of what does not.
    pub answers: Result<SchemaOf, &'static str>,
    pub does: fn(&Call<'_>) -> Result<Reply, Problem>,
}

fn schema<T: JsonSchema>(generator: &mut SchemaGenerator) -> Schema {
    generator.subschema_for::<T>()
}

const fn get(path: &'static str, summary: &'static str, answers: SchemaOf, does: fn(&Call<'_>) -> Result<Reply, Problem>) -> Route {
    Route { method: "GET", path, role: Some(Role::Look), needs_lease: false, summary, takes: None, answers: Ok(answers), does }
}

const fn file(path: &'static str, summary: &'static str, kind: &'static str, does: fn(&Call<'_>) -> Result<Reply, Problem>) -> Route {
    Route { answers: Err(kind), ..get(path, summary, schema::<Nothing>, does) }
}

const fn post(
    path: &'static str,
    role: Role,
    summary: &'static str,
    (takes, answers): (SchemaOf, SchemaOf),
    does: fn(&Call<'_>) -> Result<Reply, Problem>,
) -> Route {
    let needs_lease = matches!(role, Role::Operate);
    Route { method: "POST", path, role: Some(role), needs_lease, summary, takes: Some(takes), answers: Ok(answers), does }
}

/// All of them.
pub(super) const ROUTES: &[Route] = &[
    Route {
        role: None,
        ..get("/api/v1/openapi.json", "This interface", schema::<serde_json::Value>, |call| json(&openapi::document(&call.shared.version)))
    },
    Route {
        role: None,
        ..post("/api/v1/pair", Role::Look, "A token for six digits", (schema::<Pair>, schema::<Paired>), |call| {
            let Pair { code, name } = parse(call.body)?;
            json(&call.shared.keyring.pair(&code, &name, crate::time::since_1970().as_secs())?)
        })
    },
    get("/api/v1/me", "Who you are", schema::<Me>, |call| json(&call.me)),
    get("/api/v1/robot", "Names, units, limits, cameras", schema::<RobotInfo>, |call| json(&call.shared.service.robot())),
    get("/api/v1/robot/description", "The robot.toml as JSON", schema::<serde_json::Value>, |call| {
        json(&call.shared.service.description())
    }),
    file("/api/v1/robot/meshes/{mesh*}", "A mesh that the robot names", "model/stl", |call| {
        let name = format!("meshes/{}", call.names[0]);
        let mesh = call.shared.service.mesh(&name).ok_or_else(|| missing(&format!("the robot has no mesh {name}")))?;
        Ok(Reply { kind: "model/stl", bytes: mesh })
    }),
    get("/api/v1/state", "The newest state", schema::<State>, |call| json(&call.shared.state())),
    file("/api/v1/cameras/{camera}", "The newest image of a camera, as NAME.jpg", "image/jpeg", |call| {
        let name = call.names[0].strip_suffix(".jpg").ok_or_else(|| missing("expected NAME.jpg"))?;
        let service = &call.shared.service;
        let camera = service.robot().cameras.iter().position(|camera| camera.name == name);
        let camera = camera.ok_or_else(|| missing(&format!("the robot has no camera {name}")))?;
        let shot = service.shot(camera, 0, Quality::High).ok_or_else(|| missing(&format!("camera {name} has shown nothing yet")))?;
        Ok(Reply { kind: "image/jpeg", bytes: shot.jpeg.to_vec() })
    }),
    get("/api/v1/log", "What was said after the line ?after=N", schema::<Vec<LogLine>>, |call| {
        let after = call.query.split('&').find_map(|pair| pair.strip_prefix("after="));
        let after = after.map_or(Ok(0), |number| number.parse().map_err(|_| problem(400, "expected a number as after")))?;
        json(&call.shared.service.log(after))
    }),
    get("/api/v1/datasets", "Datasets in the daemon's folder", schema::<Vec<DatasetItem>>, |call| json(&call.shared.service.datasets()?)),
    get("/api/v1/datasets/{dataset}", "A dataset's episodes", schema::<Vec<EpisodeItem>>, |call| {
        json(&call.shared.service.episodes(call.names[0])?)
    }),
    file("/api/v1/datasets/{dataset}/episodes/{episode}", "An image of an episode, as N.jpg", "image/jpeg", |call| {
        let number = call.names[1].strip_suffix(".jpg").and_then(|number| number.parse().ok()).ok_or_else(|| missing("expected N.jpg"))?;
        Ok(Reply { kind: "image/jpeg", bytes: call.shared.service.thumbnail(call.names[0], number)? })
    }),
    get("/api/v1/policies", "Policies on this machine", schema::<Vec<PolicyItem>>, |call| json(&call.shared.service.policies()?)),
    get("/api/v1/certificate", "The certificate, where it speaks HTTPS", schema::<Option<Certificate>>, |call| {
        json(&call.shared.https().map(Https::certificate))
    }),
    get("/api/v1/work", "How the last work came out", schema::<Option<WorkEnd>>, |call| json(&call.shared.service.last())),
    get("/api/v1/tasks", "The newest tasks", schema::<Vec<TaskState>>, |call| json(&call.shared.service.tasks())),
    post("/api/v1/stop", Role::Look, "Stop", (schema::<Stop>, schema::<Done>), |call| {
        let Stop { stop } = parse(call.body)?;
        call.shared.stop(stop);
        done()
    }),
    post("/api/v1/work", Role::Operate, "Start a work", (schema::<Work>, schema::<Done>), |call| {
        call.shared.service.start(parse(call.body)?)?;
        done()
    }),
    post("/api/v1/episode", Role::Operate, "What is to become of the episode", (schema::<EpisodeWish>, schema::<Done>), |call| {
        call.shared.service.wish(parse(call.body)?)?;
        done()
    }),
    post("/api/v1/emergency/clear", Role::Operate, "The emergency is over", (schema::<Nothing>, schema::<Done>), |call| {
        let Nothing {} = parse(call.body)?;
        json(&Done { done: call.shared.service.clear_emergency() })
    }),
    Route {
        needs_lease: false,
        ..post("/api/v1/tasks", Role::Operate, "Begin a task", (schema::<Task>, schema::<Begun>), |call| {
            let task: Task = parse(call.body)?;
            // Who operates a robot speaks not for its owner: what is published goes out in his name, with his token, for good.
            if task.publishes() {
                call.me.as_ref().map_or(Ok(()), |me| super::may(me, Role::Administer))?;
            }
            json(&Begun { number: call.shared.service.begin_task(task)? })
        })
    },
    Route {
        needs_lease: false,
        ..post("/api/v1/tasks/cancel", Role::Operate, "End a task before its end", (schema::<Begun>, schema::<Done>), |call| {
            let Begun { number } = parse(call.body)?;
            call.shared.service.cancel_task(number)?;
            done()
        })
    },
    post(
        "/api/v1/calibration",
        Role::Operate,
        "An answer to a calibration's step",
        (schema::<CalibrationAnswer>, schema::<Done>),
        |call| {
            call.shared.service.answer(parse(call.body)?)?;
            done()
        },
    ),
    post("/api/v1/pairing", Role::Administer, "Six digits for another device", (schema::<BeginPairing>, schema::<Pairing>), |call| {
        let BeginPairing { role } = parse(call.body)?;
        json(&call.shared.keyring.begin(role)?)
    }),
    Route {
        role: Some(Role::Administer),
        ..get("/api/v1/devices", "Devices that were paired", schema::<Vec<Device>>, |call| json(&call.shared.keyring.devices()))
    },
    post("/api/v1/devices/revoke", Role::Administer, "A device's token is good no longer", (schema::<Revoke>, schema::<Done>), |call| {
        let Revoke { id } = parse(call.body)?;
        if !call.shared.keyring.revoke(&id)? {
            return Err(missing(&format!("there is no device {id}")));
        }
        done()
    }),
];

/// The request for `path` by `method`, with the names in it; else the status of an error.
pub(super) fn find<'a>(method: &str, path: &'a str) -> Result<(&'static Route, Vec<&'a str>), Problem> {
    let mut is_known = false;
    for route in ROUTES {
        if let Some(names) = matches(route.path, path) {
            if route.method == method {
                return Ok((route, names));
            }
            is_known = true;
        }
    }
    Err(if is_known { problem(405, "there is no such method for this path") } else { missing("there is no such path") })
}

/// The names in `path`, where it is of this form.
fn matches<'a>(form: &str, path: &'a str) -> Option<Vec<&'a str>> {
    let (mut names, mut rest) = (Vec::new(), Some(path.strip_prefix('/')?));
    for part in form.split('/').skip(1) {
        let (first, behind) = match rest? {
            all if part.ends_with("*}") => (all, None),
            all => all.split_once('/').map_or((all, None), |(first, behind)| (first, Some(behind))),
        };
        if part.starts_with('{') {
            if first.is_empty() {
                return None;
            }
            names.push(first);
        } else if part != first {
            return None;
        }
        rest = behind;
    }
    rest.is_none().then_some(names)
}

fn done() -> Result<Reply, Problem> {
    json(&Done { done: true })
}

fn json(value: &impl Serialize) -> Result<Reply, Problem> {
    let bytes = serde_json::to_vec(value).map_err(|error| problem(500, &format!("writing the answer: {error}")))?;
    Ok(Reply { kind: "application/json", bytes })
}

fn parse<T: DeserializeOwned>(body: &[u8]) -> Result<T, Problem> {
    serde_json::from_slice(body).map_err(|error| problem(400, &format!("reading the request: {error}")))
}

pub(super) fn problem(status: u16, error: &str) -> Problem {
    Problem { status, error: error.to_owned() }
}

fn missing(error: &str) -> Problem {
    problem(404, error)
}

impl From<Refusal> for Problem {
    fn from(refusal: Refusal) -> Self {
        let status = match refusal {
            Refusal::Bad(_) => 400,
            Refusal::Missing(_) => 404,
            Refusal::Conflict(_) => 409,
            Refusal::Failed(_) => 500,
        };
        problem(status, &refusal.to_string())
    }
}

/// Stopping is told in the log, as everybody may do it.
pub(super) fn in_words(stop: StopWish) -> &'static str {
    match stop {
        StopWish::Stop => "a stop",
        StopWish::Now => "a stop at once",
        StopWish::Emergency => "an emergency stop",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_path_is_found_by_its_form() {
        let path = |method, path| find(method, path).map(|(route, names)| (route.path, names));
        assert_eq!(
            path("GET", "/api/v1/datasets/a/episodes/3.jpg").unwrap(),
            ("/api/v1/datasets/{dataset}/episodes/{episode}", vec!["a", "3.jpg"])
        );
        assert_eq!(path("GET", "/api/v1/robot/meshes/a/b.stl").unwrap().1, ["a/b.stl"]);
        assert_eq!(path("GET", "/api/v1/datasets").unwrap().1, [""; 0]);
        for (method, wrong, status) in [
            ("POST", "/api/v1/me", 405),
            ("GET", "/api/v1/stop", 405),
            ("GET", "/api/v1/datasets/", 404),
            ("GET", "/api/v1/datasets//episodes/1.jpg", 404),
            ("GET", "/api/v1/me/x", 404),
            ("GET", "/api/v2/me", 404),
            ("GET", "", 404),
        ] {
            assert_eq!(path(method, wrong).unwrap_err().status, status, "{method} {wrong}");
        }
    }

    /// What moves, writes or lets somebody in needs a role above looking, but for the stop.
    #[test]
    fn what_changes_something_is_for_those_who_may() {
        for route in ROUTES.iter().filter(|route| route.method == "POST") {
            let is_free = ["/api/v1/stop", "/api/v1/pair"].contains(&route.path);
            assert_eq!(route.role > Some(Role::Look), !is_free, "{}", route.path);
        }
    }

    #[test]
    fn the_guide_has_each_request() {
        let guide = include_str!("../../../../docs/daemon.md");
        for Route { method, path, role, .. } in ROUTES {
            let short = path.split('{').next().unwrap();
            let role = role.map_or("anybody", |role| match role {
                Role::Look => "look",
                Role::Operate => "operate",
                Role::Administer => "administer",
            });
            let row = guide.lines().find(|line| {
                line.strip_prefix(&format!("| `{method} ")).is_some_and(|rest| {
                    let shown = rest.split(['`', '?']).next().unwrap();
                    if path.contains('{') {
                        shown.starts_with(short) && shown.matches('/').count() == path.matches('/').count()
                    } else {
                        shown == *path
                    }
                })
            });
            assert!(row.is_some_and(|row| row.contains(&format!("| {role} |"))), "{method} {path} for {role}: {row:?}");
        }
    }
}
