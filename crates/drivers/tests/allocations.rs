//! Reading packets allocates nothing, and building them nothing once a buffer has grown.

#![allow(clippy::unwrap_used, clippy::panic, reason = "what fails here fails the test")]

use sinew_drivers::wire::{Kind, Protocol, Scanned, Scanner, Side};
use sinew_drivers::{Block, MotorId, Register, STS3215};
use sinew_testkit::{CountingAllocator, allocator_calls};

#[global_allocator]
static ALLOCATOR: CountingAllocator = CountingAllocator;

#[test]
fn a_tick_s_packets_are_built_and_read_without_allocation() {
    let before = allocator_calls();
    drop(std::hint::black_box(vec![1_u8; 100]));
    assert_eq!(allocator_calls(), before + 2, "the counter works");
    for protocol in [Protocol::Feetech0, Protocol::Dynamixel2] {
        let block = Block { address: 56, len: 8 };
        // What six motors answer, the last with bytes that look like a header, behind garbage and a cut packet.
        let mut stream = vec![0xff, 0xff, 1, 2, 3, 0xff, 0xff, 0xfd, 0, 1, 12, 0, 0x55];
        let mut packet = Vec::new();
        for id in 1..=6 {
            protocol.status(&mut packet, id, 0, &[0, 8, 0, 0, 0xff, 0xff, 0xfd, 34]).unwrap();
            stream.extend(&packet);
        }
        let goals = [(1, &[0u8, 8][..]), (2, &[1, 8])];
        let mut out = Vec::with_capacity(256);
        let mut scanner = Scanner::new(protocol, Side::Master);
        let before = allocator_calls();
        let (mut answers, mut sum) = (0, 0);
        for _ in 0..100 {
            protocol.sync_read(&mut out, block, 1..=6).unwrap();
            protocol.sync_write(&mut out, Block { address: 42, len: 2 }, goals).unwrap();
            scanner.expect_at_most(8);
            for piece in stream.chunks(11) {
                scanner.feed(piece);
                while let Some(found) = scanner.scan() {
                    let Scanned::Packet(packet) = found else { continue };
                    assert!(matches!(packet.kind, Kind::Status { error: 0 }));
                    sum += STS3215.decode(Register::PresentPosition, MotorId(packet.id.into()), 56, packet.params).unwrap();
                    answers += 1;
                }
            }
        }
        assert_eq!(allocator_calls() - before, 0, "{}", protocol.name());
        assert_eq!((answers, sum), (600, 600 * 2048), "{}", protocol.name());
    }
}
