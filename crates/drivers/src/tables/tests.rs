use serde_json::Value;

use super::*;

const MOTOR: MotorId = MotorId(3);

#[test]
fn one_block_holds_all_from_position_to_temperature() {
    use Register::{PresentLoad, PresentPosition, PresentTemperature, PresentVelocity, PresentVoltage};
    let block = STS3215.block(&[PresentTemperature, PresentPosition], MOTOR).unwrap();
    assert_eq!(block, Block { address: 56, len: 8 });
    let bytes = [0x00, 0x08, 0x05, 0x80, 0xe8, 0x04, 0x79, 0x22];
    let read = |register| STS3215.decode(register, MOTOR, block.address, &bytes);
    assert_eq!(read(PresentPosition), Ok(2048));
    // LeRobot's check value: -5 is 0x8005.
    assert_eq!(read(PresentVelocity), Ok(-5));
    assert_eq!(read(PresentLoad), Ok(-0xe8));
    assert_eq!((read(PresentVoltage), read(PresentTemperature)), (Ok(121), Ok(34)));
    assert_eq!(read(Register::GoalPosition).unwrap_err().to_string(), "goal_position of motor 3: 8 bytes at 56 do not hold it");
}

#[test]
fn what_is_written_is_read_and_what_does_not_fit_is_named() {
    for (register, values) in
        [(Register::GoalPosition, [-32767, -5, 0, 32767]), (Register::HomingOffset, [-2047, -5, 3, 2047]), (Register::Id, [0, 1, 254, 255])]
    {
        let field = STS3215.field(register, MOTOR).unwrap();
        for value in values {
            let (bytes, len) = STS3215.encode(register, MOTOR, value).unwrap();
            assert_eq!(STS3215.decode(register, MOTOR, field.address, &bytes[..usize::from(len)]), Ok(value), "{register:?} {value}");
        }
    }
    // LeRobot's check value: -5 is 0x805 in an offset.
    assert_eq!(STS3215.encode(Register::HomingOffset, MOTOR, -5), Ok(([0x05, 0x08, 0, 0], 2)));
    for (register, value) in [(Register::HomingOffset, 2048), (Register::Id, 256), (Register::Id, -1), (Register::GoalPosition, 40_000)] {
        let error = STS3215.encode(register, MOTOR, value).unwrap_err().to_string();
        assert_eq!(error, format!("{} of motor 3: the value {value} does not fit the register", register.name()));
    }
    const FIELDS: &[Field] = &[field(Register::GoalPosition, 116, 4, Encoding::TwosComplement)];
    let signed = ControlTable { fields: FIELDS, ..STS3215 };
    for value in [i32::MIN, -1, 0, i32::MAX] {
        let (bytes, _) = signed.encode(Register::GoalPosition, MOTOR, value).unwrap();
        assert_eq!(signed.decode(Register::GoalPosition, MOTOR, 116, &bytes), Ok(value));
    }
    assert!(signed.field(Register::Lock, MOTOR).unwrap_err().to_string().contains("lock of motor 3: its model has no such register"));
}

#[test]
fn all_tables_are_lerobots() {
    // Of another meaning than their name, of the factory, or named twice.
    const LEFT_OUT: [&str; 7] = [
        "moving_velocity",
        "moving_velocity_threshold*50",
        "minimum_velocity_limit*50",
        "maximum_velocity_limit*50",
        "pwm_maximum_step",
        "acceleration_2",
        "dts",
    ];
    let golden: Value = serde_json::from_str(include_str!("golden.json")).unwrap();
    let (mut models, mut compared) = (0, 0);
    for (model, about) in golden["models"].as_object().unwrap() {
        let table = ControlTable::of_model(model).unwrap_or_else(|| panic!("there is no table for {model}"));
        assert_eq!(Some(u64::from(table.number)), about["number"].as_u64(), "{model}");
        assert_eq!(ControlTable::of_number(table.protocol, table.number).map(|table| table.model), Some(model.as_str()));
        assert_eq!(Some(u64::from(table.resolution)), about["resolution"].as_u64(), "{model}");
        assert_eq!(Some(table.protocol.name()), about["protocol"].as_str(), "{model}");
        let bauds = about["bauds"].as_object().unwrap();
        assert_eq!(table.bauds.len(), bauds.len(), "{model}");
        for (baud, code) in bauds {
            assert_eq!(table.baud_code(baud.parse().unwrap()).map(u64::from), code.as_u64(), "{model} {baud}");
        }
        if let Some(modes) = about["modes"].as_array() {
            assert_eq!(
                table.modes.iter().map(|mode| u64::from(*mode)).collect::<Vec<_>>(),
                modes.iter().filter_map(Value::as_u64).collect::<Vec<_>>()
            );
        }
        let registers = golden["registers"][about["registers"].as_str().unwrap()].as_object().unwrap();
        for (name, expected) in registers {
            let Some(field) = table.fields.iter().find(|field| field.register.name() == name) else {
                assert!(LEFT_OUT.contains(&name.as_str()), "{model} has no {name}");
                continue;
            };
            let encoding = match field.encoding {
                Encoding::Unsigned => "unsigned".to_owned(),
                Encoding::SignMagnitude(bit) => format!("sign in bit {bit}"),
                Encoding::TwosComplement => "two's complement".to_owned(),
            };
            assert_eq!(serde_json::json!([field.address, field.len, encoding]), *expected, "{model} {name}");
            compared += 1;
        }
        assert!(table.fields.iter().all(|field| registers.contains_key(field.register.name())), "{model}");
        models += 1;
    }
    assert_eq!(models, 13);
    assert!(compared > 600, "{compared}");
}

#[test]
fn numbers_of_scs_begin_with_the_high_byte() {
    let motor = MotorId(1);
    assert_eq!(SCS0009.encode(Register::GoalPosition, motor, 0x1ff), Ok(([0x01, 0xff, 0, 0], 2)));
    assert_eq!(SCS0009.decode(Register::PresentPosition, motor, 56, &[0x01, 0xff]), Ok(0x1ff));
    assert!(!SCS0009.has(Register::HomingOffset));
}

#[test]
fn what_a_motor_keeps_without_power_is_known() {
    for table in ControlTable::ALL {
        let id = table.field(Register::Id, MotorId(1)).unwrap();
        let torque = table.field(Register::TorqueEnable, MotorId(1)).unwrap();
        assert!(table.is_persistent(id.address) && !table.is_persistent(torque.address), "{}", table.model);
        assert_eq!(torque.address, table.protocol.torque_address());
        assert!(Register::PresentPosition.is_read_only() && !Register::GoalPosition.is_read_only());
        assert_eq!(table.baud_code(1_000_000).and_then(|code| table.baud(code)), Some(1_000_000));
    }
}
