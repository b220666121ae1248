//! Every way out of every phase is safe: each trouble that this project knows, in each phase of an episode, whoever acts,
//! on a modelled arm and on the simulated SO-101, in the runtime as it is. `cargo test --release -p sinew-cli --test
//! fault_matrix -- --nocapture` prints what was found as a table.

#![cfg(unix)]
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "what fails here fails the test")]
#![allow(clippy::print_stdout, reason = "the table, for who asks with --nocapture")]

mod matrix;

use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering::SeqCst};
use std::thread;

use matrix::arm::Hang;
use matrix::table::Table;
use matrix::trouble::{PHASES, Plan, TROUBLES, Venue, WHOS};
use matrix::{local, process};

/// Runs every cell on one of so many threads.
fn run_all<T: Copy + Sync>(cells: &[T], threads: usize, table: &Mutex<Table>, run: impl Fn(T) -> (Plan, local::Came) + Sync) {
    let next = AtomicUsize::new(0);
    thread::scope(|scope| {
        for _ in 0..threads {
            scope.spawn(|| {
                while let Some(cell) = cells.get(next.fetch_add(1, SeqCst)) {
                    let (plan, came) = run(*cell);
                    table.lock().unwrap().add(&plan, came);
                }
            });
        }
    });
}

/// All of one venue, whoever acts.
fn plans(venue: Venue) -> Vec<Plan> {
    let all = TROUBLES.iter().flat_map(|trouble| PHASES.map(|phase| (*trouble, phase)));
    all.flat_map(|(trouble, phase)| WHOS.map(|who| Plan { trouble, phase, who, venue })).collect()
}

/// A cell where most of the time is waited away: in this process or in one of its own.
#[derive(Clone, Copy)]
enum Slow {
    Live(Plan),
    Process(Plan, Hang),
}

/// Does nothing when it is run as a test.
#[test]
fn role_of_the_watchdog() {
    process::be_the_watchdog();
}

/// Does nothing when it is run as a test.
#[test]
fn role_of_the_main_process() {
    process::be_the_main_process();
}

#[test]
fn every_way_out_of_every_phase_is_safe() {
    // Panics that are meant to happen are told of in reports.
    std::panic::set_hook(Box::new(|_| {}));
    let table = Mutex::new(Table::default());
    for plan in [Venue::Model(30), Venue::Simulator(30), Venue::Live(30), Venue::Process(30)].into_iter().flat_map(plans) {
        match (plan.cannot_occur(), plan.is_elsewhere()) {
            (Some(why), _) => table.lock().unwrap().add_reason(&plan, why),
            (None, Some(why)) => table.lock().unwrap().add_elsewhere(&plan, why),
            (None, None) => {}
        }
    }
    // What has a clock of its own takes the processors; what has not waits.
    for venue in [Venue::Model(30), Venue::Model(120), Venue::Simulator(30), Venue::Simulator(120)] {
        let cells: Vec<Plan> = plans(venue).into_iter().filter(local::has).collect();
        run_all(&cells, 2, &table, |plan| (plan, local::cell(plan)));
    }
    let live = [Venue::Live(30), Venue::Live(120)].into_iter().flat_map(plans).filter(local::has).map(Slow::Live);
    let processes = process::plans().into_iter().map(|(plan, hang)| Slow::Process(plan, hang));
    let cells: Vec<Slow> = live.chain(processes).collect();
    run_all(&cells, 12, &table, |cell| match cell {
        Slow::Live(plan) => (plan, local::cell(plan)),
        Slow::Process(plan, hang) => (plan, process::cell(plan, hang)),
    });
    drop(std::panic::take_hook());
    let table = table.into_inner().unwrap();
    table.print();
    let faults = [table.faults(), table.gaps()].concat();
    assert!(faults.is_empty(), "{}", faults.join("\n"));
}
