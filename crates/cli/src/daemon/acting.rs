//! A policy has the daemon's robot: its start, and what is learned of it.

use std::panic::{AssertUnwindSafe, catch_unwind};

use sinew_core::RobotDescription;
use sinew_core::service::WorkLeader;

use super::policies::{self, Located, Unfit};
use super::{Owned, lock, store};
use crate::args::RolloutArgs;
use crate::commands::rollout::{Prepared, Setting, roll_out};
use crate::host::Host;
use crate::rig::{Rig, Scenario};
use crate::{Done, text};

impl Owned {
    /// Has the policy work the robot, if it is there. How a policy of the Hub has started is remembered.
    pub(super) fn policy_works(
        &self,
        args: &RolloutArgs,
        leader: Option<WorkLeader>,
        rig: &mut Rig,
        host: Host<'_>,
    ) -> anyhow::Result<Done> {
        let Some(name) = args.policy.clone().filter(|policy| store::is_of_hub(policy)) else {
            return self.it_works(args, leader, rig, host);
        };
        let (policies, stop) = (self.policies.clone(), host.stop.clone());
        let Some(Located { used, files }) = self.prepare(&stop, move || policies.locate(&name))? else { return Ok(Done::Interrupted) };
        self.update(|current| current.policy = Some(used.clone()));
        self.policies.begin(&used);
        let done = match files {
            Ok(fetched) => self.it_works(&RolloutArgs { at_hand: Some(fetched), ..args.clone() }, leader, rig, host),
            Err(error) if policies::is_of_files(&error) => Err(Unfit(error.into()).into()),
            Err(error) => Err(error.into()),
        };
        let (has_acted, fault) =
            lock(&self.current).as_mut().map_or((false, None), |current| (current.has_acted, current.policy_fault.take()));
        if let (Err(error), false, false) = (&done, has_acted, stop.is_requested())
            && let Some(why) = error.is::<Unfit>().then(|| text::chain(error)).or(fault)
        {
            self.policies.failed(&used, &why);
        }
        done
    }

    fn it_works(&self, args: &RolloutArgs, leader: Option<WorkLeader>, rig: &mut Rig, host: Host<'_>) -> anyhow::Result<Done> {
        let robot: RobotDescription = rig.robot.description().clone();
        let (asked, of) = (args.clone(), robot.clone());
        let prepare = move || {
            let prepared = catch_unwind(AssertUnwindSafe(|| Prepared::of(&asked, &of)));
            prepared.unwrap_or_else(|_| Err(Unfit(anyhow::anyhow!("the policy panicked; the log says where")).into()))
        };
        let Some(prepared) = self.prepare(&host.stop, prepare)? else { return Ok(Done::Interrupted) };
        let mut human = leader.map(|leader| self.human(leader, rig, args.rig.seed, true)).transpose()?;
        let own;
        let setting = match &self.setting {
            Setting::Simulator(_) => {
                own = Setting::Simulator(Box::new(Scenario { instruction: args.rig.instruction.clone(), ..Scenario::of(&self.args.rig)? }));
                &own
            }
            hardware @ Setting::Hardware(_) => {
                rig.environment = Box::new(Setting::as_it_is(args, &robot)?);
                hardware
            }
        };
        roll_out(args, setting, prepared, (rig, human.as_mut()), host)
    }
}
