//! Roles: what a user may do. A role holds abilities and other roles.

use std::collections::{BTreeMap, BTreeSet};

/// The role that everybody has, also who is not logged in.
pub const PUBLIC: &str = "public";
/// The ability that stands for all.
const ALL: &str = "*";

/// The roles of `web.auth.roles`, without cycles. A role is an ability too: who has it can what it is named.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Roles(BTreeMap<String, BTreeSet<String>>);

impl Roles {
    /// Roles with the abilities and roles that each holds.
    ///
    /// # Errors
    /// A role holds itself, perhaps by others; the text names the way around.
    pub fn new(direct: &[(String, Vec<String>)]) -> Result<Self, String> {
        let direct: BTreeMap<&str, &[String]> =
            direct.iter().map(|(role, held)| (role.as_str(), held.as_slice())).collect();
        let mut roles = Self::default();
        for role in direct.keys() {
            gather(role, &direct, &mut Vec::new(), &mut roles.0)?;
        }
        Ok(roles)
    }

    /// Each role with all that it holds.
    pub fn iter(&self) -> impl Iterator<Item = (&str, impl Iterator<Item = &str>)> {
        self.0.iter().map(|(role, held)| (role.as_str(), held.iter().map(String::as_str)))
    }

    /// Whether there is such a role.
    pub fn has(&self, role: &str) -> bool {
        role == PUBLIC || self.0.contains_key(role)
    }

    /// Whether a role of that name, or an ability that some role holds, exists.
    pub fn knows(&self, ability: &str) -> bool {
        self.has(ability) || self.0.values().any(|held| held.contains(ability))
    }

    /// Whether a user of that role has an ability. Everybody has those of `public`.
    pub fn can(&self, role: &str, ability: &str) -> bool {
        let holds = |role: &str| {
            role == ability || self.0.get(role).is_some_and(|held| held.contains(ability) || held.contains(ALL))
        };
        ability == PUBLIC || holds(role) || holds(PUBLIC)
    }
}

/// Fills `found` with all that `role` holds. `way` is how we came here.
fn gather<'a>(
    role: &'a str,
    direct: &BTreeMap<&'a str, &'a [String]>,
    way: &mut Vec<&'a str>,
    found: &mut BTreeMap<String, BTreeSet<String>>,
) -> Result<(), String> {
    if found.contains_key(role) {
        return Ok(());
    }
    if way.contains(&role) {
        return Err(format!("the role `{role}` holds itself: {} > {role}", way.join(" > ")));
    }
    way.push(role);
    let mut all = BTreeSet::new();
    for held in direct.get(role).copied().unwrap_or_default() {
        all.insert(held.clone());
        if direct.contains_key(held.as_str()) {
            gather(held, direct, way, found)?;
            all.extend(found.get(held).into_iter().flatten().cloned());
        }
    }
    way.pop();
    found.insert(role.to_owned(), all);
    Ok(())
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    fn roles(rows: &[(&str, &[&str])]) -> Result<Roles, String> {
        let rows: Vec<_> = rows
            .iter()
            .map(|(role, held)| ((*role).to_owned(), held.iter().map(|held| (*held).to_owned()).collect()))
            .collect();
        Roles::new(&rows)
    }

    #[test]
    fn a_role_has_what_its_roles_have() {
        let roles = roles(&[
            ("admin", &["user", "reboot"]),
            ("user", &["guest", "edit"]),
            ("guest", &["view"]),
            ("root", &["*"]),
        ])
        .unwrap();
        for (role, ability, expected) in [
            ("admin", "view", true),
            ("admin", "guest", true),
            ("admin", "reboot", true),
            ("user", "edit", true),
            ("user", "reboot", false),
            ("guest", "user", false),
            ("root", "anything", true),
            ("public", "view", false),
            ("public", "public", true),
            ("nobody", "public", true),
            ("nobody", "nobody", true),
        ] {
            assert_eq!(roles.can(role, ability), expected, "{role} {ability}");
        }
        assert!(roles.knows("view") && roles.knows("public") && !roles.knows("views"));
    }

    #[test]
    fn everybody_has_what_the_public_has() {
        let roles = roles(&[("public", &["view"]), ("user", &["edit"])]).unwrap();
        assert!(roles.can("user", "view") && roles.can("public", "view") && !roles.can("public", "edit"));
    }

    #[test]
    fn a_role_that_holds_itself_is_refused() {
        assert_eq!(roles(&[("a", &["a"])]).unwrap_err(), "the role `a` holds itself: a > a");
        let error = roles(&[("a", &["b"]), ("b", &["x", "c"]), ("c", &["b"])]).unwrap_err();
        assert_eq!(error, "the role `b` holds itself: a > b > c > b");
        roles(&[("a", &["b", "c"]), ("b", &["d"]), ("c", &["d"]), ("d", &[])]).unwrap();
    }
}
