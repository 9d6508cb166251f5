//! Keys that the agent knows by name and does not act on: they are accepted, with a warning that lists them.

/// What a key stands for, with all keys below it; `[]` is any item of a list.
///
/// Most come from the configuration of another agent, whose files can so be brought as they are. The rest is this agent's,
/// in a later version. A key that guards something (a role, a client certificate) is not here: its section refuses it.
const KEYS: &[&str] = &[
    "ai",
    "api",
    "app",
    "blend",
    "cloud",
    "database.maxJournalAge",
    "database.maxJournalSize",
    "database.maxSyncSize",
    "device.account",
    "device.cloud",
    "device.test",
    "directories.log",
    "files",
    "limits",
    "log.group",
    "log.show",
    "log.sources",
    "log.stream",
    "log.types",
    "optimize",
    "provision",
    "scripts",
    "services.ai",
    "services.keys",
    "services.provision",
    "services.register",
    "services.serialize",
    "services.shadow",
    "services.test",
    "services.update",
    "services.url",
    "update",
    "web.fiberBlocks",
    "web.group",
    "web.limits.buffer",
    "web.sessions.enable",
    "web.user",
];

/// Whether `path` is such a key or below one.
pub(super) fn is_foreign(path: &str) -> bool {
    KEYS.iter().any(|key| path.strip_prefix(key).is_some_and(|rest| rest.is_empty() || rest.starts_with(['.', '['])))
}

/// `path`, written in any case, as such a key or one below it.
pub(super) fn in_any_case(path: &str) -> Option<String> {
    KEYS.iter().find_map(|key| {
        let (front, rest) = path.split_at_checked(key.len())?;
        let found = front.eq_ignore_ascii_case(key) && (rest.is_empty() || rest.starts_with('.'));
        found.then(|| format!("{key}{rest}"))
    })
}
