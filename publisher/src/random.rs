//! Names that nobody can guess.

/// 128 random bits of the system as 32 hex digits, lower case.
///
/// # Errors
/// Where the system has none to give.
pub(crate) fn hex_128() -> Result<String, getrandom::Error> {
    let mut bits = [0; 16];
    getrandom::fill(&mut bits)?;
    Ok(hex(&bits))
}

/// `bytes` in hex, lower case.
pub(crate) fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_32_hex_digits_and_never_the_same() {
        let (one, other) = (hex_128().unwrap(), hex_128().unwrap());
        for name in [&one, &other] {
            assert!(name.len() == 32 && name.bytes().all(|b| matches!(b, b'0'..=b'9' | b'a'..=b'f')), "{name}");
        }
        assert_ne!(one, other);
        assert_eq!(hex(&[0, 0xA5, 0xFF]), "00a5ff");
    }
}
