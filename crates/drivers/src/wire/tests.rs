use proptest::prelude::*;

use super::*;
use crate::Block;

const ALL: [Protocol; 3] = [Protocol::Feetech0, Protocol::Feetech1, Protocol::Dynamixel2];

#[derive(Clone, Debug, PartialEq, Eq)]
struct Seen {
    id: u8,
    kind: Kind,
    params: Vec<u8>,
}

/// Feeds pieces of at most `piece` bytes; packets, and how many bytes were skipped.
fn scan(scanner: &mut Scanner, bytes: &[u8], piece: usize) -> (Vec<Seen>, usize) {
    let (mut seen, mut skipped) = (Vec::new(), 0);
    for piece in bytes.chunks(piece) {
        assert_eq!(scanner.feed(piece), piece.len());
        drain(scanner, &mut seen, &mut skipped);
    }
    (seen, skipped)
}

fn drain(scanner: &mut Scanner, seen: &mut Vec<Seen>, skipped: &mut usize) {
    while let Some(found) = scanner.scan() {
        match found {
            Scanned::Packet(packet) => seen.push(Seen { id: packet.id, kind: packet.kind, params: packet.params.to_vec() }),
            Scanned::Skipped { bytes, .. } => {
                assert!(bytes > 0);
                *skipped += bytes;
            }
        }
    }
}

fn status(protocol: Protocol, id: u8, error: u8, data: &[u8]) -> (Vec<u8>, Seen) {
    let mut out = Vec::new();
    protocol.status(&mut out, id, error, data).unwrap();
    (out, Seen { id, kind: Kind::Status { error }, params: data.to_vec() })
}

fn protocols() -> impl Strategy<Value = Protocol> {
    prop::sample::select(ALL.to_vec())
}

/// Bytes of which many look like parts of headers.
fn garbage(most: usize) -> impl Strategy<Value = Vec<u8>> {
    let byte = prop_oneof![3 => Just(0xffu8), 1 => Just(0xfd), 1 => Just(0), 1 => 0u8..8, 3 => any::<u8>()];
    prop::collection::vec(byte, 0..most)
}

/// Garbage from which no packet arises by chance: none that the scanner would rightly believe.
fn is_without_packet(protocol: Protocol, most: usize, bytes: &[u8]) -> bool {
    let mut scanner = Scanner::new(protocol, Side::Master);
    scanner.expect_at_most(most);
    let (mut seen, _) = scan(&mut scanner, bytes, 1000);
    scanner.end();
    drain(&mut scanner, &mut seen, &mut 0);
    seen.is_empty()
}

/// PROPTEST_CASES asks for more.
fn config() -> ProptestConfig {
    let default = ProptestConfig::default();
    ProptestConfig { failure_persistence: None, cases: default.cases.max(2000), max_global_rejects: default.cases.max(2000), ..default }
}

proptest! {
    #![proptest_config(config())]

    #[test]
    fn what_was_built_is_found_however_it_is_cut(
        protocol in protocols(), piece in 1usize..40, answers in prop::collection::vec((0u8..=252, 0u8..0x80, garbage(20)), 1..6)
    ) {
        let (mut bytes, mut expected) = (Vec::new(), Vec::new());
        for (id, error, data) in answers {
            let (packet, seen) = status(protocol, id, error, &data);
            bytes.extend(packet);
            expected.push(seen);
        }
        let mut scanner = Scanner::new(protocol, Side::Master);
        prop_assert_eq!(scan(&mut scanner, &bytes, piece), (expected, 0));
        prop_assert_eq!(scanner.pending(), 0);
    }

    #[test]
    fn a_packet_behind_garbage_is_found_and_nothing_but_the_garbage_is_skipped(
        protocol in protocols(), piece in 1usize..40, before in garbage(40), id in 0u8..=252, data in garbage(9), after in garbage(3)
    ) {
        let (packet, seen) = status(protocol, id, 0, &data);
        let bytes = [before.as_slice(), &packet, &after].concat();
        // A checksum of 8 bits can't tell a packet from bytes that happen to be one.
        let until = [before.as_slice(), &packet[..packet.len() - 1]].concat();
        prop_assume!(is_without_packet(protocol, data.len(), &until));
        let mut scanner = Scanner::new(protocol, Side::Master);
        scanner.expect_at_most(data.len());
        let (mut found, mut skipped) = scan(&mut scanner, &bytes, piece);
        scanner.end();
        drain(&mut scanner, &mut found, &mut skipped);
        prop_assert_eq!(found.first(), Some(&seen));
        prop_assert_eq!(scanner.pending(), 0);
    }

    #[test]
    fn where_bytes_are_cut_changes_nothing(protocol in protocols(), piece in 1usize..30, bytes in garbage(200), side in prop::bool::ANY) {
        let side = if side { Side::Master } else { Side::Motor };
        let (mut one, mut other) = (Scanner::new(protocol, side), Scanner::new(protocol, side));
        let seen = scan(&mut one, &bytes, piece).0;
        prop_assert_eq!(scan(&mut other, &bytes, 1000).0, seen);
        one.end();
        other.end();
        let (mut seen, mut same) = (Vec::new(), Vec::new());
        let (mut skipped, mut also) = (0, 0);
        drain(&mut one, &mut seen, &mut skipped);
        drain(&mut other, &mut same, &mut also);
        prop_assert_eq!(seen, same);
        prop_assert_eq!((one.pending(), other.pending()), (0, 0));
    }

    #[test]
    fn a_flipped_bit_is_never_taken_for_the_answer(
        protocol in protocols(), id in 0u8..=252, data in garbage(16), bit in any::<prop::sample::Index>()
    ) {
        let (mut packet, seen) = status(protocol, id, 0, &data);
        let bit = bit.index(8 * packet.len());
        packet[bit / 8] ^= 1 << (bit % 8);
        let mut scanner = Scanner::new(protocol, Side::Master);
        scanner.expect_at_most(data.len());
        let (mut found, mut skipped) = scan(&mut scanner, &packet, 7);
        scanner.end();
        drain(&mut scanner, &mut found, &mut skipped);
        // A packet inside of the data is what the world really looks like then; the whole one must not be believed.
        prop_assert!(found.iter().all(|found| found.params.len() < data.len()), "{:?} of {:?}", found, seen);
        // And the next answer is found.
        let next = status(protocol, 1, 0, &[1, 2]);
        scanner.expect_at_most(2);
        let found = scan(&mut scanner, &next.0, 3).0;
        prop_assert_eq!(found.last(), Some(&next.1));
    }

    #[test]
    fn a_packet_that_was_cut_does_not_swallow_the_next(
        protocol in protocols(), id in 0u8..=252, data in prop::collection::vec(any::<u8>(), 0..16), cut in any::<prop::sample::Index>()
    ) {
        let (packet, _) = status(protocol, id, 0, &data);
        let (next, seen) = status(protocol, 9, 0, &data);
        let bytes = [&packet[..cut.index(packet.len())], &next].concat();
        prop_assume!(is_without_packet(protocol, data.len(), &bytes[..bytes.len() - 1]));
        let mut scanner = Scanner::new(protocol, Side::Master);
        scanner.expect_at_most(data.len());
        let found = scan(&mut scanner, &bytes, 5).0;
        // Without waiting for anything more.
        prop_assert_eq!(found, vec![seen]);
    }

    #[test]
    fn instructions_are_understood_or_refused(protocol in protocols(), code in any::<u8>(), params in garbage(30)) {
        match Instruction::parse(protocol, code, &params) {
            Ok(Instruction::SyncWrite { frames, .. }) => prop_assert!(frames.count() <= params.len()),
            Ok(Instruction::BulkRead { blocks, .. }) => prop_assert!(blocks.count() <= params.len() / 5),
            _ => {}
        }
    }

    #[test]
    fn motors_that_answer_together_are_told_apart(answers in prop::collection::vec((0u8..=252, any::<u8>(), prop::array::uniform4(any::<u8>())), 1..20)) {
        let mut out = Vec::new();
        let parts = answers.iter().map(|(id, error, data)| (*error, *id, data.as_slice()));
        Protocol::Dynamixel2.fast_status(&mut out, parts).unwrap();
        prop_assert_eq!(out.len(), Protocol::fast_answer_len(4, answers.len()));
        let mut scanner = Scanner::new(Protocol::Dynamixel2, Side::Master);
        scanner.feed(&out);
        let Some(Scanned::Packet(Packet { id: BROADCAST, kind: Kind::Status { error }, params, .. })) = scanner.scan() else {
            return Err(TestCaseError::fail("no packet"));
        };
        let found: Vec<_> = FastAnswers::new(error, params, |_| Some(4)).map(|part| (part.id, part.error, part.data.to_vec())).collect();
        let expected: Vec<_> = answers.iter().map(|(id, error, data)| (*id, *error, data.to_vec())).collect();
        prop_assert_eq!(found, expected);
    }
}

/// An echo is told from an answer by its bytes in Feetech's protocols, and by itself in Dynamixel's.
#[test]
fn an_echo_comes_before_the_answer() {
    for protocol in ALL {
        let mut request = Vec::new();
        protocol.read(&mut request, 1, Block { address: 56, len: 2 }).unwrap();
        let (answer, seen) = status(protocol, 1, 0, &[0, 8]);
        let mut scanner = Scanner::new(protocol, Side::Master);
        scanner.expect_at_most(2);
        scanner.feed(&[request.as_slice(), &answer].concat());
        let Some(Scanned::Packet(echo)) = scanner.scan() else { panic!("{}: no echo", protocol.name()) };
        assert_eq!(echo.raw, request);
        assert_eq!(matches!(echo.kind, Kind::Instruction { code: code::READ }), protocol == Protocol::Dynamixel2);
        let mut found = Vec::new();
        drain(&mut scanner, &mut found, &mut 0);
        assert_eq!(found, [seen]);
    }
}

#[test]
fn what_is_wrong_is_said() {
    let reason = |protocol, bytes: &[u8]| {
        let mut scanner = Scanner::new(protocol, Side::Master);
        scanner.expect_at_most(2);
        scanner.feed(bytes);
        match scanner.scan() {
            Some(Scanned::Skipped { bytes, reason }) => (bytes, reason),
            other => panic!("{other:?}"),
        }
    };
    let feetech = Protocol::Feetech0;
    assert_eq!(reason(feetech, &[1, 2, 3]), (3, Reason::Foreign));
    // FF FF 01 04 00 00 08 and its checksum F2.
    assert_eq!(reason(feetech, &[255, 255, 1, 4, 0, 0, 8, 0xf3]), (8, Reason::Checksum { id: 1, found: 0xf3, expected: 0xf2 }));
    assert_eq!(reason(feetech, &[255, 255, 1, 5, 0, 0, 8]), (7, Reason::Length { id: 1, found: 5 }));
    assert_eq!(reason(feetech, &[255, 255, 1, 1]), (4, Reason::Length { id: 1, found: 1 }));
    assert_eq!(reason(feetech, &[255, 255, 1, 4, 0x80]), (5, Reason::Code { id: 1, found: 0x80 }));
    let dynamixel = Protocol::Dynamixel2;
    assert_eq!(reason(dynamixel, &[255, 255, 253, 0, 255, 4, 0]), (7, Reason::Id { found: 255 }));
    assert_eq!(reason(dynamixel, &[255, 255, 253, 0, 1, 9, 0, 0x55]), (8, Reason::Length { id: 1, found: 9 }));
    let cut = [255, 255, 253, 0, 1, 6, 0, 0x55, 255, 255, 253, 0, 1];
    assert_eq!(reason(dynamixel, &cut), (8, Reason::Stuffing { id: 1 }));
}

#[test]
fn what_can_not_be_sent_is_refused_with_its_reason() {
    let mut out = Vec::new();
    let block = Block { address: 56, len: 2 };
    let says = |result: Result<(), PacketError>| result.unwrap_err().to_string();
    let feetech = Protocol::Feetech0;
    assert_eq!(says(Protocol::Feetech1.sync_read(&mut out, block, [1])), "a sync read: the protocol feetech 1 has no such thing");
    assert_eq!(says(feetech.reboot(&mut out, 1)), "a reboot: the protocol feetech 0 has no such thing");
    assert_eq!(says(feetech.read(&mut out, 254, block)), "a read of motor 254: ids go to 253, and 254 means all");
    assert_eq!(says(feetech.ping(&mut out, 255)), "a ping of motor 255: ids go to 253, and 254 means all");
    let far = Block { address: 255, len: 2 };
    assert_eq!(says(feetech.read(&mut out, 1, far)), "a read: 2 bytes at 255 do not lie in the 256 bytes that the protocol reaches");
    let many = || 0..=250;
    assert_eq!(says(feetech.sync_read(&mut out, block, many())), "a sync read: a packet of 259 bytes, of at most 250");
    assert!(Protocol::Dynamixel2.sync_read(&mut out, block, many()).is_ok());
    let frames = [(1, &[1u8, 2][..]), (2, &[1])];
    assert_eq!(says(feetech.sync_write(&mut out, block, frames)), "a sync write of motor 2: 1 bytes, expected 2");
    assert!(out.is_empty());
    let long = vec![0; 5000];
    let too_long = says(Protocol::Dynamixel2.write(&mut out, 1, 0, &long));
    assert_eq!(too_long, "a write: a packet of 1025 bytes, of at most 1024");
}
