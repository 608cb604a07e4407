//! Filter patterns of CloudWatch Logs, as far as the lab knows them: nothing, `{ $.key = "value" && ... }`, or several of these
//! in parentheses with `||` between them.

use serde_json::Value;

/// A pattern: of one of these, all keys have their values. Without any it matches every event.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Pattern(Vec<Vec<Term>>);

/// A key, as its path, with its value.
type Term = (Vec<String>, Value);

impl Pattern {
    /// Reads a pattern; the error says what the lab does not know.
    pub fn read(text: &str) -> Result<Self, String> {
        let text = text.trim();
        if text.is_empty() {
            return Ok(Self(Vec::new()));
        }
        let inner = text.strip_prefix('{').and_then(|text| text.strip_suffix('}'));
        let inner = inner.ok_or("the lab knows only `{ $.key = \"value\" && ... }`")?;
        inner
            .split("||")
            .map(|one| all_of(without_parentheses(one.trim())))
            .collect::<Result<_, _>>()
            .map(Self)
    }

    /// Whether an event is one of those. What is no JSON matches no term.
    pub fn matches(&self, message: &str) -> bool {
        if self.0.is_empty() {
            return true;
        }
        let Ok(event) = serde_json::from_str::<Value>(message) else { return false };
        self.0.iter().any(|terms| {
            terms.iter().all(|(path, expected)| {
                let found = path.iter().try_fold(&event, |value, key| value.get(key));
                found == Some(expected)
            })
        })
    }
}

fn without_parentheses(text: &str) -> &str {
    text.strip_prefix('(').and_then(|text| text.strip_suffix(')')).map_or(text, str::trim)
}

/// Terms with `&&` between them.
fn all_of(text: &str) -> Result<Vec<Term>, String> {
    let mut rest = text;
    let mut terms = Vec::new();
    loop {
        let (term, behind) = term(rest)?;
        terms.push(term);
        match behind.trim_start() {
            "" => return Ok(terms),
            behind => {
                let next = behind.strip_prefix("&&");
                rest = next.ok_or_else(|| format!("`&&` is expected at `{behind}`"))?.trim_start();
            }
        }
    }
}

/// A term at the beginning of the text, and what follows it.
fn term(text: &str) -> Result<(Term, &str), String> {
    let selector = text.strip_prefix("$.").ok_or_else(|| format!("`$.` is expected at `{text}`"))?;
    let end = selector.find(|c: char| !(c.is_ascii_alphanumeric() || "._-".contains(c)));
    let (path, behind) = selector.split_at(end.unwrap_or(selector.len()));
    let behind = behind.trim_start();
    let value =
        behind.strip_prefix('=').ok_or_else(|| format!("`=` is expected at `{behind}`"))?.trim_start();
    let (value, behind) = if let Some(quoted) = value.strip_prefix('"') {
        let (value, behind) = quoted.split_once('"').ok_or("a quotation mark has no end")?;
        (Value::from(value), behind)
    } else {
        let (value, behind) = value.split_at(value.find([' ', '&']).unwrap_or(value.len()));
        (serde_json::from_str(value).map_err(|_| format!("`{value}` is no value"))?, behind)
    };
    // `*` would match any text, which the lab does not.
    if path.is_empty() || value.as_str().is_some_and(|value| value.contains('*')) {
        return Err(format!("the lab does not know `{text}`"));
    }
    Ok(((path.split('.').map(str::to_owned).collect(), value), behind))
}
