use proptest::prelude::*;

use super::*;

fn head() -> Head {
    Head { instance: "a".repeat(32), session: "s-1".into(), generation: 3, request: "b".repeat(32) }
}

/// An observation whose body has one key more.
fn with(pack: impl FnOnce(&mut Packer)) -> Vec<u8> {
    write(Kind::Observation, &head(), |packer| {
        packer.map(1);
        packer.str("x");
        pack(packer);
    })
}

#[track_caller]
fn fails(bytes: &[u8], words: &str) {
    let error = read(bytes).map(|message| message.kind).unwrap_err();
    assert!(error.contains(words), "{error}, expected {words}");
}

#[test]
fn what_is_written_is_read() {
    let bytes = with(|packer| pack_tensor(packer, Dtype::F32, &[2, 1], |out| out.extend([0, 0, 128, 63, 0, 0, 0, 64])));
    let message = read(&bytes).unwrap();
    assert_eq!((message.kind, &message.head), (Kind::Observation, &head()));
    let tensor = tensor(message.body.get("x").unwrap()).unwrap();
    assert_eq!((tensor.dtype, &tensor.shape[..], tensor.to_f64()), (Dtype::F32, &[2, 1][..], vec![1.0, 2.0]));
    let error = write_error(&head(), "busy", &"ä".repeat(1500));
    let message = read(&error).unwrap();
    assert_eq!(error_of(&message.body), ("busy".to_owned(), "ä".repeat(1024)));
    for (kind, _) in KINDS {
        assert_eq!(read(&write(kind, &head(), |packer| packer.map(0))).unwrap().kind, kind);
    }
}

#[test]
fn an_envelope_has_all_of_its_keys() {
    let negotiating = Head { request: "r".into(), ..Head::default() };
    assert!(read(&write(Kind::Describe, &negotiating, |packer| packer.map(0))).is_ok());
    fails(&write(Kind::Observation, &negotiating, |packer| packer.map(0)), "without instance_id");
    fails(&write(Kind::Ack, &head(), |packer| packer.list(0)), "expected a map");
    fails(&write(Kind::Ack, &Head { session: "a/b".into(), ..head() }, |packer| packer.map(0)), "session_id \"a/b\"");
    fails(&write(Kind::Ack, &Head { session: "a".repeat(129), ..head() }, |packer| packer.map(0)), "session_id");
    fails(&[0xc1], "0xc1");
    fails(&[0x90], "no map");
    let whole = write(Kind::Ack, &head(), |packer| packer.map(0));
    let without = |key: &str| {
        let at = whole.windows(key.len()).position(|window| window == key.as_bytes()).unwrap();
        let mut bytes = whole.clone();
        bytes[at] = b'_';
        bytes
    };
    fails(&without("version"), "version none");
    for key in ["message_type", "instance_id", "session_id", "generation", "request_id", "body"] {
        fails(&without(key), "no ");
    }
    let mut other = whole.clone();
    other[9] = 2;
    fails(&other, "version Int(2)");
}

#[test]
fn names_are_one_part_of_a_key() {
    for name in ["a", "0", "so101.pick_1-b", &"x".repeat(128)] {
        assert!(is_name(name), "{name}");
    }
    for name in ["", "-a", ".a", "a/b", "a*", "a b", "ä", "$", &"x".repeat(129)] {
        assert!(!is_name(name), "{name}");
    }
    assert!(is_name(&fresh_name()) && fresh_name() != fresh_name());
}

#[test]
fn what_is_beyond_a_bound_is_refused() {
    let array = |dtype: &str, shape: &[i64], data: &[u8], endianness: &str| {
        with(|packer| {
            packer.map(5);
            for (key, text) in [(MARKER, "tensor"), ("dtype", dtype), ("endianness", endianness)] {
                packer.str(key);
                packer.str(text);
            }
            packer.str("shape");
            packer.list(shape.len());
            shape.iter().for_each(|side| packer.int(*side));
            packer.str("data");
            packer.bin(data);
        })
    };
    assert!(read(&array("float32", &[1], &[0; 4], "big")).is_ok());
    fails(&array("float32", &[1], &[0; 5], "little"), "5 bytes for float32 [1]");
    fails(&array("float32", &[0], &[], "little"), "sides of 1 to 16384");
    fails(&array("uint8", &[16_385], &[0; 16_385], "little"), "sides of 1 to 16384");
    fails(&array("uint8", &[1; 9], &[0], "little"), "sides of 1");
    fails(&array("uint8", &[16_384; 8], &[0], "little"), "1 bytes for uint8");
    fails(&array("complex64", &[1], &[0; 8], "little"), "the dtype \"complex64\"");
    fails(&array("float32", &[1], &[0; 4], "middle"), "without endianness");
    fails(&array("float32", &[1], &f32::NAN.to_le_bytes(), "little"), "NaN in an array");
    fails(&array("float16", &[1], &[0, 0x7c], "little"), "inf in an array");
    fails(&array("bool", &[1], &[2], "little"), "truth values");
    fails(&with(|packer| packer.float(f64::INFINITY)), "inf, expected finite");
    fails(&with(|packer| packer.str(&"x".repeat(MOST_TEXT + 1))), "a text of 16385");
    fails(
        &with(|packer| {
            packer.list(MOST_ITEMS + 1);
            (0..=MOST_ITEMS).for_each(|_| packer.nil());
        }),
        "a list of 4097",
    );
    fails(
        &with(|packer| {
            (0..20).for_each(|_| packer.list(1));
            packer.nil();
        }),
        "too deep",
    );
    fails(&with(|packer| packer.tensor(Dtype::U8, &[1], |out| out.push(0))), "another protocol's");
    let big = vec![0; 16 << 20];
    let many = with(|packer| {
        packer.list(5);
        // Fewer bytes than they stand for.
        (0..5).for_each(|_| pack_picture(packer, [4096, 4096], "jpeg", 1, |out| out.push(0)));
    });
    fails(&many, "more than 67108864 bytes");
    fails(&with(|packer| packer.list_of_bytes(&big, 3)), "expected at most 33554432");
}

impl Packer {
    fn list_of_bytes(&mut self, bytes: &[u8], times: usize) {
        self.list(times);
        (0..times).for_each(|_| self.bin(bytes));
    }
}

#[test]
fn images_are_what_they_say() {
    let raw = |sides: [usize; 2], length: usize| {
        with(|packer| pack_picture(packer, sides, "raw", length, |out| out.resize(out.len() + length, 9)))
    };
    let bytes = raw([2, 3], 18);
    let message = read(&bytes).unwrap();
    assert_eq!(picture(message.body.get("x").unwrap()).unwrap(), ([2, 3], Picture::Raw(&[9; 18])));
    fails(&raw([2, 3], 17), "17 bytes for an image of 3x2");
    fails(&raw([16_384, 1025], 1), "pixels");
    fails(&with(|packer| pack_picture(packer, [1, 1], "png", 1, |out| out.push(0))), "encoding raw or jpeg");

    let mut jpeg = Vec::new();
    let mut encoder = image::codecs::jpeg::JpegEncoder::new_with_quality(&mut jpeg, 90);
    encoder.encode(&[200; 8 * 6 * 3], 8, 6, image::ExtendedColorType::Rgb8).unwrap();
    let pixels = pixels_of_jpeg(&jpeg, [6, 8]).unwrap();
    assert!(pixels.len() == 8 * 6 * 3 && pixels.iter().all(|value| value.abs_diff(200) < 4));
    assert!(pixels_of_jpeg(&jpeg, [8, 6]).unwrap_err().contains("it is 8x6"));
    assert!(pixels_of_jpeg(&jpeg[..jpeg.len() / 3], [6, 8]).is_err() && pixels_of_jpeg(b"", [6, 8]).is_err());
}

proptest! {
    #[test]
    fn no_bytes_are_more_than_an_error(bytes in proptest::collection::vec(any::<u8>(), 0..200)) {
        drop(read(&bytes));
        drop(pixels_of_jpeg(&bytes, [4, 4]));
    }

    #[test]
    fn a_message_with_one_byte_changed_is_read_or_refused(at in any::<prop::sample::Index>(), byte in any::<u8>()) {
        let mut bytes = with(|packer| pack_tensor(packer, Dtype::F64, &[1, 2], |out| out.resize(out.len() + 16, 0)));
        let at = at.index(bytes.len());
        bytes[at] = byte;
        if let Ok(message) = read(&bytes) {
            prop_assert!(message.body.get("x").is_none_or(|value| tensor(value).is_ok_and(|tensor| tensor.data.len() == 16 || tensor.shape != [1, 2]) || value.get(MARKER).is_none()));
        }
    }
}
