//! `sinew sim`

use std::path::PathBuf;

use crate::Done;
use crate::args::SimCommand;
use crate::contact_sheet::write_png;
use crate::rig::Scenario;
use crate::text::say;

pub fn run(command: &SimCommand) -> anyhow::Result<Done> {
    let SimCommand::Render { robot, task, seed, out, width, height, force } = command;
    let mut scenario = Scenario::named(robot, task.as_deref())?;
    if let Some((width, height)) = width.zip(*height) {
        scenario.model.description.cameras.iter_mut().for_each(|camera| (camera.width, camera.height) = (width, height));
    }
    let paths: Vec<PathBuf> = scenario.robot().cameras.iter().map(|camera| out.join(format!("{}.png", camera.name))).collect();
    if let Some(path) = paths.iter().find(|path| !force && path.exists()) {
        anyhow::bail!("rendering to {}: there is a file already; expected another --out, or --force", path.display());
    }
    let mut rig = scenario.simulate(false, false)?;
    let setup = rig.environment.reset(*seed)?;
    say!("{} with seed {}: {}", scenario.task.name(), seed, setup.task);
    for (path, image) in paths.iter().zip(rig.look()?) {
        write_png(path, image.width, image.height, &image.rgb)?;
        say!("  {}", path.display());
    }
    Ok(Done::Ok)
}
