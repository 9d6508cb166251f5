//! From an invocation of the program to a checked configuration.

use std::path::{Path, PathBuf};

use super::blend::{blend, blend_file};
use super::layers::{self, Layer};
use super::node::{Node, Value};
use super::origin::{Origin, Source};
use super::problem::{Problem, Problems};
use super::section::Reader;
use super::unread::Unread;
use super::{Config, Directories, Effective, Profile, environment};

/// How the program was called, as far as it matters to the configuration.
#[derive(Clone, Debug, Default)]
pub struct Invocation {
    /// `--config DIR`; it must be there.
    pub config_dir: Option<PathBuf>,
    /// `--state DIR`
    pub state_dir: Option<PathBuf>,
    /// `--profile NAME`
    pub profile: Option<String>,
    /// `--listen URL`, any number; they take the place of `web.listen`.
    pub listen: Vec<String>,
    /// Variables of the environment; others than `IOTO_*` are passed over.
    pub environment: Vec<(String, String)>,
    /// To what relative paths of the command line and the environment belong; the default is the current directory.
    pub current_dir: Option<PathBuf>,
}

/// A configuration without errors.
#[derive(Clone, Debug)]
pub struct Loaded {
    /// The configuration.
    pub config: Config,
    /// The same, to be shown.
    pub effective: Effective,
    /// What its owner should know although it is no error.
    pub warnings: Vec<String>,
}

/// Reads and checks the configuration. Blocks on files; for the start of a program.
///
/// # Errors
/// Everything that is wrong, in all files at once.
///
/// # Examples
/// ```
/// use ioto::config::{Invocation, load};
///
/// let environment = vec![("IOTO_WEB_TIMEOUTS_IDLE".to_string(), "2 mins".to_string())];
/// let listen = vec!["http://127.0.0.1:8080".to_string()];
/// let loaded = load(&Invocation { environment, listen, ..Default::default() })?;
/// assert_eq!(loaded.config.web.listen[0].port, 8080);
/// assert_eq!(loaded.config.web.timeouts.idle.as_secs(), 120);
/// # Ok::<(), ioto::config::Problems>(())
/// ```
pub fn load(invocation: &Invocation) -> Result<Loaded, Problems> {
    let current = invocation.current_dir.clone().or_else(|| std::env::current_dir().ok()).unwrap_or_else(|| "/".into());
    let mut problems = Problems::default();
    let callers = callers_layers(invocation, &current, &mut problems);
    let (layers, profile) = read_layers(&together(&callers), &current, &mut problems);

    let mut tree = blended(&layers, &profile, &mut problems);
    refuse_own_place(&tree, &mut problems);
    callers.into_iter().for_each(|layer| blend(&mut tree, layer, &mut problems));
    blend(&mut tree, profile.under("profile"), &mut problems);

    let reader = Reader::new(&current);
    let config = Config::read(&tree, &reader);
    let keys = reader.keys();
    let (unknown, mut idle) = Unread::find(&tree, &keys);
    // What is missing may be in the part that could not be read.
    if !problems.iter().any(is_unread_file) {
        config.check(&tree, &reader);
    }
    let mut warnings = reader.notes();
    let (entries, wrong, passed) = reader.finish();
    problems.append(unknown);
    problems.append(wrong);
    idle.extend(passed);

    if !problems.is_empty() {
        return Err(problems.sorted());
    }
    if !idle.is_empty() {
        warnings.push(format!("these keys have no effect in this version: {}", idle.join(", ")));
    }
    Ok(Loaded { config, effective: Effective::new(entries), warnings })
}

/// What the caller says: the environment, and after it the command line.
fn callers_layers(invocation: &Invocation, current: &Path, problems: &mut Problems) -> Vec<Node> {
    // A reading of nothing knows all keys.
    let keys = {
        let reader = Reader::new(current);
        Config::read(&Node::object(Origin::default()), &reader);
        reader.keys()
    };
    let mut layers = environment::layers(&invocation.environment, &keys, problems);
    let mut say = |option, key, value: Value| {
        let node = Node { value, origin: Origin::of(Source::CommandLine(option)) };
        layers.push(node.under(key));
    };
    for (option, key, directory) in [
        ("--config", "directories.config", &invocation.config_dir),
        ("--state", "directories.state", &invocation.state_dir),
    ] {
        match directory.as_ref().map(|directory| directory.to_str()) {
            Some(Some(directory)) => say(option, key, Value::Text(directory.into())),
            Some(None) => problems.add(Origin::of(Source::CommandLine(option)), key, "the path is not UTF-8"),
            None => {}
        }
    }
    if let Some(profile) = &invocation.profile {
        say("--profile", "profile", Value::Text(profile.clone()));
    }
    if !invocation.listen.is_empty() {
        let origin = Origin::of(Source::CommandLine("--listen"));
        let items = invocation.listen.iter().map(|url| Node::text(url, origin.clone())).collect();
        say("--listen", "web.listen", Value::List(items));
    }
    layers
}

/// One layer of several.
fn together(layers: &[Node]) -> Node {
    let mut tree = Node::object(Origin::default());
    layers.iter().for_each(|layer| blend(&mut tree, layer.clone(), &mut Problems::default()));
    tree
}

/// A file without its content: what it says is missing now.
fn is_unread_file(problem: &Problem) -> bool {
    matches!(problem.origin.source, Source::File(_)) && problem.key.is_empty()
}

/// Reads all files, and decides the profile by which they are blended: the caller's, else the last that a file names.
fn read_layers(callers: &Node, current: &Path, problems: &mut Problems) -> (Vec<Layer>, Node) {
    let reader = Reader::new(current);
    let default = Directories::default();
    let directory = |key: &str, default: &Path, problems: &mut Problems| {
        let Some(node) = callers.find(key) else { return default.to_owned() };
        // A value that is no path is found again, and told, when the section is read.
        let Value::Text(text) = &node.value else { return default.to_owned() };
        let Ok(path) = reader.resolve(text, &node.origin) else { return default.to_owned() };
        if !path.is_dir() {
            problems.add(node.origin.clone(), key, format!("there is no directory `{}`", path.display()));
        }
        path
    };
    let share = directory("directories.share", &default.share, problems);
    let config = directory("directories.config", &default.config, problems);
    let mut layers = layers::read(&share, problems);
    let mut own = layers::read(&config, problems);
    own.extend(layers::read_drop_ins(&config.join("ioto.d"), problems));
    if let Some(layer) = layers::web_alone(&own, &config) {
        layers.insert(0, layer);
    }
    layers.extend(own);

    let (state, _) = state_directory(&layers, callers, &config, current);
    let trusted = layers.len();
    layers.extend(layers::read(&state.join("config"), problems));
    if nix::unistd::geteuid().is_root() {
        refuse_decisions(&layers, trusted, callers, problems);
    }
    let (after, origin) = state_directory(&layers, callers, &config, current);
    if state != after {
        let text = format!("cannot be moved by files below `{}`, where it was before", state.display());
        problems.add(origin, "directories.state", text);
    }
    let profile = profile(&layers, callers);
    (layers, profile)
}

/// The state directory according to the layers so far, and who says so.
fn state_directory(layers: &[Layer], callers: &Node, config: &Path, current: &Path) -> (PathBuf, Origin) {
    let mut ignored = Problems::default();
    let mut tree = blended(layers, &profile(layers, callers), &mut ignored);
    blend(&mut tree, callers.clone(), &mut ignored);
    let reader = Reader::new(current);
    reader.set_token("config", config);
    let found = tree.find("directories.state").and_then(|node| match &node.value {
        Value::Text(text) => Some((reader.resolve(text, &node.origin).ok()?, node.origin.clone())),
        _ => None,
    });
    found.unwrap_or((Directories::default().state, Origin::default()))
}

/// The profile as it stands beside all conditional blocks.
fn profile(layers: &[Layer], callers: &Node) -> Node {
    let mut tree = Node::object(Origin::default());
    for layer in layers.iter().filter(|layer| layer.under.is_none()) {
        blend(&mut tree, layer.node.clone(), &mut Problems::default());
    }
    let said = callers.get("profile").or(tree.get("profile")).filter(|node| node.value != Value::Null);
    said.cloned().unwrap_or_else(|| Node::text(Profile::default().name(), Origin::default()))
}

fn blended(layers: &[Layer], profile: &Node, problems: &mut Problems) -> Node {
    let mut tree = Node::object(Origin::default());
    let name = match &profile.value {
        Value::Text(name) => name.as_str(),
        _ => Profile::default().name(),
    };
    for layer in layers {
        blend_file(&mut tree, layer.node.clone(), layer.under, name, problems);
    }
    tree
}

/// What root does is decided by root's files. The agent, which keeps files below its state directory, could otherwise let
/// itself be started as root the next time.
fn refuse_decisions(layers: &[Layer], trusted: usize, callers: &Node, problems: &mut Problems) {
    const DECISIONS: [&str; 3] = ["profile", "sandbox", "directories.run"];
    let all = layers.iter().enumerate();
    let of_root: Vec<Layer> =
        all.filter(|(index, layer)| *index < trusted || layer.of_root).map(|(_, layer)| layer.clone()).collect();
    let agents: Vec<&Layer> = layers.iter().skip(trusted).filter(|layer| !layer.of_root).collect();
    if agents.is_empty() {
        return;
    }
    let tree = |layers: &[Layer]| {
        let profile = profile(layers, callers);
        let mut tree = blended(layers, &profile, &mut Problems::default());
        blend(&mut tree, profile.under("profile"), &mut Problems::default());
        tree
    };
    let (before, after) = (tree(&of_root), tree(layers));
    for key in DECISIONS {
        let said = after.find(key);
        if before.find(key).map(Node::to_json) == said.map(Node::to_json) {
            continue;
        }
        // Where it differs; what was taken away has no place.
        let place = said.map(|said| &differing(before.find(key), said).origin);
        let origin = place.filter(|place| agents.iter().any(|layer| layer.node.origin.source == place.source));
        let origin = origin.unwrap_or(&agents[0].node.origin).clone();
        let text = "is obeyed by an agent that root starts only in a file that belongs to root and that nobody else may \
                    write; say it in the integrator's directory, or give the file to root";
        problems.add(origin, key, text);
    }
}

/// The first value within `after` that is another one than before.
fn differing<'a>(before: Option<&Node>, after: &'a Node) -> &'a Node {
    let same = |before: Option<&Node>, after: &Node| before.map(Node::to_json) == Some(after.to_json());
    let mut members =
        after.members().iter().map(|member| (before.and_then(|node| node.get(&member.key)), &member.node));
    members.find(|(before, after)| !same(*before, after)).map_or(after, |(before, after)| differing(before, after))
}

/// Files cannot say where they are looked for.
fn refuse_own_place(tree: &Node, problems: &mut Problems) {
    for (key, instead) in
        [("directories.share", "IOTO_DIRECTORIES_SHARE"), ("directories.config", "--config or IOTO_DIRECTORIES_CONFIG")]
    {
        if let Some(node) = tree.find(key) {
            let text = format!("decides which files are read, so no file can say it; expected {instead}");
            problems.add(node.origin.clone(), key, text);
        }
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::super::json5;
    use super::*;

    /// A configuration that says every key.
    fn everything() -> String {
        let reader = Reader::new(Path::new("/"));
        Config::read(&Node::object(Origin::default()), &reader);
        let (entries, ..) = reader.finish();
        Effective::new(entries).to_json5(false)
    }

    fn load_text(text: &str) -> Result<Config, Problems> {
        let reader = Reader::new(Path::new("/"));
        let source = Source::File(Path::new("/etc/ioto/ioto.json5").into());
        let node = json5::parse(text, &source).map_err(|error| {
            let mut problems = Problems::default();
            problems.extend([error.into()]);
            problems
        })?;
        let mut problems = Problems::default();
        let mut tree = Node::object(Origin::default());
        blend_file(&mut tree, node, None, "dev", &mut problems);
        let config = Config::read(&tree, &reader);
        config.check(&tree, &reader);
        problems.append(Unread::find(&tree, &reader.keys()).0);
        problems.append(reader.finish().1);
        if problems.is_empty() { Ok(config) } else { Err(problems) }
    }

    #[test]
    fn the_defaults_that_are_shown_are_the_defaults() {
        let shown = load_text(&everything().replace("/etc/ioto/schema.json5", "/proc/self/comm")).unwrap();
        let mut default = Config::default();
        default.database.schema = "/proc/self/comm".into();
        assert_eq!(format!("{shown:?}"), format!("{default:?}"));
    }

    #[test]
    fn no_configuration_makes_the_reading_panic() {
        let seed = std::env::var("SEED").ok().and_then(|seed| seed.parse().ok()).unwrap_or_else(|| fastrand::u64(..));
        println!("no_configuration_makes_the_reading_panic: SEED={seed}");
        let mut rng = fastrand::Rng::with_seed(seed);
        let values = [
            "null",
            "true",
            "-1",
            "0",
            "1e300",
            "NaN",
            "-Infinity",
            "''",
            "'\\0'",
            "'@'",
            "'@state'",
            "'é mins'",
            "'1e9 years'",
            "'9999999999999999999g'",
            "'unlimited'",
            "'never'",
            "'http://['",
            "'mqtt://:'",
            "'unix:@state/x'",
            "[]",
            "[[]]",
            "[null]",
            "['', {}]",
            "[{match: 5, methods: ['a b']}]",
            "[{filter: '#/', qos: 7}]",
            "{}",
            "{'': '', 'é': 5, '-a': null}",
            "'\\n'",
        ];
        let lines: Vec<String> = everything().lines().map(str::to_owned).collect();
        let mut refused = 0;
        for _ in 0..500 {
            let mut lines = lines.clone();
            for _ in 0..rng.usize(1..4) {
                let line = rng.choice(&mut lines).unwrap();
                if let Some((key, _)) = line.split_once(':').filter(|(_, value)| value.ends_with(',')) {
                    let prefix = rng.choice(["", "", "", "+", "-", "=", "?", "_", "x"]).unwrap();
                    *line = format!("'{prefix}{}': {},", key.trim(), rng.choice(values).unwrap());
                }
            }
            if let Err(problems) = load_text(&lines.join("\n")) {
                assert!(problems.iter().all(|problem| problem.to_string().lines().count() == 1), "{problems}");
                refused += 1;
            }
        }
        assert!(refused > 100, "{refused} of 500 were refused: that proves little");
    }
}
