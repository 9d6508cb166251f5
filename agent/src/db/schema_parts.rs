//! A schema in parts: `blend: ['base.json5']` names files that the schema is laid over, in their order.

use std::path::Path;
use std::sync::Arc;

use super::error::Error;
use crate::config::{self, Node, Problems, Source, Value, json5};

/// Parts of parts, at most.
const DEPTH: usize = 8;
/// Files that one `blend` names, at most.
const PARTS: usize = 32;

/// The schema with its parts below it. A part's path begins at the directory of the file that names it.
pub(super) fn blend(root: Node, path: &Path) -> Result<Node, Error> {
    blend_at(root, path, 0)
}

fn blend_at(root: Node, path: &Path, depth: usize) -> Result<Node, Error> {
    let Some(node) = root.get("blend") else { return Ok(root) };
    let fail = |node: &Node, what: String| Error::Schema(format!("{}: blend: {what}", node.origin));
    let Value::List(names) = &node.value else {
        return Err(fail(node, format!("must be a list of files, found {}", node.describe())));
    };
    if depth == DEPTH || names.len() > PARTS {
        return Err(fail(node, format!("goes deeper than {DEPTH} files, or names more than {PARTS}")));
    }
    let mut blended = Node::object(root.origin.clone());
    let mut problems = Problems::default();
    for name in names {
        let Value::Text(file) = &name.value else {
            return Err(fail(name, format!("must name files, found {}", name.describe())));
        };
        let file = path.parent().unwrap_or(Path::new("")).join(file);
        let text = std::fs::read_to_string(&file);
        let text = text.map_err(|error| fail(name, format!("cannot read {}: {error}", file.display())))?;
        let source = Source::File(Arc::from(file.as_path()));
        let part = json5::parse(&text, &source).map_err(|error| Error::Schema(error.to_string()))?;
        config::blend(&mut blended, blend_at(part, &file, depth + 1)?, &mut problems);
    }
    config::blend(&mut blended, root, &mut problems);
    match problems.iter().next().is_none() {
        true => Ok(blended),
        false => Err(Error::Schema(problems.to_string())),
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use crate::db::{Schema, Sync};

    #[test]
    fn a_schema_is_laid_over_the_parts_that_it_names() {
        let directory = std::env::temp_dir().join(format!("ioto-schema-parts-{}", std::process::id()));
        std::fs::create_dir_all(directory.join("parts")).unwrap();
        let write = |name: &str, text: &str| std::fs::write(directory.join(name), text).unwrap();
        write("parts/deep.json5", "{models: {A: {id: {type: 'string'}}}, process: {A: {sync: 'up'}}}");
        write("parts/base.json5", "{blend: ['deep.json5'], models: {A: {n: {type: 'number'}}}}");
        write(
            "schema.json5",
            "{blend: ['parts/base.json5'], models: {A: {n: {type: 'string'}}, B: {id: {type: 'string'}}}}",
        );
        let schema = Schema::load(&directory.join("schema.json5")).unwrap();
        let model = schema.model("A").unwrap();
        assert_eq!((model.sync(), model.fields().len(), schema.models().count()), (Sync::Up, 2, 2));
        assert_eq!(model.field("n").unwrap().kind().to_string(), "string");
        for (text, part) in [
            ("{blend: 'a'}", "schema.json5:1: blend: must be a list of files, found `a`"),
            ("{blend: ['none.json5']}", "cannot read"),
            ("{blend: ['schema.json5']}", "goes deeper than 8 files"),
        ] {
            write("schema.json5", text);
            let error = Schema::load(&directory.join("schema.json5")).unwrap_err().to_string();
            assert!(error.contains(part), "{error}");
        }
        std::fs::remove_dir_all(directory).unwrap();
    }
}
