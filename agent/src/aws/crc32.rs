//! The checksum that DynamoDB sends with its answers, and that S3 takes after a body.

/// CRC-32 (ISO 3309, as in gzip), bit by bit: answers are short, and a table would be larger than most of them.
pub(super) fn crc32(bytes: &[u8]) -> u32 {
    continue_crc32(0, bytes)
}

/// The checksum of all that `crc` is the checksum of, and of these bytes behind it.
pub(super) fn continue_crc32(crc: u32, bytes: &[u8]) -> u32 {
    !bytes.iter().fold(!crc, |crc: u32, byte| {
        (0..8).fold(crc ^ u32::from(*byte), |crc, _| (crc >> 1) ^ (0xedb8_8320 & (crc & 1).wrapping_neg()))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_check_values_hold() {
        assert_eq!(crc32(b""), 0);
        assert_eq!(crc32(b"123456789"), 0xcbf4_3926);
        assert_eq!(crc32(b"{}"), 2_745_614_147);
        assert_eq!(continue_crc32(crc32(b"1234"), b"56789"), 0xcbf4_3926);
    }
}
