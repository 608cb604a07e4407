//! YAML (and JSON, its subset) that knows the line of every key, and tells all faults of a document at once.

use std::collections::BTreeMap;
use std::fmt;

use saphyr::{LoadableYamlNode, MarkedYaml, Scalar, YamlData};
use saphyr_parser::{Event, Parser};
use serde::de::DeserializeOwned;
use serde_json::Value;
use serde_path_to_error::Segment;

/// How many faults are told before reading gives up.
const MOST_FAULTS: usize = 50;
/// Levels of lists and mappings that a document may have: with each of them, whoever reads it takes more of the stack.
const DEEPEST: usize = 64;

/// One fault of a document: where, and what.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize)]
pub struct Problem {
    /// Line in the document, from 1; 0 when the document as a whole is meant.
    pub line: usize,
    /// The key, as `smoke.checks[0].expect`; empty for the document itself.
    pub key: String,
    /// What is wrong, and what would be right.
    pub what: String,
}

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match (self.line, self.key.as_str()) {
            (0, "") => write!(f, "{}", self.what),
            (line, "") => write!(f, "line {line}: {}", self.what),
            (0, key) => write!(f, "{key}: {}", self.what),
            (line, key) => write!(f, "line {line}, {key}: {}", self.what),
        }
    }
}

/// A parsed document. `CloudFormation`'s short tags (`!Sub x`) become `{"Fn::Sub": x}`.
#[derive(Debug, Clone)]
pub struct Document {
    /// The content.
    pub value: Value,
    lines: BTreeMap<String, usize>,
}

impl Document {
    /// Parses one document. An empty text is an empty mapping.
    pub fn parse(text: &str) -> Result<Self, Problem> {
        // At the end of a text the parser is a line further.
        let last = text.trim_end().matches(['\n', '\r']).count() + 1;
        Self::parsed(text).map_err(|problem| Problem { line: problem.line.min(last), ..problem })
    }

    fn parsed(text: &str) -> Result<Self, Problem> {
        check_depth(text)?;
        let nodes = MarkedYaml::load_from_str(text).map_err(|error| Problem {
            line: error.marker().line(),
            key: String::new(),
            what: format!("not valid YAML: {}", error.info()),
        })?;
        let mut lines = BTreeMap::new();
        let value = match nodes.as_slice() {
            [] => Value::Object(serde_json::Map::new()),
            [node] => convert(node, "", &mut lines)?,
            [_, second, ..] => {
                return Err(Problem {
                    line: second.span.start.line(),
                    key: String::new(),
                    what: "more than one document; remove the `---`".into(),
                });
            }
        };
        let value = if value.is_null() { Value::Object(serde_json::Map::new()) } else { value };
        Ok(Self { value, lines })
    }

    /// The line of a key, or of its nearest parent that is in the document; 0 when there is none.
    pub fn line_of(&self, key: &str) -> usize {
        let mut key = key;
        loop {
            if let Some(line) = self.lines.get(key) {
                return *line;
            }
            match key.rfind(['.', '[']) {
                Some(end) => key = &key[..end],
                None => return 0,
            }
        }
    }

    /// Takes the keys with nothing behind them out of the document, and tells each: left out is not what somebody means who writes
    /// a key. Below the keys `free` anything may stand.
    pub fn take_empty(&mut self, free: &[&str]) -> Vec<Problem> {
        let mut keys = Vec::new();
        take_nulls(&mut self.value, "", free, &mut keys);
        let what = "nothing stands behind it; write a value (further in than the key, if it has lines of its own), or remove the key";
        keys.into_iter().map(|key| Problem { line: self.line_of(&key), key, what: what.to_owned() }).collect()
    }

    /// Reads the document into `T` and tells every fault: a faulty key is noted, struck out, and the rest read
    /// again. `T` must accept an empty mapping; what could not be read stays at its default.
    pub fn read<T: DeserializeOwned + Default>(&self) -> (T, Vec<Problem>) {
        let mut value = self.value.clone();
        let mut problems: Vec<Problem> = Vec::new();
        for _ in 0..MOST_FAULTS {
            let error = match serde_path_to_error::deserialize::<_, T>(value.clone()) {
                Ok(read) => return (read, problems),
                Err(error) => error,
            };
            let path: Vec<Segment> = error.path().iter().cloned().collect();
            let key = path_text(&path);
            let again = problems.iter().any(|problem| problem.key == key);
            if !again {
                let what = for_people(&with_suggestion(&error.inner().to_string()));
                problems.push(Problem { line: self.line_of(&key), key, what });
            }
            if !strike_out(&mut value, &path, again) {
                break;
            }
        }
        (T::default(), problems)
    }
}

fn take_nulls(value: &mut Value, key: &str, free: &[&str], taken: &mut Vec<String>) {
    match value {
        Value::Object(map) => map.retain(|name, value| {
            let mut key = key.to_owned();
            push_key(&mut key, name);
            if value.is_null() {
                taken.push(key);
                return false;
            }
            if !free.contains(&name.as_str()) {
                take_nulls(value, &key, free, taken);
            }
            true
        }),
        Value::Array(items) => {
            for (index, item) in items.iter_mut().enumerate() {
                take_nulls(item, &format!("{key}[{index}]"), free, taken);
            }
        }
        _ => {}
    }
}

/// Serde's words, which are those of programmers, in the words of YAML.
fn for_people(message: &str) -> String {
    [
        ("unknown field", "unknown key"),
        ("unknown variant", "unknown word"),
        ("a sequence", "a list"),
        ("sequence", "list"),
    ]
    .iter()
    .fold(message.to_owned(), |message, (theirs, ours)| message.replace(theirs, ours))
}

/// Adds "did you mean" to serde's list of the keys it knows.
pub(crate) fn with_suggestion(message: &str) -> String {
    let quoted: Vec<&str> = message.split('`').skip(1).step_by(2).collect();
    let (Some((wrong, known)), true) = (quoted.split_first(), message.starts_with("unknown ")) else {
        return message.to_owned();
    };
    let nearest = known
        .iter()
        .map(|candidate| (strsim::damerau_levenshtein(wrong, candidate), candidate))
        .min()
        .filter(|(distance, candidate)| *distance <= candidate.len().div_ceil(3));
    match nearest {
        // One that is near says more than all of them.
        Some((_, candidate)) => {
            let told = message.split_once(", expected").map_or(message, |(told, _)| told);
            let place = message.rfind(" at line ").map_or("", |at| &message[at..]);
            format!("{told}{place}; did you mean `{candidate}`?")
        }
        None => message.to_owned(),
    }
}

fn path_text(path: &[Segment]) -> String {
    let mut text = String::new();
    for segment in path {
        match segment {
            Segment::Seq { index } => {
                text.push('[');
                text.push_str(&index.to_string());
                text.push(']');
            }
            Segment::Map { key } => push_key(&mut text, key),
            Segment::Enum { .. } | Segment::Unknown => {}
        }
    }
    text
}

fn push_key(text: &mut String, key: &str) {
    if !text.is_empty() {
        text.push('.');
    }
    text.push_str(key);
}

/// Takes the node at `path` out of `value`; false when there is none to take. An item of a list leaves an empty
/// stand-in (so that later items keep their numbers): a mapping first, and on the second attempt a text.
fn strike_out(value: &mut Value, path: &[Segment], again: bool) -> bool {
    let mut steps: Vec<&Segment> =
        path.iter().filter(|segment| matches!(segment, Segment::Map { .. } | Segment::Seq { .. })).collect();
    let Some(last) = steps.pop() else { return false };
    let mut node = value;
    for step in steps {
        let next = match step {
            Segment::Map { key } => node.get_mut(key),
            Segment::Seq { index } => node.get_mut(index),
            Segment::Enum { .. } | Segment::Unknown => None,
        };
        let Some(next) = next else { return false };
        node = next;
    }
    match (last, node) {
        (Segment::Map { key }, Value::Object(map)) => map.remove(key).is_some(),
        (Segment::Seq { index }, Value::Array(items)) => items.get_mut(*index).is_some_and(|item| {
            let stand_in = if again { Value::from("") } else { Value::Object(serde_json::Map::new()) };
            let changed = *item != stand_in;
            *item = stand_in;
            changed
        }),
        _ => false,
    }
}

/// Refuses what is nested too deeply, before anything follows it down. An alias is as deep as what it stands for.
fn check_depth(text: &str) -> Result<(), Problem> {
    // Of all that is open: its anchor, and the levels within.
    let mut open: Vec<(usize, usize)> = Vec::new();
    let mut of_anchors: BTreeMap<usize, usize> = BTreeMap::new();
    for event in Parser::new_from_str(text) {
        // Whoever reads it tells what is wrong.
        let Ok((event, span)) = event else { return Ok(()) };
        let levels = match event {
            Event::SequenceStart(anchor, _) | Event::MappingStart(anchor, _) => {
                open.push((anchor, 0));
                0
            }
            Event::SequenceEnd | Event::MappingEnd => {
                let (anchor, within) = open.pop().unwrap_or_default();
                of_anchors.insert(anchor, within + 1);
                within + 1
            }
            Event::Alias(anchor) => of_anchors.get(&anchor).copied().unwrap_or_default(),
            _ => 0,
        };
        if open.len() + levels > DEEPEST {
            let what = format!("nested more than {DEEPEST} levels deep");
            return Err(Problem { line: span.start.line(), key: String::new(), what });
        }
        if let Some((_, within)) = open.last_mut() {
            *within = levels.max(*within);
        }
    }
    Ok(())
}

fn convert(node: &MarkedYaml, key: &str, lines: &mut BTreeMap<String, usize>) -> Result<Value, Problem> {
    // The first line wins: a mapping starts where its key stands, which its parent has noted already.
    lines.entry(key.to_owned()).or_insert_with(|| node.span.start.line());
    let problem =
        |what: &str| Problem { line: node.span.start.line(), key: key.to_owned(), what: what.to_owned() };
    match &node.data {
        YamlData::Value(Scalar::Null) => Ok(Value::Null),
        YamlData::Value(Scalar::Boolean(value)) => Ok(Value::from(*value)),
        YamlData::Value(Scalar::Integer(value)) => Ok(Value::from(*value)),
        // JSON has no other numbers: they would silently become null, which is a key that was left out.
        YamlData::Value(Scalar::FloatingPoint(value)) => {
            let number = serde_json::Number::from_f64(value.into_inner());
            number.map(Value::Number).ok_or_else(|| problem("not a finite number"))
        }
        YamlData::Value(Scalar::String(value)) => Ok(Value::from(value.as_ref())),
        YamlData::Sequence(items) => items
            .iter()
            .enumerate()
            .map(|(index, item)| convert(item, &format!("{key}[{index}]"), lines))
            .collect::<Result<_, _>>()
            .map(Value::Array),
        YamlData::Mapping(map) => {
            let mut object = serde_json::Map::new();
            for (name, item) in map {
                let name = match convert(name, &format!("{key}?"), &mut BTreeMap::new())? {
                    Value::String(text) => (text, name.span.start.line()),
                    Value::Number(number) => (number.to_string(), name.span.start.line()),
                    Value::Bool(flag) => (flag.to_string(), name.span.start.line()),
                    _ => return Err(problem("a key must be a text")),
                };
                let mut path = key.to_owned();
                push_key(&mut path, &name.0);
                lines.insert(path.clone(), name.1);
                if object.contains_key(&name.0) {
                    // The parser finds equal nodes; `1` and `"1"` become one key only here.
                    let what = "the key is given twice".to_owned();
                    return Err(Problem { line: name.1, key: path, what });
                }
                object.insert(name.0, convert(item, &path, lines)?);
            }
            Ok(Value::Object(object))
        }
        YamlData::Tagged(tag, inner) => {
            let name = match tag.suffix.as_str() {
                "Ref" | "Condition" => tag.suffix.clone(),
                suffix => format!("Fn::{suffix}"),
            };
            let mut path = key.to_owned();
            push_key(&mut path, &name);
            lines.insert(path.clone(), node.span.start.line());
            let inner = convert(inner, &path, lines)?;
            Ok(Value::Object([(name, inner)].into_iter().collect()))
        }
        YamlData::Representation(..) | YamlData::Alias(_) | YamlData::BadValue => {
            Err(problem("this YAML construct is not understood; write the value out"))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde::Deserialize;

    #[derive(Debug, Default, Deserialize, PartialEq)]
    #[serde(deny_unknown_fields, default)]
    struct Shop {
        name: Option<String>,
        open: Option<bool>,
        shelves: Vec<Shelf>,
    }

    #[derive(Debug, Default, Deserialize, PartialEq)]
    #[serde(deny_unknown_fields, default)]
    struct Shelf {
        size: Option<u32>,
        label: Option<String>,
    }

    fn check(text: &str, expect: &[(usize, &str)]) -> Shop {
        let (shop, problems) = Document::parse(text).unwrap().read::<Shop>();
        let seen: Vec<(usize, &str)> =
            problems.iter().map(|problem| (problem.line, problem.key.as_str())).collect();
        assert_eq!(seen, expect, "{problems:#?}");
        shop
    }

    #[test]
    fn all_faults_are_told_at_once_and_the_rest_is_read() {
        let shop = check(
            "nme: x\nopen: maybe\nshelves:\n  - size: -1\n    label: a\n  - text\n  - size: 3\n    colour: red\n",
            &[(1, "nme"), (2, "open"), (4, "shelves[0].size"), (6, "shelves[1]"), (8, "shelves[2].colour")],
        );
        assert_eq!(shop.shelves[0].label.as_deref(), Some("a"));
        assert_eq!(shop.shelves[2].size, Some(3));
    }

    #[test]
    fn a_wrong_key_gets_a_suggestion() {
        let (_, problems) = Document::parse("nme: x").unwrap().read::<Shop>();
        assert!(problems[0].what.ends_with("did you mean `name`?"), "{}", problems[0]);
    }

    #[test]
    fn json_is_yaml_and_nothing_is_an_empty_mapping() {
        assert_eq!(check("{\"open\": true}", &[]).open, Some(true));
        assert_eq!(check("", &[]), Shop::default());
        assert_eq!(check("# only a comment\n", &[]), Shop::default());
    }

    #[test]
    fn broken_yaml_names_the_line() {
        let problem = Document::parse("open: true\nname: [a\n").unwrap_err();
        assert_eq!(problem.line, 2, "{problem}");
        assert_eq!(Document::parse("open: [a").unwrap_err().line, 1);
        assert_eq!(Document::parse("open: true\n---").unwrap_err().line, 2);
    }

    #[test]
    fn what_is_nested_too_deeply_is_refused_at_its_line() {
        let nested = |levels: usize| "[".repeat(levels) + &"]".repeat(levels);
        assert!(Document::parse(&nested(DEEPEST)).is_ok());
        let refused = |text: &str| {
            let problem = Document::parse(text).unwrap_err();
            assert!(problem.what.contains("64 levels"), "{problem}");
            problem.line
        };
        assert_eq!(refused(&nested(DEEPEST + 1)), 1);
        assert_eq!(refused(&format!("a: 1\nb:\n  {}", "- ".repeat(100_000))), 3);
        // 33 levels of one's own and 33 of an alias.
        let aliased = format!("a: &a {}\nb: {}*a{}\n", nested(33), "[".repeat(33), "]".repeat(33));
        assert_eq!(refused(&aliased), 2);
    }

    #[test]
    fn aliases_do_not_multiply_without_end() {
        let lines = (1..20).map(|level| {
            format!("a{level}: &a{level} [{}]\n", vec![format!("*a{}", level - 1); 9].join(", "))
        });
        let laughs = format!("a0: &a0 [x]\n{}", lines.collect::<String>());
        let problem = Document::parse(&laughs).unwrap_err();
        assert!(problem.what.contains("alias"), "{problem}");
    }

    #[test]
    fn a_number_that_is_none_is_no_missing_key() {
        for text in ["open: .nan", "open: -.inf", "open: 1e999"] {
            assert_eq!(Document::parse(text).unwrap_err().key, "open", "{text}");
        }
    }

    #[test]
    fn a_key_is_given_once() {
        assert!(Document::parse("open: true\nopen: false\n").is_err());
        assert!(Document::parse("{\"1\": true, 1: false}").is_err());
    }

    #[test]
    fn cloudformation_tags_become_functions() {
        let document = Document::parse("a: !Sub '${X}-y'\nb: !GetAtt [F, Arn]\nc: !Ref P\n").unwrap();
        assert_eq!(
            document.value,
            serde_json::json!({"a": {"Fn::Sub": "${X}-y"}, "b": {"Fn::GetAtt": ["F", "Arn"]}, "c": {"Ref": "P"}})
        );
        assert_eq!([document.line_of("a.Fn::Sub"), document.line_of("b.Fn::GetAtt[1]")], [1, 2]);
        assert_eq!(Document::parse("# all of it\n!Sub x\n").unwrap().line_of("Fn::Sub"), 2);
    }

    proptest::proptest! {
        #[test]
        fn no_text_makes_reading_panic(text in "\\PC{0,80}") {
            if let Ok(document) = Document::parse(&text) {
                let _ = document.read::<Shop>();
            }
        }
    }
}
