//! Holds a value against a block: fills in defaults, takes out what is not for this user, and tells what does not fit.

use serde_json::{Map, Value};

use super::model::{Block, Drop, Kind, Others};

/// Problems that are told at once.
pub(super) const MAX_PROBLEMS: usize = 10;
/// Characters of a name that a problem repeats.
const MAX_SHOWN: usize = 64;

/// Which way a value goes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Side {
    Request,
    Response,
}

/// One thing that does not fit. It tells types, never values: those may be secret.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Mismatch {
    pub field: String,
    pub expected: String,
    pub found: String,
}

/// The place of a value: `body.users[3].name`.
#[derive(Clone, Copy)]
pub(super) enum Place<'a> {
    Root(&'a str),
    Field(&'a Place<'a>, &'a str),
    Item(&'a Place<'a>, usize),
}

/// One value under examination.
pub(super) struct Check<'a> {
    pub side: Side,
    pub strict: bool,
    /// Whether the user has a role or an ability.
    pub can: &'a dyn Fn(&str) -> bool,
    pub problems: Vec<Mismatch>,
}

/// Whether a value fits a block, whoever sends it.
pub(super) fn fits(block: &Block, value: &Value) -> bool {
    let mut check = Check { side: Side::Request, strict: false, can: &|_| true, problems: Vec::new() };
    check.value(block, &mut value.clone(), Place::Root(""));
    check.problems.is_empty()
}

impl Check<'_> {
    /// Checks a value and all that is in it.
    pub fn value(&mut self, block: &Block, value: &mut Value, place: Place) {
        if !block.kind.fits(value) {
            return self.problem(place, block.kind.describe(), describe(value));
        }
        match value {
            Value::Object(object) if block.kind == Kind::Object => self.object(block, object, place),
            Value::Array(items) => {
                let Some(of) = &block.of else { return self.unknown(value) };
                for (index, item) in items.iter_mut().enumerate() {
                    if self.is_full() {
                        return;
                    }
                    self.value(of, item, Place::Item(&place, index));
                }
            }
            value => self.unknown(value),
        }
    }

    /// Checks the fields of an object.
    pub fn object(&mut self, block: &Block, object: &mut Map<String, Value>, place: Place) {
        if self.side == Side::Response {
            object.retain(|name, _| !is_private(name));
        }
        for (name, field) in &block.fields {
            if self.is_full() {
                return;
            }
            self.field(field, name, object, Place::Field(&place, name));
        }
        self.others(block, object, place);
    }

    fn field(&mut self, field: &Block, name: &str, object: &mut Map<String, Value>, place: Place) {
        let is_response = self.side == Side::Response;
        if is_response && is_private(name) {
            return;
        }
        let is_hidden = !field.role.is_empty() && !(self.can)(&field.role);
        let is_dropped = self.drops(field) || (is_response && is_hidden);
        if is_dropped {
            object.shift_remove(name);
            if is_response {
                return;
            }
        }
        match object.get_mut(name) {
            Some(value) if is_hidden => {
                self.problem(place, &format!("nothing: it needs the role `{}`", field.role), describe(value));
            }
            Some(value) => self.value(field, value, place),
            None => match &field.default {
                Some(default) => drop(object.insert(name.to_owned(), default.clone())),
                None if field.required && !is_dropped && !is_hidden => {
                    self.problem(place, field.kind.describe(), "nothing");
                }
                None => {}
            },
        }
    }

    /// The fields that have no block of their own.
    fn others(&mut self, block: &Block, object: &mut Map<String, Value>, place: Place) {
        if let Others::Like(like) = &block.others {
            let is_hidden = !like.role.is_empty() && !(self.can)(&like.role);
            if self.drops(like) || (self.side == Side::Response && is_hidden) {
                return object.retain(|name, _| block.fields.contains_key(name));
            }
        }
        for (name, value) in object.iter_mut().filter(|(name, _)| !block.fields.contains_key(*name)) {
            if self.is_full() {
                return;
            }
            let place = Place::Field(&place, name);
            match &block.others {
                Others::Like(like) if !like.role.is_empty() && !(self.can)(&like.role) => {
                    self.problem(place, &format!("nothing: it needs the role `{}`", like.role), describe(value));
                }
                Others::Like(like) => self.value(like, value, place),
                Others::Unknown if self.strict => self.problem(place, "no field of this name", describe(value)),
                Others::Unknown | Others::Pass => self.unknown(value),
            }
        }
    }

    /// A value that nothing is said about.
    fn unknown(&self, value: &mut Value) {
        if self.side == Side::Response {
            hide(value);
        }
    }

    fn drops(&self, block: &Block) -> bool {
        let drop = match self.side {
            Side::Request => &block.drop_request,
            Side::Response => &block.drop_response,
        };
        match drop {
            Drop::Never => false,
            Drop::Always => true,
            Drop::Unless(role) => !(self.can)(role),
        }
    }

    pub fn is_full(&self) -> bool {
        self.problems.len() >= MAX_PROBLEMS
    }

    pub fn problem(&mut self, place: Place, expected: &str, found: &str) {
        if !self.is_full() {
            let mut field = String::new();
            place.write(&mut field);
            self.problems.push(Mismatch { field, expected: expected.to_owned(), found: found.to_owned() });
        }
    }
}

impl Place<'_> {
    fn write(&self, out: &mut String) {
        match self {
            Place::Root(name) => out.push_str(name),
            Place::Field(parent, name) => {
                parent.write(out);
                out.push('.');
                out.extend(name.chars().map(|c| if c.is_control() { '\u{fffd}' } else { c }).take(MAX_SHOWN));
            }
            Place::Item(parent, index) => {
                parent.write(out);
                out.push_str(&format!("[{index}]"));
            }
        }
    }
}

/// Takes out what no answer tells, however deep it is.
pub(super) fn hide(value: &mut Value) {
    match value {
        Value::Object(object) => {
            object.retain(|name, _| !is_private(name));
            object.values_mut().for_each(hide);
        }
        Value::Array(items) => items.iter_mut().for_each(hide),
        _ => {}
    }
}

/// Fields of the database that are nobody's business.
fn is_private(name: &str) -> bool {
    name.starts_with('_') || name == "pk" || name == "sk"
}

pub(super) fn describe(value: &Value) -> &'static str {
    match value {
        Value::Null => "null",
        Value::Bool(_) => "a boolean",
        Value::Number(_) => "a number",
        Value::String(_) => "a string",
        Value::Array(_) => "an array",
        Value::Object(_) => "an object",
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use std::path::Path;

    use serde_json::json;

    use super::super::model::Signatures;
    use super::*;

    /// The value as it is passed on, and the problems as `FIELD: EXPECTED, FOUND`.
    fn check(side: Side, strict: bool, roles: &[&str], block: &str, value: Value) -> (Value, Vec<String>) {
        let text = format!("{{a: {{b: {{request: {block}}}}}}}");
        let signatures = Signatures::parse(&text, Path::new("s"), strict, &|_| true).unwrap();
        let block = signatures.methods["a.b"].request.as_ref().unwrap();
        let can = |role: &str| roles.contains(&role);
        let mut check = Check { side, strict, can: &can, problems: Vec::new() };
        let mut value = value;
        check.value(block, &mut value, Place::Root("body"));
        let problems = check.problems.iter().map(|m| format!("{}: {}, {}", m.field, m.expected, m.found)).collect();
        (value, problems)
    }

    const USER: &str = "{fields: {
        name: {type: 'string', required: true},
        age: {type: 'number', default: 7},
        tags: {type: 'array', of: {fields: {n: {type: 'number', required: true}}}},
        admin: {type: 'boolean', role: 'admin'},
        password: {type: 'string', drop: {response: true}},
        updated: {type: 'date', drop: {request: true}},
        note: {type: 'string', drop: 'admin', required: true},
    }}";

    #[test]
    fn all_problems_are_told_at_once_but_not_more_than_ten() {
        let value = json!({"age": "x", "tags": [{"n": 1}, {"n": null}, 5, {}], "admin": true, "\nx": 1, "note": 1});
        let (_, problems) = check(Side::Request, true, &[], USER, value);
        assert_eq!(
            problems,
            [
                "body.admin: nothing: it needs the role `admin`, a boolean",
                "body.age: a number, a string",
                "body.name: a string, nothing",
                "body.tags[1].n: a number, null",
                "body.tags[2]: an object, a number",
                "body.tags[3].n: a number, nothing",
                "body.\u{fffd}x: no field of this name, a number",
            ]
        );
        let many: Vec<Value> = (0..50).map(|_| json!(1)).collect();
        assert_eq!(check(Side::Request, false, &[], "{of: 'string'}", many.into()).1.len(), 10);
    }

    #[test]
    fn defaults_are_filled_in_and_what_a_request_must_not_say_is_dropped() {
        let value = json!({"name": "a", "updated": "1999-01-01", "x": 1, "note": "from me"});
        let (value, problems) = check(Side::Request, false, &[], USER, value);
        assert_eq!((value, problems), (json!({"name": "a", "x": 1, "age": 7}), vec![]));
        let value = json!({"name": "a", "admin": true, "note": "n", "age": 8});
        assert_eq!(check(Side::Request, true, &["admin"], USER, value.clone()), (value, vec![]));
    }

    #[test]
    fn an_answer_tells_each_user_only_what_it_may_see() {
        let value = json!({
            "pk": "a", "name": "a", "sk": "b", "admin": true, "password": "p", "updated": "2026-11-22", "note": "n",
            "_type": "User", "age": 1, "tags": [{"n": 1, "_x": 1, "more": {"pk": 1, "a": [{"_b": 1}]}}],
        });
        let tags = json!([{"n": 1, "more": {"a": [{}]}}]);
        let (seen, problems) = check(Side::Response, false, &[], USER, value.clone());
        assert_eq!(seen, json!({"name": "a", "updated": "2026-11-22", "age": 1, "tags": tags}));
        assert!(problems.is_empty(), "{problems:?}");
        let (seen, _) = check(Side::Response, false, &["admin"], USER, value);
        assert_eq!(
            seen,
            json!({"name": "a", "admin": true, "updated": "2026-11-22", "note": "n", "age": 1, "tags": tags})
        );
    }

    #[test]
    fn other_fields_pass_where_a_block_lets_them() {
        let value = json!({"x": 1, "y": "z"});
        let test = |block| check(Side::Request, true, &[], block, value.clone()).1;
        assert_eq!(test("{fields: {}, hasWild: true}").len(), 0);
        assert_eq!(test("'object'").len(), 0);
        assert_eq!(test("{type: 'object'}").len(), 0);
        assert_eq!(test("{fields: {}}").len(), 2);
        assert_eq!(test("{fields: {'*': 'number'}}"), ["body.y: a number, a string"]);
        assert_eq!(
            check(Side::Request, false, &[], "{fields: {'*': {drop: true}, x: 'any'}}", value).0,
            json!({"x": 1})
        );
    }
}
