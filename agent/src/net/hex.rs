//! Hexadecimal digits.

/// Bytes in lower-case digits.
pub fn encode(bytes: &[u8]) -> String {
    let digits = bytes.iter().flat_map(|byte| [byte >> 4, byte & 15]);
    digits.filter_map(|digit| char::from_digit(digit.into(), 16)).collect()
}

/// The value of a digit, in either case.
pub fn digit(byte: u8) -> Option<u8> {
    char::from(byte).to_digit(16).map(|digit| digit as u8)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bytes_are_two_lower_case_digits_each() {
        assert_eq!(encode(&[0, 0x1f, 0xff]), "001fff");
    }

    #[test]
    fn digits_are_read_in_either_case() {
        assert_eq!([b'0', b'a', b'F', b'g'].map(digit), [Some(0), Some(10), Some(15), None]);
    }
}
