//! The merge of an item that device and cloud both changed: field by field, against what it was before.

use serde_json::Value;

use super::query::Item;

/// What became of the two sides.
#[derive(Clone, Debug, PartialEq)]
pub struct Merged {
    /// The item with the changes of both.
    pub item: Item,
    /// Both changed a field, and not alike.
    pub is_conflict: bool,
}

/// What an item was before both sides changed it.
#[derive(Clone, Copy, Debug)]
pub enum Basis<'a> {
    /// This, or nothing: then each side made all that it has.
    Certain(Option<&'a Item>),
    /// This, and later something else, of which is only known that the device wrote it: what theirs is may be the device's own of
    /// then. So what the device has stays, and what it had then and has no more may come back.
    Doubtful(Option<&'a Item>),
}

/// Puts the changes of both sides together. A side changed what is not as in the basis. A field that is `null` is one that is not
/// there.
pub fn merge(basis: Basis<'_>, mine: &Item, theirs: &Item) -> Merged {
    let (basis, is_certain) = match basis {
        Basis::Certain(basis) => (basis, true),
        Basis::Doubtful(basis) => (basis, false),
    };
    let mut merged = Merged { item: theirs.clone(), is_conflict: false };
    let only_mine = mine.keys().filter(|name| !theirs.contains_key(*name));
    for name in theirs.keys().chain(only_mine) {
        let was = basis.and_then(|basis| field(basis, name));
        let (mine, theirs) = (field(mine, name), field(theirs, name));
        if same(mine, theirs) || same(mine, was) && (is_certain || theirs.is_some()) {
            continue;
        }
        if !same(theirs, was) {
            merged.is_conflict = true;
            if is_certain {
                continue;
            }
        }
        match mine {
            Some(value) => drop(merged.item.insert(name.clone(), value.clone())),
            None => drop(merged.item.shift_remove(name)),
        }
    }
    merged
}

/// Whether two items are the same to device and cloud.
pub fn is_same_item(one: &Item, other: &Item) -> bool {
    let mut names = one.keys().chain(other.keys());
    names.all(|name| same(field(one, name), field(other, name)))
}

fn field<'i>(item: &'i Item, name: &str) -> Option<&'i Value> {
    item.get(name).filter(|value| !value.is_null())
}

fn same(one: Option<&Value>, other: Option<&Value>) -> bool {
    match (one, other) {
        (Some(one), Some(other)) => same_value(one, other),
        (one, other) => one.is_none() && other.is_none(),
    }
}

/// Numbers by value: DynamoDB does not keep how one was written.
fn same_value(one: &Value, other: &Value) -> bool {
    match (one, other) {
        (Value::Number(a), Value::Number(b)) => a == b || !(a.is_u64() && b.is_u64()) && a.as_f64() == b.as_f64(),
        (Value::Array(a), Value::Array(b)) => a.len() == b.len() && a.iter().zip(b).all(|(a, b)| same_value(a, b)),
        (Value::Object(a), Value::Object(b)) => {
            a.len() == b.len() && a.iter().all(|(name, a)| b.get(name).is_some_and(|b| same_value(a, b)))
        }
        (a, b) => a == b,
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use serde_json::json;

    use super::*;

    fn item(value: Value) -> Item {
        value.as_object().unwrap().clone()
    }

    fn merged(basis: Value, mine: Value, theirs: Value) -> (Value, bool) {
        let basis = basis.as_object().cloned();
        let Merged { item, is_conflict } = merge(Basis::Certain(basis.as_ref()), &item(mine), &item(theirs));
        (Value::Object(item), is_conflict)
    }

    #[test]
    fn changes_of_different_fields_are_put_together() {
        let basis = json!({"a": 1, "b": 1, "c": 1, "d": 1});
        let mine = json!({"a": 2, "b": 1, "d": 1, "mine": true});
        let theirs = json!({"a": 1, "b": 3, "c": 1, "theirs": true});
        let expected = json!({"a": 2, "b": 3, "mine": true, "theirs": true});
        assert_eq!(merged(basis, mine, theirs), (expected, false));
    }

    #[test]
    fn where_both_changed_one_field_the_cloud_wins_and_that_is_a_conflict() {
        let basis = json!({"a": 1, "b": 1});
        assert_eq!(merged(basis.clone(), json!({"a": 2, "b": 1}), json!({"a": 3})), (json!({"a": 3}), true));
        assert_eq!(merged(basis.clone(), json!({"b": 1}), json!({"a": 3, "b": 1})), (json!({"a": 3, "b": 1}), true));
        assert_eq!(merged(basis, json!({"a": 2, "b": 1}), json!({"b": 1})), (json!({"b": 1}), true));
    }

    #[test]
    fn what_the_device_has_stays_where_the_basis_is_in_doubt() {
        let basis = item(json!({"a": 1, "b": 1, "c": 1, "d": 1}));
        let mine = item(json!({"a": 2, "b": 1, "c": 1}));
        let theirs = item(json!({"a": 3, "b": 4, "d": 1, "e": 5}));
        let merged = merge(Basis::Doubtful(Some(&basis)), &mine, &theirs);
        assert_eq!(Value::Object(merged.item), json!({"a": 2, "b": 4, "c": 1, "e": 5}));
        assert!(merged.is_conflict);
    }

    #[test]
    fn the_same_change_on_both_sides_is_none() {
        let basis = json!({"a": 1, "b": [1], "c": 5});
        assert_eq!(
            merged(basis, json!({"a": 2.0, "b": [1.0], "c": null}), json!({"a": 2, "b": [1]})),
            (json!({"a": 2, "b": [1]}), false)
        );
    }

    #[test]
    fn without_a_basis_each_made_what_it_has() {
        assert_eq!(
            merged(Value::Null, json!({"a": 1, "b": 1, "c": 1}), json!({"a": 1, "b": 2, "d": 1})),
            (json!({"a": 1, "b": 2, "c": 1, "d": 1}), true)
        );
        assert!(is_same_item(&item(json!({"a": 1, "b": null})), &item(json!({"a": 1.0}))));
        assert!(!is_same_item(&item(json!({"a": u64::MAX})), &item(json!({"a": u64::MAX - 1}))));
    }
}
