//! The AV1 decoder dav1d by its C interface, which two libraries have: the one that a system has installed,
//! and rav1d, its port to Rust, which is built in.
//!
//! The layouts are those of dav1d 1.0 to 1.5 (`include/dav1d/*.h`; sonames 6 and 7), which rav1d 1.1 keeps.

#![allow(unsafe_code, reason = "a C interface, of a library that is loaded while the program runs")]

use std::ffi::{CStr, c_int, c_uint, c_void};
use std::ptr::null_mut;
use std::slice;
use std::sync::OnceLock;

type Context = *mut c_void;

/// The beginning of `Dav1dSettings`, and room for what follows; the library fills it.
#[repr(C)]
struct Settings {
    threads: c_int,
    max_frame_delay: c_int,
    apply_grain: c_int,
    operating_point: c_int,
    all_layers: c_int,
    frame_size_limit: c_uint,
    rest: [u64; 64],
}

#[repr(C)]
struct Props {
    timestamp: i64,
    duration: i64,
    offset: libc::off_t,
    size: usize,
    user_data: [*mut c_void; 2],
}

#[repr(C)]
struct Data {
    bytes: *const u8,
    length: usize,
    owner: *mut c_void,
    props: Props,
}

/// The beginning of `Dav1dPicture`, and room for what follows.
#[repr(C)]
struct RawPicture {
    sequence: *const Sequence,
    frame: *const c_void,
    planes: [*const u8; 3],
    strides: [isize; 2],
    width: c_int,
    height: c_int,
    layout: c_uint,
    bits: c_int,
    rest: [u64; 64],
}

/// The beginning of `Dav1dSequenceHeader`.
#[repr(C)]
struct Sequence {
    profile: u8,
    width: c_int,
    height: c_int,
    layout: c_uint,
    primaries: c_uint,
    transfer: c_uint,
    matrix: c_uint,
    chroma_place: c_uint,
    high_bit_depth: u8,
    full_range: u8,
}

/// The environment's name for which one is used: `built-in`, or what is best.
const CHOICE: &str = "SINEW_AV1";

/// `DAV1D_PIXEL_LAYOUT_I420`.
const HALF_CHROMA: c_uint = 1;

/// The functions that are used.
struct Library {
    /// Where they are, for people.
    name: &'static str,
    // SAFETY: as dav1d's headers say: contexts and data that are open, and rooms of the types above.
    default_settings: unsafe extern "C" fn(*mut Settings),
    open: unsafe extern "C" fn(*mut Context, *mut Settings) -> c_int,
    send_data: unsafe extern "C" fn(Context, *mut Data) -> c_int,
    get_picture: unsafe extern "C" fn(Context, *mut RawPicture) -> c_int,
    flush: unsafe extern "C" fn(Context),
    // SAFETY: as those before.
    close: unsafe extern "C" fn(*mut Context),
    picture_unref: unsafe extern "C" fn(*mut RawPicture),
    data_create: unsafe extern "C" fn(*mut Data, usize) -> *mut u8,
    data_unref: unsafe extern "C" fn(*mut Data),
}

/// A [`Library`] of what `address` answers for the names of its functions; `None` when one is missing.
macro_rules! library {
    ($name:expr, $address:expr) => {{
        let address = $address;
        #[allow(clippy::missing_transmute_annotations, reason = "the fields have the functions' types")]
        // SAFETY: each address is that of the function of this name, whose C declaration the field's type
        // repeats; the addresses stay valid, as no library is ever unloaded.
        unsafe {
            Some(Library {
                name: $name,
                default_settings: std::mem::transmute::<*const c_void, _>(address(c"dav1d_default_settings")?),
                open: std::mem::transmute::<*const c_void, _>(address(c"dav1d_open")?),
                send_data: std::mem::transmute::<*const c_void, _>(address(c"dav1d_send_data")?),
                get_picture: std::mem::transmute::<*const c_void, _>(address(c"dav1d_get_picture")?),
                flush: std::mem::transmute::<*const c_void, _>(address(c"dav1d_flush")?),
                close: std::mem::transmute::<*const c_void, _>(address(c"dav1d_close")?),
                picture_unref: std::mem::transmute::<*const c_void, _>(address(c"dav1d_picture_unref")?),
                data_create: std::mem::transmute::<*const c_void, _>(address(c"dav1d_data_create")?),
                data_unref: std::mem::transmute::<*const c_void, _>(address(c"dav1d_data_unref")?),
            })
        }
    }};
}

impl Library {
    /// The one that is used: the system's, unless the built-in one has its fast routines, too, or is asked for.
    fn chosen() -> Option<&'static Self> {
        static CHOSEN: OnceLock<Option<Library>> = OnceLock::new();
        let is_asked_for = || std::env::var_os(CHOICE).is_some_and(|choice| choice == "built-in");
        let choose = || {
            if cfg!(feature = "asm") || is_asked_for() { Self::built_in() } else { Self::installed().or_else(Self::built_in) }
        };
        CHOSEN.get_or_init(choose).as_ref()
    }

    fn installed() -> Option<Self> {
        let names: &[&CStr] = if cfg!(target_vendor = "apple") {
            &[c"libdav1d.7.dylib", c"/opt/homebrew/lib/libdav1d.7.dylib", c"/usr/local/lib/libdav1d.7.dylib"]
        } else {
            &[c"libdav1d.so.7", c"libdav1d.so.6"]
        };
        // SAFETY: the names are of a library that does nothing when it is loaded.
        let handles = names.iter().map(|name| unsafe { libc::dlopen(name.as_ptr(), libc::RTLD_NOW | libc::RTLD_LOCAL) });
        let handle = handles.into_iter().find(|handle| !handle.is_null())?;
        let address = |name: &CStr| {
            // SAFETY: the handle is one that dlopen gave and that is never closed.
            let address = unsafe { libc::dlsym(handle, name.as_ptr()) };
            (!address.is_null()).then_some(address.cast_const())
        };
        library!("the installed libdav1d", address)
    }

    fn built_in() -> Option<Self> {
        use rav1d::src::lib as port;
        let address = |name: &CStr| {
            Some(match name.to_bytes() {
                b"dav1d_default_settings" => port::dav1d_default_settings as *const c_void,
                b"dav1d_open" => port::dav1d_open as *const c_void,
                b"dav1d_send_data" => port::dav1d_send_data as *const c_void,
                b"dav1d_get_picture" => port::dav1d_get_picture as *const c_void,
                b"dav1d_flush" => port::dav1d_flush as *const c_void,
                b"dav1d_close" => port::dav1d_close as *const c_void,
                b"dav1d_picture_unref" => port::dav1d_picture_unref as *const c_void,
                b"dav1d_data_create" => port::dav1d_data_create as *const c_void,
                b"dav1d_data_unref" => port::dav1d_data_unref as *const c_void,
                _ => return None,
            })
        };
        library!("rav1d", address)
    }
}

/// A decoder of AV1 in 8 bits and 4:2:0, on the calling thread.
pub(super) struct Dav1d {
    library: &'static Library,
    context: Context,
}

// SAFETY: a context may be used from any thread, by one at a time, which `&mut self` sees to.
unsafe impl Send for Dav1d {}

impl Dav1d {
    /// A decoder of pictures of at most `pixels` pixels.
    ///
    /// # Errors
    /// When there is none.
    pub(super) fn new(pixels: u32) -> Result<Self, String> {
        Self::of(Library::chosen().ok_or("there is no decoder of AV1")?, pixels)
    }

    fn of(library: &'static Library, pixels: u32) -> Result<Self, String> {
        let mut settings = Settings {
            threads: 0,
            max_frame_delay: 0,
            apply_grain: 0,
            operating_point: 0,
            all_layers: 0,
            frame_size_limit: 0,
            rest: [0; 64],
        };
        let mut context = null_mut();
        // SAFETY: the settings have room for those of every version, which the library fills; it copies
        // them and writes the context.
        let result = unsafe {
            (library.default_settings)(&raw mut settings);
            settings.threads = 1;
            settings.max_frame_delay = 1;
            settings.frame_size_limit = pixels;
            (library.open)(&raw mut context, &raw mut settings)
        };
        if result != 0 || context.is_null() {
            return Err(format!("{} could not be opened: error {result}", library.name));
        }
        Ok(Self { library, context })
    }

    /// Forgets all frames.
    pub(super) fn flush(&mut self) {
        // SAFETY: the context is open.
        unsafe { (self.library.flush)(self.context) };
    }

    /// Decodes `bytes` and shows `each` the pictures that are complete.
    ///
    /// # Errors
    /// When they can't be decoded, and those of `each`.
    pub(super) fn decode(&mut self, bytes: &[u8], each: &mut dyn FnMut(&Picture<'_>) -> Result<(), String>) -> Result<(), String> {
        let props = Props { timestamp: 0, duration: 0, offset: 0, size: 0, user_data: [null_mut(); 2] };
        let mut data = Data { bytes: null_mut(), length: 0, owner: null_mut(), props };
        if bytes.is_empty() {
            return Err("a frame is empty".to_owned());
        }
        // SAFETY: the data is empty, which is what is filled; the room is of as many bytes as are copied.
        unsafe {
            let room = (self.library.data_create)(&raw mut data, bytes.len());
            if room.is_null() {
                return Err(format!("there is no memory for a frame of {} bytes", bytes.len()));
            }
            slice::from_raw_parts_mut(room, bytes.len()).copy_from_slice(bytes);
        }
        let result = self.send(&mut data, each);
        // SAFETY: what was not taken is ours; emptied data may be released again.
        unsafe { (self.library.data_unref)(&raw mut data) };
        result
    }

    fn send(&mut self, data: &mut Data, each: &mut dyn FnMut(&Picture<'_>) -> Result<(), String>) -> Result<(), String> {
        loop {
            // SAFETY: the context is open, and the data is what `data_create` made of it.
            let result = if data.length > 0 { unsafe { (self.library.send_data)(self.context, data) } } else { 0 };
            if result != 0 && result != -libc::EAGAIN {
                return Err(format!("{} takes it for no AV1: error {result}", self.library.name));
            }
            let shown = self.show(each)?;
            if data.length == 0 {
                return Ok(());
            }
            if result != 0 && shown == 0 {
                return Err(format!("{} takes no more of it", self.library.name));
            }
        }
    }

    /// Shows `each` the pictures that are complete, and says how many.
    fn show(&mut self, each: &mut dyn FnMut(&Picture<'_>) -> Result<(), String>) -> Result<usize, String> {
        for shown in 0.. {
            let mut raw = RawPicture {
                sequence: null_mut(),
                frame: null_mut(),
                planes: [null_mut(); 3],
                strides: [0; 2],
                width: 0,
                height: 0,
                layout: 0,
                bits: 0,
                rest: [0; 64],
            };
            // SAFETY: the context is open, and the picture empty, with room for that of every version.
            match unsafe { (self.library.get_picture)(self.context, &raw mut raw) } {
                0 => {}
                again if again == -libc::EAGAIN => return Ok(shown),
                error => return Err(format!("{} can't decode it: error {error}", self.library.name)),
            }
            let result = Picture::of(&raw).and_then(|picture| each(&picture));
            // SAFETY: the picture is the library's, and nothing refers to it any more.
            unsafe { (self.library.picture_unref)(&raw mut raw) };
            result?;
        }
        Ok(0)
    }
}

impl Drop for Dav1d {
    fn drop(&mut self) {
        // SAFETY: the context is open and not used again.
        unsafe { (self.library.close)(&raw mut self.context) };
    }
}

/// A decoded picture in 8 bits and 4:2:0.
pub(super) struct Picture<'a> {
    pub(super) width: usize,
    pub(super) height: usize,
    pub(super) planes: [&'a [u8]; 3],
    pub(super) strides: [usize; 2],
    /// The number of the matrix, as ISO/IEC 23091-2 has them.
    pub(super) matrix: u8,
    pub(super) full_range: bool,
}

impl<'a> Picture<'a> {
    fn of(raw: &'a RawPicture) -> Result<Self, String> {
        let (width, height) = (usize::try_from(raw.width).unwrap_or(0), usize::try_from(raw.height).unwrap_or(0));
        if raw.layout != HALF_CHROMA || raw.bits != 8 || width.min(height) == 0 || raw.planes.iter().any(|plane| plane.is_null()) {
            return Err(format!("a picture has {} bits in layout {}, expected 8 in 4:2:0", raw.bits, raw.layout));
        }
        let [luma, chroma] = raw.strides.map(|stride| usize::try_from(stride).unwrap_or(0));
        if luma < width || chroma < width.div_ceil(2) {
            return Err(format!("a row of {width} pixels has {luma} and {chroma} bytes"));
        }
        let size = |stride: usize, width: usize, height: usize| stride * (height - 1) + width;
        let (half_width, half_height) = (width.div_ceil(2), height.div_ceil(2));
        let sizes = [size(luma, width, height), size(chroma, half_width, half_height), size(chroma, half_width, half_height)];
        let mut planes: [&[u8]; 3] = [&[]; 3];
        for ((plane, start), size) in planes.iter_mut().zip(raw.planes).zip(sizes) {
            // SAFETY: the library gave so many rows of so many bytes, at these strides, and they live as
            // long as the raw picture.
            *plane = unsafe { slice::from_raw_parts(start, size) };
        }
        // SAFETY: it is null or the header that the picture holds on to.
        let sequence = unsafe { raw.sequence.as_ref() };
        let (matrix, full_range) = sequence.map_or((2, false), |header| (header.matrix as u8, header.full_range != 0));
        Ok(Self { width, height, planes, strides: [luma, chroma], matrix, full_range })
    }
}
