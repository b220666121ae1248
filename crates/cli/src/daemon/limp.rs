//! Torque: whether the robot's motors have it, and its end by somebody who holds the arm.

use std::sync::Arc;
use std::sync::atomic::Ordering::SeqCst;
use std::time::Duration;

use anyhow::Context as _;
use sinew_core::Role;
use sinew_core::service::{CalibratedArm, Phase, Refusal};
use sinew_drivers::setup::Chain;

use super::Owned;
use crate::arm::Arm;
use crate::rig::Rig;
use crate::text::note;
use crate::{Done, hardware, text};

impl Owned {
    /// The arm that is meant, on its ports.
    pub(super) fn arm_on_ports(&self, which: CalibratedArm) -> Result<Arm, Refusal> {
        let (role, option, ports, whose) = match which {
            CalibratedArm::Robot => (Role::Robot, "--port", &self.args.hardware.port, "the robot"),
            CalibratedArm::Leader => (Role::Teleoperator, "--teleop-port", &self.args.leader.teleop_port, "the leader of the daemon"),
        };
        let known = self.calibratable.iter().find(|arm| arm.arm == which);
        let known = known.ok_or_else(|| Refusal::Bad(format!("making {whose} limp: it has no arm on a serial port of this machine")))?;
        let failed = |error: anyhow::Error| Refusal::Failed(format!("making {} limp: {}", known.name, text::chain(&error)));
        let robot = hardware::describe(&known.name, role).map_err(failed)?;
        let ports = hardware::serial_ports(&robot, ports, option).map_err(failed)?;
        Ok(Arm { robot: Arc::new(robot), ports, latency: Duration::from_millis(self.args.hardware.latency_ms.unwrap_or(5)) })
    }

    /// Switches all torque off, whoever left it on and whatever else the motors hold. The robot that is `given` is let go where it is that.
    pub(super) fn go_limp(&self, arm: &Arm, which: CalibratedArm, given: &mut Option<Rig>) -> anyhow::Result<Done> {
        let name = &arm.robot.name;
        self.let_go(which, given);
        self.update(|current| current.work.phase = Phase::Running);
        let chain = Chain::open(arm.robot.clone(), &arm.ports, arm.latency, self.clock.clone());
        let relaxed = chain.and_then(|mut chain| chain.relax());
        relaxed.with_context(|| format!("switching the torque of {name} off; some motors may have it still"))?;
        if which == CalibratedArm::Robot {
            self.is_holding.store(false, SeqCst);
        }
        note!("{name}: the torque is off");
        Ok(Done::Ok)
    }

    /// Lets the robot go, if that is the arm that is meant: a leader is on ports of its own.
    pub(super) fn let_go(&self, which: CalibratedArm, given: &mut Option<Rig>) {
        if which != CalibratedArm::Robot {
            return;
        }
        drop(given.take());
        self.is_connected.store(false, SeqCst);
        self.board.change(|state| {
            // Nobody reads it now.
            state.position.fill(None);
            state.velocity.fill(None);
            state.effort.fill(None);
            state.trouble = None;
            self.fill(state);
        });
    }

    /// Takes note of whether the robot's motors say that they have torque, where they say so.
    pub(super) fn feel(&self, rig: &Rig) {
        if let Some(has_torque) = rig.robot.has_torque() {
            self.is_holding.store(has_torque, SeqCst);
        }
    }
}
