//! Secrets that are known by their form: private keys, and tokens of the Hub, whosever they are.

use memchr::memmem;

/// Longer files are not searched.
pub(super) const MOST_BYTES: u64 = 8 << 20;
/// A NUL among so many first bytes, and it is no text.
const TELLING_BYTES: usize = 8 << 10;
/// So many characters of a key or of a token: fewer are an example, or a word.
const LEAST: usize = 30;

/// What a text holds that is nobody else's business.
pub(super) fn secret_in(text: &[u8]) -> Option<&'static str> {
    if text.iter().take(TELLING_BYTES).any(|byte| *byte == 0) {
        return None;
    }
    if memmem::find_iter(text, b"PRIVATE KEY").any(|at| is_key(&text[at..])) {
        return Some("a private key");
    }
    let is_token = |at: usize| {
        let begins = at == 0 || !text[at - 1].is_ascii_alphanumeric();
        begins && text[at + 3..].iter().take_while(|byte| byte.is_ascii_alphanumeric()).count() >= LEAST
    };
    memmem::find_iter(text, b"hf_").any(is_token).then_some("what looks like a token of the Hub (hf_…)")
}

/// Whether a key follows, from the last words of its first line on. In JSON, line breaks are a backslash and a letter.
fn is_key(text: &[u8]) -> bool {
    let rest = text.strip_prefix(b"PRIVATE KEY").unwrap_or_default();
    let rest = rest.strip_prefix(b" BLOCK").unwrap_or(rest);
    let Some(mut rest) = rest.strip_prefix(b"-----") else { return false };
    // Some have lines of words before, such as `Proc-Type: 4,ENCRYPTED`; each is short.
    for _ in 0..8 {
        while let Some(after) = [b"\\n".as_slice(), b"\\r", b"\n", b"\r", b" "].iter().find_map(|end| rest.strip_prefix(*end)) {
            rest = after;
        }
        if rest.iter().take_while(|byte| byte.is_ascii_alphanumeric() || b"+/=".contains(byte)).count() >= LEAST {
            return true;
        }
        let Some(end) = rest.iter().take(200).position(|byte| *byte == b'\n') else { return false };
        rest = &rest[end..];
    }
    false
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_and_tokens_are_known_by_their_form() {
        let body = "MIIEpAIBAAKCAQEA0Z3VS5JJcds3xfn/ygWyF0";
        for head in ["", "RSA ", "OPENSSH ", "ENCRYPTED "] {
            for line in ["\n", "\r\n", "\\n"] {
                let text = format!("my key:{line}-----BEGIN {head}PRIVATE KEY-----{line}{body}{line}-----END {head}PRIVATE KEY-----");
                assert_eq!(secret_in(text.as_bytes()), Some("a private key"), "{text}");
            }
        }
        let old = format!("-----BEGIN RSA PRIVATE KEY-----\nProc-Type: 4,ENCRYPTED\nDEK-Info: AES-128-CBC,3F17\n\n{body}\n");
        assert!(secret_in(old.as_bytes()).is_some());
        assert!(secret_in(format!("-----BEGIN PGP PRIVATE KEY BLOCK-----\n\n{body}").as_bytes()).is_some());
        let token = format!("hf_{}", "aB3".repeat(12));
        assert!(secret_in(format!("login(\"{token}\")").as_bytes()).is_some() && secret_in(token.as_bytes()).is_some());
        let certificate = format!("-----BEGIN CERTIFICATE-----\n{body}");
        for text in
            ["if b'-----BEGIN PRIVATE KEY-----' in text:\n    refuse()\n", "hf_hub_download", "hf_token", &certificate, "PRIVATE KEY"]
        {
            assert_eq!(secret_in(text.as_bytes()), None, "{text}");
        }
        assert_eq!(secret_in(format!("\0{token}").as_bytes()), None, "no text");
    }
}
