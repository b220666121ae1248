//! What every decoder that works in this process has in common.

use sinew_core::Image;

/// Frees what a decoder holds of the frames before, decodes frames one by one.
///
/// It is fed frames in the order in which they are stored, and gives pictures in the order in which they
/// are shown.
pub(super) trait FrameDecoder: Send {
    /// Forgets all, to go on at a frame that can be decoded alone.
    ///
    /// # Errors
    /// What the decoder said.
    fn restart(&mut self) -> Result<(), String>;

    /// Decodes one frame. The pictures that this completes are given by [`next`](Self::next); only where
    /// `is_wanted` they are made images of, which costs as much as decoding.
    ///
    /// # Errors
    /// What the decoder said.
    fn feed(&mut self, frame: &[u8], is_key: bool, is_wanted: bool) -> Result<(), String>;

    /// Says that nothing follows, so that it gives what it holds back.
    ///
    /// # Errors
    /// What the decoder said.
    fn finish(&mut self) -> Result<(), String>;

    /// The next picture, if one is complete; `Some(None)` for one that was not wanted.
    fn next(&mut self) -> Option<Option<Image>>;
}
