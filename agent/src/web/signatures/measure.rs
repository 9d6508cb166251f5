//! How much work a JSON text would be, before any of it is parsed.

/// Values in one body, at most: each takes some hundred bytes of memory.
pub(super) const MAX_VALUES: usize = 10_000;
/// Arrays and objects inside each other, at most.
pub(super) const MAX_NESTED: usize = 32;

/// Whether a text has few enough values that are not nested too deep; else what is too much. Text that is no JSON passes: the
/// parser says what is wrong there.
pub(super) fn measure(text: &[u8]) -> Result<(), String> {
    let (mut depth, mut values) = (0_usize, 1_usize);
    let mut bytes = text.iter();
    while let Some(byte) = bytes.next() {
        match byte {
            b'"' => skip_string(&mut bytes),
            b'[' | b'{' => {
                depth += 1;
                values += 1;
            }
            b']' | b'}' => depth = depth.saturating_sub(1),
            b',' => values += 1,
            _ => {}
        }
        if depth > MAX_NESTED {
            return Err(format!("at most {MAX_NESTED} arrays and objects inside each other"));
        }
        if values > MAX_VALUES {
            return Err(format!("at most {MAX_VALUES} values"));
        }
    }
    Ok(())
}

fn skip_string(bytes: &mut std::slice::Iter<u8>) {
    while let Some(byte) = bytes.next() {
        match byte {
            b'"' => return,
            b'\\' => drop(bytes.next()),
            _ => {}
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn texts_that_are_too_much_work_are_found_before_they_are_parsed() {
        assert!(measure("[".repeat(32).as_bytes()).is_ok());
        assert!(measure("[".repeat(33).as_bytes()).is_err());
        assert!(measure(format!("[{}1]", "1,".repeat(9_990)).as_bytes()).is_ok());
        assert!(measure(format!("[{}1]", "1,".repeat(10_000)).as_bytes()).is_err());
        assert!(measure(format!("[{}]", "[],".repeat(6_000)).as_bytes()).is_err());
        assert!(measure("[]".repeat(9_000).as_bytes()).is_ok());
        for text in [&br#"{"a":"[[[\"[[[[\\"}"#[..], b"\"", b"\"\\", b"]]]]]]", b"", b"\xff"] {
            assert!(measure(text).is_ok(), "{text:?}");
        }
        let brackets = format!("[\"{}\"]", "[".repeat(100_000));
        assert!(measure(brackets.as_bytes()).is_ok());
    }
}
