//! `web.signatures`: what requests to the routes with `validate`, and the answers to them, must look like.

use std::path::PathBuf;

use super::Directories;
use super::section::Section;

/// `web.signatures`
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct WebSignatures {
    /// `enable`: routes with `validate: true` are validated. Off by default.
    pub enable: bool,
    /// `path`: the file of the signatures, `@config/signatures.json5` by default.
    pub path: PathBuf,
    /// `strict`: what no signature names is refused: fields, query variables, bodies, whole requests.
    pub strict: bool,
}

impl Default for WebSignatures {
    fn default() -> Self {
        Self { enable: false, path: "/etc/ioto/signatures.json5".into(), strict: false }
    }
}

impl WebSignatures {
    pub(super) fn read(s: &Section, directories: &Directories) -> Self {
        let d = Self::default();
        Self {
            enable: s.flag("enable", d.enable),
            path: s.path("path", &directories.config.join("signatures.json5")),
            strict: s.flag("strict", d.strict),
        }
    }

    /// Reads `validate` of a route. Where it guards nothing its owner is told.
    pub(super) fn read_route(&self, route: &Section) -> bool {
        let validate = route.flag("validate", false);
        if validate && !self.enable {
            route.no_effect("validate");
        }
        validate
    }
}
