//! The files of the configuration, layer by layer.

use std::fs::{self, File};
use std::io::{ErrorKind, Read};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use super::json5;
use super::node::{Node, Value};
use super::origin::{Origin, Source};
use super::problem::{Problem, Problems};

/// The files of a directory in the order in which they are laid, and the section to which each belongs.
const FILES: [(&str, Option<&str>); 4] =
    [("ioto.json5", None), ("web.json5", Some("web")), ("device.json5", Some("device")), ("local.json5", None)];

/// A file that was read.
#[derive(Clone, Debug)]
pub(super) struct Layer {
    /// An object.
    pub(super) node: Node,
    /// The section that it describes; nothing: the whole configuration.
    pub(super) under: Option<&'static str>,
    /// Whether root alone can have written it.
    pub(super) of_root: bool,
}

/// Reads the files of `directory`; a file that is not there is left out.
pub(super) fn read(directory: &Path, problems: &mut Problems) -> Vec<Layer> {
    let mut layers = Vec::new();
    for (name, under) in FILES {
        match read_file(&directory.join(name)) {
            Ok(Some((node, of_root))) => {
                layers.push(Layer { under: under.filter(|under| !stands_alone(&node, under)), node, of_root });
            }
            Ok(None) => {}
            Err(problem) => problems.extend([problem]),
        }
    }
    layers
}

/// Reads `directory/*.json5` in the order of their names; each describes the whole configuration.
pub(super) fn read_drop_ins(directory: &Path, problems: &mut Problems) -> Vec<Layer> {
    let mut paths: Vec<PathBuf> = Vec::new();
    match fs::read_dir(directory) {
        Ok(entries) => entries.flatten().map(|entry| entry.path()).for_each(|path| {
            paths.insert(paths.partition_point(|known| *known < path), path);
        }),
        Err(error) if error.kind() == ErrorKind::NotFound => return Vec::new(),
        Err(error) => {
            problems.add(file_origin(directory), "", format!("the directory cannot be read: {error}"));
            return Vec::new();
        }
    }
    paths.retain(|path| path.extension().is_some_and(|extension| extension == "json5"));
    let mut layers = Vec::new();
    for path in paths {
        match read_file(&path) {
            Ok(read) => layers.extend(read.map(|(node, of_root)| Layer { node, under: None, of_root })),
            Err(problem) => problems.extend([problem]),
        }
    }
    layers
}

/// What holds beneath all files when the integrator's directory has `web.json5` alone: a web server was asked for, and the
/// database, which is on otherwise, has nothing to hold without a schema. Any file can switch it on.
pub(super) fn web_alone(own: &[Layer], directory: &Path) -> Option<Layer> {
    let [web] = own else { return None };
    let is_web = match &web.node.origin.source {
        Source::File(path) => path.file_name().is_some_and(|name| name == "web.json5"),
        _ => false,
    };
    let off = Node { value: Value::Flag(false), origin: file_origin(&directory.join("web.json5")) };
    let is_alone = is_web && !directory.join("schema.json5").exists();
    is_alone.then(|| Layer { node: off.under("services.database"), under: None, of_root: web.of_root })
}

/// Whether a section's file is written as a whole configuration: with its own name as a key, and `tls`, `log` beside it.
fn stands_alone(node: &Node, under: &str) -> bool {
    node.members().iter().any(|member| member.key.trim_start_matches(['+', '-', '=', '?']) == under)
}

/// The content, and whether it is root's: asked of the file that is read, because its name may be given to another.
fn read_file(path: &Path) -> Result<Option<(Node, bool)>, Problem> {
    let origin = file_origin(path);
    let problem = |text: String| Problem { origin: origin.clone(), key: String::new(), text };
    let mut bytes = Vec::new();
    let most = json5::MAX_BYTES as u64 + 1;
    let read = File::open(path).and_then(|file| {
        let found = file.metadata()?;
        file.take(most).read_to_end(&mut bytes)?;
        Ok(found.uid() == 0 && found.mode() & 0o022 == 0)
    });
    let of_root = match read {
        Ok(of_root) => of_root,
        Err(error) if error.kind() == ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(problem(format!("the file cannot be read: {error}"))),
    };
    if bytes.len() > json5::MAX_BYTES {
        return Err(problem(format!("the file is longer than {} bytes", json5::MAX_BYTES)));
    }
    let text = match String::from_utf8(bytes) {
        Ok(text) => text,
        Err(error) => {
            let valid = error.utf8_error().valid_up_to();
            let lines = error.as_bytes().iter().take(valid).filter(|byte| **byte == b'\n').count();
            let line = u32::try_from(lines + 1).unwrap_or_default();
            let origin = Origin { line, ..origin };
            return Err(Problem { origin, key: String::new(), text: "the text is not UTF-8".into() });
        }
    };
    let node = json5::parse(&text, &origin.source)?;
    match node.value {
        Value::Object(_) => Ok(Some((node, of_root))),
        _ => {
            let text = format!("expected an object, found {}", node.describe());
            Err(Problem { origin: node.origin, key: String::new(), text })
        }
    }
}

fn file_origin(path: &Path) -> Origin {
    Origin::of(Source::File(path.into()))
}
