//! What an input device of Linux is asked by ioctl, as there is no other way: the ranges of its axes, and what is pressed.

#![allow(unsafe_code, reason = "an ioctl that fills a buffer has no safe interface")]

use std::fs::File;
use std::io;

use rustix::ioctl::{Ioctl, IoctlOutput, Opcode, ioctl, opcode};

use super::evdev::{AXES, AxisState, KEY_BYTES};

/// The kernel fills a buffer of `N` bytes.
struct Fill<const N: usize> {
    opcode: Opcode,
    bytes: [u8; N],
}

// SAFETY: the opcode was made of the direction "read" and of the size of `bytes`, which is what the kernel fills, and any
// bytes are a valid `[u8; N]`.
unsafe impl<const N: usize> Ioctl for Fill<N> {
    type Output = [u8; N];

    const IS_MUTATING: bool = true;

    fn opcode(&self) -> Opcode {
        self.opcode
    }

    fn as_ptr(&mut self) -> *mut rustix::ffi::c_void {
        self.bytes.as_mut_ptr().cast()
    }

    // SAFETY: the pointer is the one that `as_ptr` gave.
    unsafe fn output_from_ptr(_: IoctlOutput, extract_output: *mut rustix::ffi::c_void) -> rustix::io::Result<Self::Output> {
        // SAFETY: it points to `N` initialised bytes, aligned as bytes are.
        Ok(unsafe { extract_output.cast::<[u8; N]>().read() })
    }
}

fn fill<const N: usize>(device: &File, number: u8) -> io::Result<[u8; N]> {
    let request = Fill { opcode: opcode::read::<[u8; N]>(b'E', number), bytes: [0; N] };
    // SAFETY: group 'E' is that of input devices, whose requests of this direction fill at most the bytes that the opcode
    // names; another kind of file refuses them.
    Ok(unsafe { ioctl(device, request) }?)
}

/// EVIOCGKEY: which keys and buttons are down, a bit each.
pub(super) fn keys(device: &File) -> io::Result<[u8; KEY_BYTES]> {
    fill(device, 0x18)
}

/// EVIOCGABS: where an axis is, and its ends (`struct input_absinfo`); `None` of one that the device has not.
pub(super) fn axis(device: &File, code: u16) -> io::Result<Option<AxisState>> {
    let Some(number) = u8::try_from(code).ok().filter(|_| usize::from(code) < AXES).map(|code| 0x40 + code) else { return Ok(None) };
    let bytes: [u8; 24] = match fill(device, number) {
        Ok(bytes) => bytes,
        Err(error) if error.raw_os_error() == Some(rustix::io::Errno::INVAL.raw_os_error()) => return Ok(None),
        Err(error) => return Err(error),
    };
    let [v0, v1, v2, v3, l0, l1, l2, l3, h0, h1, h2, h3, ..] = bytes;
    let number = i32::from_ne_bytes;
    Ok(Some(AxisState { value: number([v0, v1, v2, v3]), low: number([l0, l1, l2, l3]), high: number([h0, h1, h2, h3]) }))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn requests_are_those_of_the_kernels_header() {
        // EVIOCGKEY(96) and EVIOCGABS(ABS_Y) of `linux/input.h`.
        assert_eq!((opcode::read::<[u8; KEY_BYTES]>(b'E', 0x18), opcode::read::<[u8; 24]>(b'E', 0x41)), (0x8060_4518, 0x8018_4541));
    }

    #[test]
    fn another_kind_of_file_refuses() {
        let file = File::open("/dev/null").unwrap();
        assert!(keys(&file).is_err() && axis(&file, 0).is_err());
        assert_eq!(axis(&file, 64).unwrap(), None);
    }
}
