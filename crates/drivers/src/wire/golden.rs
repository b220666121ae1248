//! Packets that the makers' own programs built, beside ours.

use serde_json::Value;

use super::*;
use crate::Block;

fn number(value: &Value, key: &str) -> u32 {
    u32::try_from(value[key].as_u64().unwrap()).unwrap()
}

fn bytes(value: &Value) -> Vec<u8> {
    value.as_array().unwrap().iter().map(|byte| u8::try_from(byte.as_u64().unwrap()).unwrap()).collect()
}

fn protocol(packet: &Value) -> Protocol {
    let all = [Protocol::Feetech0, Protocol::Feetech1, Protocol::Dynamixel2];
    all.into_iter().find(|protocol| Some(protocol.name()) == packet["protocol"].as_str()).unwrap()
}

fn build(packet: &Value) -> Vec<u8> {
    let protocol = protocol(packet);
    let id = packet["id"].as_u64().map(|id| u8::try_from(id).unwrap());
    let id = || id.unwrap();
    let address = || u16::try_from(number(packet, "address")).unwrap();
    let block = || Block { address: address(), len: u8::try_from(number(packet, "len")).unwrap() };
    let data = || match packet.get("data") {
        Some(data) => bytes(data),
        None => protocol.byte_order().bytes(number(packet, "value"), block().len)[..usize::from(block().len)].to_vec(),
    };
    // What was in it before must not matter.
    let mut out = vec![7; 9];
    match packet["operation"].as_str().unwrap() {
        "ping" => protocol.ping(&mut out, id()),
        "reboot" => protocol.reboot(&mut out, id()),
        "action" => protocol.action(&mut out, id()),
        "read" => protocol.read(&mut out, id(), block()),
        "write" => protocol.write(&mut out, id(), address(), &data()),
        "reg_write" => protocol.reg_write(&mut out, id(), address(), &data()),
        "sync_read" => protocol.sync_read(&mut out, block(), bytes(&packet["ids"])),
        "fast_sync_read" => protocol.fast_sync_read(&mut out, block(), bytes(&packet["ids"])),
        "sync_write" => {
            let frames: Vec<(u8, Vec<u8>)> =
                packet["frames"].as_array().unwrap().iter().map(|frame| (frame[0].as_u64().unwrap() as u8, bytes(&frame[1]))).collect();
            protocol.sync_write(&mut out, block(), frames.iter().map(|(id, bytes)| (*id, bytes.as_slice())))
        }
        "bulk_read" | "fast_bulk_read" => {
            let blocks = packet["blocks"].as_array().unwrap().iter().map(|block| {
                let part = |at: usize| block[at].as_u64().unwrap();
                (part(0) as u8, Block { address: part(1) as u16, len: part(2) as u8 })
            });
            if packet["operation"] == "bulk_read" {
                protocol.bulk_read(&mut out, blocks)
            } else {
                protocol.fast_bulk_read(&mut out, blocks)
            }
        }
        "status" => protocol.status(&mut out, id(), number(packet, "error") as u8, &data()),
        other => panic!("an operation {other}"),
    }
    .unwrap();
    out
}

#[test]
fn packets_are_those_that_the_makers_programs_send() {
    let packets: Vec<Value> = serde_json::from_str(include_str!("golden.json")).unwrap();
    assert!(packets.len() > 70, "{}", packets.len());
    for packet in &packets {
        let built = build(packet);
        let hex: String = built.iter().map(|byte| format!("{byte:02x}")).collect();
        assert_eq!(Some(hex.as_str()), packet["hex"].as_str(), "{packet}");

        // And the scanner reads them back as what they are.
        let is_status = packet["operation"] == "status";
        let protocol = protocol(packet);
        let mut scanner = Scanner::new(protocol, if is_status { Side::Master } else { Side::Motor });
        assert_eq!(scanner.feed(&built), built.len());
        let Some(Scanned::Packet(found)) = scanner.scan() else { panic!("{packet} is not found") };
        assert_eq!(found.raw, built);
        match found.kind {
            Kind::Status { error } => {
                assert_eq!((u32::from(error), found.params), (number(packet, "error"), bytes(&packet["data"]).as_slice()));
            }
            Kind::Instruction { code } => {
                let instruction = Instruction::parse(protocol, code, found.params).unwrap();
                match instruction {
                    Instruction::SyncRead { ids, .. } => assert_eq!(ids, bytes(&packet["ids"])),
                    Instruction::SyncWrite { frames, .. } => assert_eq!(frames.count(), packet["frames"].as_array().unwrap().len()),
                    Instruction::BulkRead { blocks, .. } => assert_eq!(blocks.count(), packet["blocks"].as_array().unwrap().len()),
                    Instruction::Read(block) => assert_eq!(u32::from(block.len), number(packet, "len")),
                    _ => {}
                }
            }
        }
        assert_eq!(scanner.scan(), None);
    }
}
