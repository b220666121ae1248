//! `Range: bytes=…` of one range.

/// What a `Range` header asks of a body of `len` bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Asked {
    /// All of it: there is no header, or one that is ignored (several ranges, another unit, nonsense).
    Whole,
    /// From, and how many bytes.
    Part(u64, u64),
    /// Nothing of it is there: 416.
    Beyond,
}

/// RFC 9110, section 14.1.2.
pub fn asked(header: Option<&str>, len: u64) -> Asked {
    let Some((first, last)) = header.and_then(|header| header.trim().strip_prefix("bytes=")).and_then(|range| range.split_once('-')) else {
        return Asked::Whole;
    };
    let (first, last) = (first.trim(), last.trim());
    match (first.parse::<u64>(), last.parse::<u64>()) {
        (Ok(first), Ok(last)) if first > last => Asked::Whole,
        (Ok(first), _) if first >= len && (last.is_empty() || last.parse::<u64>().is_ok()) => Asked::Beyond,
        (Ok(first), Ok(last)) => Asked::Part(first, last.min(len - 1) - first + 1),
        (Ok(first), Err(_)) if last.is_empty() => Asked::Part(first, len - first),
        (Err(_), Ok(0)) if first.is_empty() => Asked::Beyond,
        (Err(_), Ok(_)) if first.is_empty() && len == 0 => Asked::Beyond,
        (Err(_), Ok(last)) if first.is_empty() => Asked::Part(len - last.min(len), last.min(len)),
        _ => Asked::Whole,
    }
}
