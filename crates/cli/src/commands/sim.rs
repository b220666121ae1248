//! `sinew sim`

use std::io::Write;

use crate::Done;
use crate::args::SimCommand;
use crate::contact_sheet::write_png;
use crate::rig::Scenario;

pub fn run(command: &SimCommand) -> anyhow::Result<Done> {
    let SimCommand::Render { rig: args, out, width, height } = command;
    let mut scenario = Scenario::of(args)?;
    if let Some((width, height)) = width.zip(*height) {
        scenario.model.description.cameras.iter_mut().for_each(|camera| (camera.width, camera.height) = (width, height));
    }
    let mut rig = scenario.simulate(false)?;
    let setup = rig.environment.reset(args.seed)?;
    let mut stdout = crate::text::stdout();
    writeln!(stdout, "{} with seed {}: {}", scenario.task.name(), args.seed, setup.task)?;
    for (camera, image) in scenario.robot().cameras.iter().zip(rig.look()?) {
        let path = out.join(format!("{}.png", camera.name));
        write_png(&path, image.width, image.height, &image.rgb)?;
        writeln!(stdout, "  {}", path.display())?;
    }
    Ok(Done::Ok)
}
