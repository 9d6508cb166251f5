//! Many items at once: batches and transactions from a file, import and export.

use std::fs::File;
use std::io::{BufRead, BufReader, Read, Write, stdin, stdout};

use ioto::db::{Csv, MAX_LIMIT, MAX_OPERATIONS, Model, Operation, Query, Schema, csv_header, csv_row};
use serde_json::{Value, json};

use super::super::output::complain;
use super::door::Door;
use super::{Failure, Output};

/// Bytes of operations that are sent at once, about: less than what the agent takes.
const PACKET: usize = 48 * 1024;
/// Bytes of a file of operations, at most.
const MAX_FILE: u64 = 1024 * 1024;
/// Mistakes that are told.
const MISTAKES: usize = 10;

fn open(file: &str) -> Result<Box<dyn BufRead>, Failure> {
    match file {
        "-" => Ok(Box::new(stdin().lock())),
        file => match File::open(file) {
            Ok(opened) => Ok(Box::new(BufReader::new(opened))),
            Err(error) => Err(Failure(format!("cannot read {file}: {error}"))),
        },
    }
}

/// Operations as a list of JSON, or a line each.
pub fn several(door: &Door, schema: &Schema, file: &str, whole: bool) -> Result<Output, Failure> {
    let mut text = String::new();
    let read = open(file)?.take(MAX_FILE).read_to_string(&mut text);
    read.map_err(|error| Failure(format!("cannot read {file}: {error}")))?;
    let values: Vec<Value> = match serde_json::from_str::<Value>(&text) {
        Ok(Value::Array(values)) => values,
        _ => (serde_json::Deserializer::from_str(&text).into_iter().collect::<Result<_, _>>())
            .map_err(|error| Failure(format!("{file}: is neither a list nor lines of JSON: {error}")))?,
    };
    let read = |(n, value)| {
        Operation::from_json(value).map_err(|rule| Failure(format!("{file}: operation {}: {rule}", n + 1)))
    };
    let operations = values.into_iter().enumerate().map(read).collect::<Result<Vec<_>, _>>()?;
    let results = door.several(schema, operations, whole)?;
    let text = results.iter().map(|result| format!("{result}\n")).collect();
    let failed = results.iter().filter(|result| result.get("error").is_some()).count();
    if failed > 0 {
        results.iter().for_each(|result| complain(&result.to_string()));
        return Err(Failure(format!("{failed} of {} operations failed", results.len())));
    }
    Ok(Output { text, json: json!({"results": results}) })
}

/// Writes all items to the standard output.
pub fn export(door: &Door, model: &Model, csv: bool) -> Result<Output, Failure> {
    let mut out = std::io::BufWriter::new(stdout().lock());
    let fail = |error| Failure(format!("cannot write: {error}"));
    if csv {
        writeln!(out, "{}", csv_header(model)).map_err(fail)?;
    }
    let mut next = None;
    loop {
        let page = door.find(model, Query { next, limit: Some(MAX_LIMIT), ..Query::new() })?;
        for item in page.items {
            let item = model.visible(item);
            let line = if csv { csv_row(model, &item) } else { Value::Object(item).to_string() };
            writeln!(out, "{line}").map_err(fail)?;
        }
        next = page.next;
        if next.is_none() {
            out.flush().map_err(fail)?;
            return Ok(Output { text: String::new(), json: Value::Null });
        }
    }
}

/// Adds items, and sets the fields of those that are there.
pub fn import(door: &Door, model: &Model, file: &str, csv: bool) -> Result<Output, Failure> {
    let mut rows = Rows { input: open(file)?, line: 0, csv: None };
    let mut import = Import { door, model, waiting: Vec::new(), size: 0, done: 0, mistakes: Vec::new() };
    while let Some((line, row)) = rows.next(model, csv)? {
        match row {
            Ok(item) => import.add(line, item)?,
            Err(rule) => import.mistakes.push(format!("line {line}: {rule}")),
        }
    }
    import.send()?;
    let (done, mistakes) = (import.done, import.mistakes);
    mistakes.iter().take(MISTAKES).for_each(|mistake| complain(&format!("{file}: {mistake}")));
    match mistakes.len() {
        0 => Ok(Output { text: format!("{done} items imported\n"), json: json!({"imported": done}) }),
        failed => Err(Failure(format!("{failed} items were not imported, {done} were"))),
    }
}

struct Rows {
    input: Box<dyn BufRead>,
    line: u64,
    csv: Option<Csv>,
}

type Row = (u64, Result<ioto::db::Item, String>);

impl Rows {
    fn next(&mut self, model: &Model, csv: bool) -> Result<Option<Row>, Failure> {
        let mut text = String::new();
        let fail = |error| Failure(format!("cannot read: {error}"));
        loop {
            let begun = !text.is_empty();
            // An item has at most 256 KB; with its quotes and escapes a line has a few times that.
            let read = (&mut self.input).take(4 * 1024 * 1024).read_line(&mut text).map_err(fail)?;
            if read == 0 {
                return match begun {
                    true => Err(Failure(format!("line {}: a quoted value has no end", self.line))),
                    false => Ok(None),
                };
            }
            self.line += 1;
            if csv && text.matches('"').count() % 2 == 1 {
                continue; // The line ends inside of a quoted value.
            }
            let line = text.trim_end_matches(['\n', '\r']);
            if line.trim().is_empty() {
                text.clear();
                continue;
            }
            if !csv {
                let item = serde_json::from_str(line).map_err(|error| format!("is no JSON object: {error}"));
                return Ok(Some((self.line, item)));
            }
            match &self.csv {
                Some(csv) => return Ok(Some((self.line, csv.item(model, line)))),
                None => {
                    let header =
                        Csv::new(model, line).map_err(|rule| Failure(format!("line {}: {rule}", self.line)))?;
                    self.csv = Some(header);
                    text.clear();
                }
            }
        }
    }
}

struct Import<'a> {
    door: &'a Door,
    model: &'a Model,
    waiting: Vec<(u64, Operation)>,
    size: usize,
    done: u64,
    mistakes: Vec<String>,
}

impl Import<'_> {
    fn add(&mut self, line: u64, item: ioto::db::Item) -> Result<(), Failure> {
        // What only the database sets comes back as it was exported, but cannot be set.
        let item: ioto::db::Item = item
            .into_iter()
            .filter(|(name, _)| !self.model.field(name).is_some_and(ioto::db::Field::automatic))
            .collect();
        let size = Value::Object(item.clone()).to_string().len();
        if self.size + size > PACKET || self.waiting.len() == MAX_OPERATIONS {
            self.send()?;
        }
        self.size += size;
        self.waiting.push((line, Operation::Upsert { model: self.model.name().into(), item }));
        Ok(())
    }

    fn send(&mut self) -> Result<(), Failure> {
        self.size = 0;
        let (lines, operations): (Vec<u64>, Vec<Operation>) = self.waiting.drain(..).unzip();
        if operations.is_empty() {
            return Ok(());
        }
        for (result, line) in self.door.several(&Schema::default(), operations, false)?.into_iter().zip(lines) {
            match result.pointer("/error/message").and_then(Value::as_str) {
                Some(message) => self.mistakes.push(format!("line {line}: {message}")),
                None => self.done += 1,
            }
        }
        Ok(())
    }
}
