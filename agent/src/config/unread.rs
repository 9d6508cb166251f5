//! What nobody read: unknown keys, and known ones without effect.

use std::collections::BTreeMap;

use super::foreign;
use super::node::{Node, Value, quote};
use super::problem::Problems;
use super::section::Kind;

/// Walks the blended tree beside the keys that were read.
pub(super) struct Unread<'a> {
    keys: &'a BTreeMap<String, Kind>,
    problems: Problems,
    idle: Vec<String>,
}

impl<'a> Unread<'a> {
    /// The unknown keys of `tree`, those not among `keys`; and the known ones that have no effect, with their places.
    pub(super) fn find(tree: &Node, keys: &'a BTreeMap<String, Kind>) -> (Problems, Vec<String>) {
        let mut unread = Self { keys, problems: Problems::default(), idle: Vec::new() };
        unread.walk(tree, "", "");
        (unread.problems, unread.idle)
    }

    /// `path` is what people see, `pattern` has `[]` for `[3]`.
    fn walk(&mut self, node: &Node, path: &str, pattern: &str) {
        for member in node.members() {
            let below =
                |parent: &str| if parent.is_empty() { member.key.clone() } else { format!("{parent}.{}", member.key) };
            let (path, pattern) = (below(path), below(pattern));
            match self.keys.get(&pattern) {
                Some(Kind::Section) => self.walk(&member.node, &path, &pattern),
                Some(Kind::Value) => self.walk_items(&member.node, &path, &pattern),
                None if foreign::is_foreign(&pattern) => self.idle.push(format!("{path} ({})", member.node.origin)),
                None => {
                    let hint = self.hint(&pattern, &member.key);
                    self.problems.add(member.origin.clone(), path, format!("unknown key{hint}"));
                }
            }
        }
    }

    fn walk_items(&mut self, node: &Node, path: &str, pattern: &str) {
        if let Value::List(items) = &node.value {
            for (index, item) in items.iter().enumerate() {
                self.walk(item, &format!("{path}[{index}]"), &format!("{pattern}[]"));
            }
        }
    }

    /// The key that was meant, perhaps: a neighbour with a similar name, or the same name elsewhere.
    fn hint(&self, pattern: &str, key: &str) -> String {
        let parent = pattern.strip_suffix(key).unwrap_or_default();
        let neighbours = self.keys.keys().filter_map(|known| known.strip_prefix(parent));
        let similar = neighbours
            .filter(|name| !name.contains(['.', '[']))
            .map(|name| (distance(&key.to_lowercase(), &name.to_lowercase()), name))
            .filter(|(distance, name)| *distance <= 2 && *distance < name.len().div_ceil(2))
            .min();
        if let Some((_, name)) = similar {
            return format!(", did you mean {}?", quote(name));
        }
        let elsewhere = self.keys.keys().find(|known| known.rsplit('.').next() == Some(key) && !known.contains('['));
        elsewhere.map_or(String::new(), |known| format!(", did you mean {}?", quote(known)))
    }
}

/// How many characters must be put in, left out or changed to make `b` of `a` (Levenshtein). Long keys are not compared.
pub(super) fn distance(a: &str, b: &str) -> usize {
    const LONGEST: usize = 64;
    if a.len() > LONGEST || b.len() > LONGEST {
        return LONGEST;
    }
    let mut row: Vec<usize> = (0..=b.chars().count()).collect();
    for (i, x) in a.chars().enumerate() {
        let mut corner = row[0];
        row[0] = i + 1;
        for (j, y) in b.chars().enumerate() {
            let change = corner + usize::from(x != y);
            corner = row[j + 1];
            row[j + 1] = change.min(corner + 1).min(row[j] + 1);
        }
    }
    row.last().copied().unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::distance;

    #[test]
    fn distances_are_those_of_levenshtein() {
        let rows =
            [("", "", 0), ("a", "", 1), ("kitten", "sitting", 3), ("lisen", "listen", 1), ("lsiten", "listen", 2)];
        for (a, b, expected) in rows {
            assert_eq!((distance(a, b), distance(b, a)), (expected, expected), "{a} {b}");
        }
    }
}
