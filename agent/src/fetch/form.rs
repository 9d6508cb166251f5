//! The fields of a form as text (WHATWG URL §5.2).

const HEX: &[u8; 16] = b"0123456789ABCDEF";

/// `name=value&…`; everything but letters, digits and `*-._` is percent-encoded, a space becomes `+`.
pub(super) fn encode_form<'a>(fields: impl Iterator<Item = (&'a str, &'a str)>) -> String {
    let mut text = String::new();
    for (name, value) in fields {
        if !text.is_empty() {
            text.push('&');
        }
        encode(name, &mut text);
        text.push('=');
        encode(value, &mut text);
    }
    text
}

fn encode(from: &str, to: &mut String) {
    for byte in from.bytes() {
        match byte {
            b' ' => to.push('+'),
            _ if byte.is_ascii_alphanumeric() || b"*-._".contains(&byte) => to.push(char::from(byte)),
            _ => {
                let digit = |value: u8| char::from(HEX[usize::from(value & 15)]);
                to.extend(['%', digit(byte >> 4), digit(byte)]);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_would_divide_fields_is_encoded() {
        let fields = [("a b", "1&2=3"), ("", ""), ("ü", "~*-._+%")];
        assert_eq!(encode_form(fields.into_iter()), "a+b=1%262%3D3&=&%C3%BC=%7E*-._%2B%25");
        assert_eq!(encode_form([].into_iter()), "");
    }
}
