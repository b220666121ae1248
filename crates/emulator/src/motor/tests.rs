use sinew_drivers::tables::{SCS0009, STS3215, XL330_M288};

use super::*;

struct Bench {
    motor: Motor,
    now: Instant,
}

impl Bench {
    fn new(table: &'static ControlTable) -> Self {
        let now = Instant::now();
        let joint = Joint { name: "joint".to_owned(), id: 1, table, position: 2048.0, stops: (200.0, 3900.0), load: 0.0 };
        Self { motor: Motor::new(&joint, Firmware::of(table.protocol), now).unwrap(), now }
    }

    fn wait(&mut self, seconds: f64) {
        self.now += Duration::from_secs_f64(seconds);
        self.motor.advance(self.now);
    }

    fn write(&mut self, register: Register, value: i32) -> Result<(), u8> {
        let table = self.motor.table();
        let field = table.field(register, MotorId(1)).unwrap();
        let (bytes, len) = table.encode(register, MotorId(1), value).unwrap();
        self.motor.write(field.address, &bytes[..usize::from(len)])
    }

    fn value(&self, register: Register) -> i32 {
        self.motor.value(register)
    }
}

#[test]
fn every_model_has_registers_that_hold_the_factory_s_values() {
    for table in ControlTable::ALL {
        let bench = Bench::new(table);
        assert_eq!(bench.value(Register::ModelNumber), i32::from(table.number), "{}", table.model);
        assert_eq!((bench.motor.id(), bench.motor.baud()), (1, Some(1_000_000)), "{}", table.model);
        assert_eq!(bench.motor.return_delay(), Duration::from_micros(500));
    }
}

#[test]
fn a_motor_goes_to_its_goal_no_faster_than_it_can() {
    for table in [&STS3215, &XL330_M288] {
        let mut bench = Bench::new(table);
        bench.write(Register::TorqueEnable, 1).unwrap();
        bench.write(Register::GoalPosition, 3000).unwrap();
        bench.wait(0.05);
        let early = bench.value(Register::PresentPosition);
        assert!(early > 2048 && early < 2600, "{}: {early}", table.model);
        bench.wait(1.0);
        assert!((2999..=3001).contains(&bench.value(Register::PresentPosition)), "{}", bench.value(Register::PresentPosition));
        assert_eq!(bench.value(Register::Moving), 0);
    }
}

#[test]
fn goal_velocity_and_acceleration_limit_the_way() {
    let mut bench = Bench::new(&STS3215);
    bench.write(Register::TorqueEnable, 1).unwrap();
    bench.write(Register::GoalVelocity, 200).unwrap();
    bench.write(Register::Acceleration, 10).unwrap();
    bench.write(Register::GoalPosition, 3000).unwrap();
    bench.wait(0.1);
    // 1000 ticks per square second for 0.1 s are 5 ticks.
    assert!((2052..=2055).contains(&bench.value(Register::PresentPosition)), "{}", bench.value(Register::PresentPosition));
    bench.wait(0.9);
    assert_eq!(bench.value(Register::PresentVelocity), 200);
}

#[test]
fn without_torque_a_loaded_joint_falls_and_with_it_yields() {
    let mut bench = Bench::new(&STS3215);
    bench.motor.set_load(0.15);
    bench.wait(0.5);
    let fallen = bench.value(Register::PresentPosition);
    assert!(fallen > 2100, "{fallen}");
    bench.write(Register::GoalPosition, fallen).unwrap();
    bench.write(Register::TorqueEnable, 1).unwrap();
    bench.wait(1.0);
    let held = bench.value(Register::PresentPosition);
    assert!(held > fallen && held < fallen + 10, "{fallen} {held}");
    assert_eq!(bench.value(Register::PresentLoad), -150);
}

#[test]
fn a_stale_goal_is_where_a_feetech_goes_and_a_dynamixel_does_not() {
    for (table, expected) in [(&STS3215, 2048), (&XL330_M288, 2500)] {
        let mut bench = Bench::new(table);
        bench.motor.move_by_hand(2500.0);
        bench.wait(0.01);
        bench.write(Register::TorqueEnable, 1).unwrap();
        bench.wait(1.0);
        assert_eq!(bench.value(Register::PresentPosition), expected, "{}", table.model);
    }
}

#[test]
fn what_feetech_writes_under_a_lock_is_gone_after_the_next_start() {
    let mut bench = Bench::new(&STS3215);
    bench.write(Register::Id, 7).unwrap();
    assert_eq!(bench.motor.id(), 7);
    bench.motor.restart();
    assert_eq!(bench.motor.id(), 1);
    bench.write(Register::Lock, 0).unwrap();
    bench.write(Register::Id, 7).unwrap();
    bench.write(Register::TorqueEnable, 1).unwrap();
    bench.write(Register::Acceleration, 50).unwrap();
    bench.motor.restart();
    assert_eq!((bench.motor.id(), bench.value(Register::TorqueEnable), bench.value(Register::Acceleration)), (7, 0, 0));
    // And what is measured is not written.
    bench.write(Register::PresentTemperature, 99).unwrap();
    assert_eq!(bench.value(Register::PresentTemperature), 30);
}

#[test]
fn dynamixel_refuses_with_its_reason() {
    let mut bench = Bench::new(&XL330_M288);
    assert_eq!(bench.write(Register::OperatingMode, 9), Err(refusal::RANGE));
    assert_eq!(bench.write(Register::PresentTemperature, 9), Err(refusal::ACCESS));
    assert_eq!(bench.motor.write(116, &[0, 8]), Err(refusal::LENGTH));
    assert_eq!(bench.motor.write(200, &[0]), Err(refusal::ACCESS));
    assert_eq!(bench.write(Register::GoalPosition, 5000), Err(refusal::LIMIT));
    bench.write(Register::TorqueEnable, 1).unwrap();
    assert_eq!(bench.write(Register::OperatingMode, 4), Err(refusal::ACCESS));
    bench.write(Register::TorqueEnable, 0).unwrap();
    bench.write(Register::OperatingMode, 4).unwrap();
    bench.write(Register::TorqueEnable, 1).unwrap();
    bench.write(Register::GoalPosition, 5000).unwrap();
    bench.motor.set_stops((-9000.0, 9000.0));
    bench.wait(2.0);
    assert_eq!(bench.value(Register::PresentPosition), 5000);
    // Turns are forgotten with the power.
    bench.motor.restart();
    assert_eq!(bench.value(Register::PresentPosition), 5000 - 4096);
}

#[test]
fn offsets_have_the_makers_signs() {
    let mut feetech = Bench::new(&STS3215);
    feetech.write(Register::HomingOffset, 100).unwrap();
    assert_eq!(feetech.value(Register::PresentPosition), 1948);
    feetech.motor.move_by_hand(200.0);
    feetech.write(Register::HomingOffset, 1000).unwrap();
    assert_eq!(feetech.value(Register::PresentPosition), 200 - 1000 + 4096);
    // 128 makes the present position the middle.
    feetech.write(Register::TorqueEnable, 128).unwrap();
    assert_eq!(feetech.value(Register::PresentPosition), 2048);
    let mut dynamixel = Bench::new(&XL330_M288);
    dynamixel.write(Register::OperatingMode, 4).unwrap();
    dynamixel.write(Register::HomingOffset, 100).unwrap();
    assert_eq!(dynamixel.value(Register::PresentPosition), 2148);
    dynamixel.write(Register::DriveMode, 1).unwrap();
    assert_eq!(dynamixel.value(Register::PresentPosition), 100 - 2048);
}

#[test]
fn wheels_turn_on_and_on() {
    let mut bench = Bench::new(&STS3215);
    bench.motor.set_stops((f64::NEG_INFINITY, f64::INFINITY));
    bench.write(Register::OperatingMode, 1).unwrap();
    bench.write(Register::TorqueEnable, 1).unwrap();
    bench.write(Register::GoalVelocity, -1000).unwrap();
    bench.wait(10.0);
    assert_eq!(bench.value(Register::PresentVelocity), -1000);
    assert!((bench.motor.position() - (2048.0 - 10_000.0)).abs() < 200.0, "{}", bench.motor.position());
    assert!((0..4096).contains(&bench.value(Register::PresentPosition)));
}

#[test]
fn pushing_against_a_stop_overloads() {
    let mut feetech = Bench::new(&STS3215);
    feetech.write(Register::TorqueEnable, 1).unwrap();
    feetech.motor.set_stops((1900.0, 2100.0));
    feetech.write(Register::GoalPosition, 3000).unwrap();
    feetech.wait(1.0);
    assert_eq!((feetech.motor.alert(), feetech.value(Register::PresentLoad)), (0, 1000));
    for _ in 0..20 {
        feetech.wait(0.1);
    }
    assert_eq!((feetech.motor.alert(), feetech.value(Register::PresentLoad)), (32, 200));
    feetech.write(Register::GoalPosition, 2000).unwrap();
    feetech.wait(0.5);
    assert_eq!((feetech.motor.alert(), feetech.value(Register::PresentPosition)), (0, 2000));

    let mut dynamixel = Bench::new(&XL330_M288);
    dynamixel.write(Register::TorqueEnable, 1).unwrap();
    dynamixel.motor.set_stops((1900.0, 2100.0));
    dynamixel.write(Register::GoalPosition, 3000).unwrap();
    for _ in 0..30 {
        dynamixel.wait(0.1);
    }
    assert_eq!((dynamixel.motor.alert(), dynamixel.value(Register::HardwareErrorStatus)), (0x80, 32));
    dynamixel.write(Register::TorqueEnable, 1).unwrap();
    assert_eq!(dynamixel.value(Register::TorqueEnable), 0);
    dynamixel.motor.restart();
    dynamixel.write(Register::TorqueEnable, 1).unwrap();
    assert_eq!((dynamixel.motor.alert(), dynamixel.value(Register::TorqueEnable)), (0, 1));
}

#[test]
fn a_gripper_that_is_held_by_its_current_does_not_overload() {
    let mut bench = Bench::new(&XL330_M288);
    bench.write(Register::OperatingMode, 5).unwrap();
    bench.write(Register::GoalCurrent, 300).unwrap();
    bench.write(Register::TorqueEnable, 1).unwrap();
    bench.motor.set_stops((1900.0, 2100.0));
    bench.write(Register::GoalPosition, 3000).unwrap();
    for _ in 0..50 {
        bench.wait(0.1);
    }
    assert_eq!((bench.motor.alert(), bench.value(Register::PresentCurrent)), (0, 300));
}

#[test]
fn heat_and_voltage_raise_alarms() {
    let mut bench = Bench::new(&STS3215);
    bench.write(Register::TorqueEnable, 1).unwrap();
    bench.motor.set_supply(3.0);
    bench.wait(0.1);
    assert_eq!(bench.motor.alert(), 1);
    bench.motor.set_supply(12.0);
    bench.motor.set_temperature(80.0);
    bench.wait(0.1);
    assert_eq!((bench.motor.alert(), bench.value(Register::TorqueEnable)), (4, 0));
    let mut bench = Bench::new(&XL330_M288);
    bench.write(Register::TorqueEnable, 1).unwrap();
    bench.motor.set_temperature(80.0);
    bench.wait(0.1);
    assert_eq!((bench.motor.alert(), bench.value(Register::TorqueEnable)), (0x80, 0));
}

#[test]
fn scs_begin_with_the_high_byte() {
    let mut bench = Bench::new(&SCS0009);
    bench.motor.move_by_hand(0x1ff.into());
    bench.wait(0.001);
    assert_eq!(bench.motor.read(Block { address: 56, len: 2 }), Ok([0x01, 0xff].as_slice()));
}

#[test]
fn a_watchdog_stops_a_motor_that_hears_nothing() {
    let mut bench = Bench::new(&XL330_M288);
    bench.motor.set_stops((-1e6, 1e6));
    bench.write(Register::OperatingMode, 1).unwrap();
    bench.write(Register::TorqueEnable, 1).unwrap();
    bench.write(Register::BusWatchdog, 5).unwrap();
    bench.write(Register::GoalVelocity, 100).unwrap();
    bench.wait(0.09);
    assert!((99..=100).contains(&bench.value(Register::PresentVelocity)));
    bench.motor.hear(bench.now);
    bench.wait(0.09);
    assert_eq!(bench.value(Register::BusWatchdog), 5);
    bench.wait(0.02);
    bench.wait(0.2);
    assert_eq!((bench.value(Register::BusWatchdog), bench.value(Register::PresentVelocity)), (255, 0));
    assert_eq!(bench.write(Register::GoalVelocity, 100), Err(refusal::RANGE));
    bench.write(Register::BusWatchdog, 0).unwrap();
    bench.write(Register::GoalVelocity, 100).unwrap();
}

#[test]
fn a_position_that_is_held_is_measured_with_noise() {
    let mut bench = Bench::new(&STS3215);
    bench.motor.set_noise(1.0);
    let mut seen = Vec::new();
    for _ in 0..200 {
        bench.wait(0.005);
        seen.push(bench.value(Register::PresentPosition));
    }
    seen.sort_unstable();
    seen.dedup();
    assert_eq!(seen, [2047, 2048, 2049]);
}
