//! The reader against hand-made texts, against the crate `json5`, and against rubbish.

#![allow(clippy::unwrap_used)]

use serde_json::{Value as Json, json};

use super::*;

fn read(text: &str) -> Result<Node> {
    parse(text, &Source::Default)
}

/// The seed of a randomised test: `SEED` of the environment, else the clock.
fn seeded(test: &str) -> fastrand::Rng {
    let seed = std::env::var("SEED").ok().and_then(|seed| seed.parse().ok()).unwrap_or_else(|| fastrand::u64(..));
    println!("{test}: SEED={seed}");
    fastrand::Rng::with_seed(seed)
}

#[test]
fn all_of_json5_is_read() {
    let rows = [
        ("null", Json::Null),
        (" \u{feff}\u{a0}\u{2028}\u{3000}true\t", json!(true)),
        ("// one\n/* two * / // */ false // end", json!(false)),
        ("0", json!(0)),
        ("-0x1F", json!(-31)),
        ("+0Xff", json!(255)),
        (".5", json!(0.5)),
        ("5.", json!(5)),
        ("+1.25e+2", json!(125)),
        ("1E-2", json!(0.01)),
        ("Infinity", Json::Null),
        ("-Infinity", Json::Null),
        ("NaN", Json::Null),
        (r#"'it\'s "fine"'"#, json!("it's \"fine\"")),
        (r#""it's""#, json!("it's")),
        (r"'\b\t\n\v\f\r\0\a\\\/'", json!("\u{8}\t\n\u{b}\u{c}\r\0a\\/")),
        (r"'\x41\u00e9\ud83d\ude00'", json!("Aé😀")),
        ("'a\\\nb\\\r\nc\\\rd\\\u{2028}e'", json!("abcde")),
        ("'\u{2028}\t'", json!("\u{2028}\t")),
        ("[]", json!([])),
        ("[1, 'a', [null,],]", json!([1, "a", [null]])),
        ("{}", json!({})),
        (
            r"{a: 1, 'b c': 2, $_é1: 3, \u0064x: 4, null: 5, Infinity: 6,}",
            json!({"a": 1, "b c": 2, "$_é1": 3, "dx": 4, "null": 5, "Infinity": 6}),
        ),
        ("{a/**/:/**/1/**/,/**/}", json!({"a": 1})),
    ];
    for (text, expected) in rows {
        assert_eq!(read(text).unwrap().to_json(), expected, "{text}");
    }
    assert!(matches!(read("-Infinity").unwrap().value, Value::Number(n) if n == f64::NEG_INFINITY));
    assert!(matches!(read("+NaN").unwrap().value, Value::Number(n) if n.is_nan()));
}

#[test]
fn what_is_not_json5_is_refused_at_its_place() {
    let rows = [
        ("", 1, 1, "expected a value, found the end of the text"),
        ("{\n  a: 1\n  b: 2\n}", 3, 3, "expected `,` or `}`, found `b`"),
        ("{a 1}", 1, 4, "expected `:` after the key, found `1`"),
        ("{a: }", 1, 5, "expected a value, found `}`"),
        ("{1: 2}", 1, 2, "expected a key or `}`, found `1`"),
        ("{,}", 1, 2, "expected a key or `}`, found `,`"),
        ("[,]", 1, 2, "expected a value, found `,`"),
        ("[1 2]", 1, 4, "expected `,` or `]`, found `2`"),
        ("{a: 1", 1, 6, "expected `,` or `}`, found the end of the text"),
        ("{a: hello}", 1, 5, "expected a value, found a word: a text needs quotes"),
        ("1 2", 1, 3, "expected the end of the text, found `2`"),
        ("\r\n\r\n\n010", 4, 1, "expected a number as 10, 1.5 or 0x1F; a text needs quotes"),
        ("'a\nb'", 1, 3, "expected a closing quote, found the end of the line"),
        ("['a", 1, 2, "this text has no closing quote"),
        ("[\n/* a", 2, 1, "this comment has no end, expected `*/`"),
        ("{a: 1,\r 'b': 2, \"a\": 3}", 2, 10, "the key `a` is said twice, on line 1 and on line 2"),
    ];
    for (text, line, column, message) in rows {
        let error = read(text).unwrap_err();
        assert_eq!((error.origin.line, error.origin.column, error.message.as_str()), (line, column, message), "{text}");
    }
    for text in [
        "+", "-", ".", "1e", "1e+", "0x", "0xg", "1.2.3", "--1", "+ 1", "1_000", "-null", "1-2", "e5", "Infinit",
        "tru", "nulla",
    ] {
        assert!(read(text).is_err(), "{text}");
    }
    for text in [
        r"'\1'",
        r"'\01'",
        r"'\x4'",
        r"'\u12'",
        r"'\ud800'",
        r"'\ud800\u0041'",
        r"'\udc00'",
        r"{\u0031a: 1}",
        r"{a\x41: 1}",
        r"'\",
    ] {
        assert!(read(text).is_err(), "{text}");
    }
}

#[test]
fn every_key_and_value_knows_its_place() {
    let node = read("{\n  // é\n  'é': 1, web:\r\n    [1,\n 'x'],\n}").unwrap();
    let web = &node.members()[1];
    assert_eq!((web.origin.line, web.origin.column), (3, 11));
    assert_eq!((web.node.origin.line, web.node.origin.column), (4, 5));
    let Value::List(items) = &web.node.value else { panic!("{web:?}") };
    assert_eq!((items[1].origin.line, items[1].origin.column), (5, 2));
}

#[test]
fn depth_and_size_have_limits() {
    let nested = |depth: usize| format!("{}{}", "[".repeat(depth), "]".repeat(depth));
    assert!(read(&nested(MAX_DEPTH)).is_ok());
    assert!(read(&nested(MAX_DEPTH + 1)).unwrap_err().message.contains("deeper than 32"));
    assert!(read(&"[".repeat(100_000)).is_err());
    assert!(read(&format!("'{}'", "x".repeat(MAX_BYTES - 2))).is_ok());
    assert!(read(&" ".repeat(MAX_BYTES + 1)).unwrap_err().message.contains("longer than 1048576"));
}

/// Numbers as the crate reads them come as integers or floats; here all are floats.
fn floats(json: Json) -> Json {
    match json {
        Json::Number(number) => number.as_f64().map_or(Json::Null, Json::from),
        Json::Array(items) => items.into_iter().map(floats).collect(),
        Json::Object(members) => Json::Object(members.into_iter().map(|(key, value)| (key, floats(value))).collect()),
        other => other,
    }
}

/// A document of up to `depth` levels with all the liberties of JSON5, and now and then a mistake.
fn document(rng: &mut fastrand::Rng, depth: usize, text: &mut String) {
    let space = |rng: &mut fastrand::Rng, text: &mut String| {
        text.push_str(rng.choice(["", "", " ", "\n", "\t", "\r\n", "/* c */", "// c\n", "\u{a0}"]).unwrap());
    };
    let string = |rng: &mut fastrand::Rng| {
        let quote = rng.choice(["'", "\""]).unwrap();
        let parts = [
            "a",
            "é",
            "😀",
            "\\n",
            "\\x41",
            "\\u00e9",
            "\\ud83d\\ude00",
            "\\\n",
            "\\'",
            "\\\"",
            "\\0",
            "\\z",
            "/",
            " ",
        ];
        let inner: String = (0..rng.usize(0..6)).map(|_| rng.choice(parts).unwrap()).collect();
        format!("{quote}{inner}{quote}")
    };
    space(rng, text);
    match rng.usize(0..if depth == 0 { 5 } else { 8 }) {
        0 => text.push_str(rng.choice(["null", "true", "false", "Infinity", "-NaN", "Null"]).unwrap()),
        1 => text.push_str(&format!("{}{}", rng.choice(["", "-", "+"]).unwrap(), rng.u32(..))),
        2 => text.push_str(&format!("{:e}", rng.f64() * 1e6 - 5e5)),
        3 => text.push_str(
            rng.choice(["0x1f", "0XFF", ".5", "5.", "+1e3", "0", "-0", "01", "0x", "1e", "5.e-1", "1.5E+2"]).unwrap(),
        ),
        4 => text.push_str(&string(rng)),
        5 => {
            text.push('[');
            for _ in 0..rng.usize(0..4) {
                document(rng, depth - 1, text);
                text.push(',');
            }
            text.push_str(rng.choice(["]", "]", "]", "]", "1]", ",]"]).unwrap());
        }
        _ => {
            text.push('{');
            for index in 0..rng.usize(0..4) {
                space(rng, text);
                // Ends in its index, as the crate takes a key twice.
                let key = match rng.bool() {
                    true => format!("{}{index}", rng.choice(["a", "$b", "_c", "é", "null", "\\u0061"]).unwrap()),
                    false => format!("'{index}\\x41 b'"),
                };
                text.push_str(&key);
                space(rng, text);
                text.push(':');
                document(rng, depth - 1, text);
                text.push(',');
            }
            text.push_str(rng.choice(["}", "}", "}", "}", "]", ",}"]).unwrap());
        }
    }
    space(rng, text);
}

#[test]
fn generated_documents_read_as_the_crate_json5_reads_them() {
    let mut rng = seeded("generated_documents_read_as_the_crate_json5_reads_them");
    let (mut good, mut bad) = (0, 0);
    for _ in 0..20_000 {
        let mut text = String::new();
        document(&mut rng, 4, &mut text);
        let theirs: std::result::Result<Json, _> = ::json5::from_str(&text);
        match (read(&text), theirs) {
            (Ok(ours), Ok(theirs)) => {
                assert_eq!(floats(ours.to_json()), floats(theirs), "{text}");
                good += 1;
            }
            (Err(_), Err(_)) => bad += 1,
            (ours, theirs) => panic!("{text:?}\nours: {ours:?}\ntheirs: {theirs:?}"),
        }
    }
    assert!(good > 2000 && bad > 1000, "{good} good and {bad} bad documents prove little");
}

#[test]
fn no_text_makes_the_reader_panic() {
    let mut rng = seeded("no_text_makes_the_reader_panic");
    let pieces = [
        "{", "}", "[", "]", ":", ",", "'", "\"", "\\", "\\u", "\\x4", "/*", "*/", "//", "\n", "\r", "0x", ".", "e",
        "+", "-", "é", "😀", "\u{2028}", "\0",
    ];
    for _ in 0..20_000 {
        let mut text = String::new();
        document(&mut rng, 3, &mut text);
        for _ in 0..rng.usize(1..5) {
            let places: Vec<usize> = text.char_indices().map(|(place, _)| place).chain([text.len()]).collect();
            let (a, b) = (*rng.choice(&places).unwrap(), *rng.choice(&places).unwrap());
            match rng.bool() {
                true => text.insert_str(a, rng.choice(pieces).unwrap()),
                false => text.replace_range(a.min(b)..a.max(b), ""),
            }
            if let Err(error) = read(&text) {
                assert!(!error.message.contains('\n') && error.origin.line > 0, "{error:?}");
            }
        }
    }
}
