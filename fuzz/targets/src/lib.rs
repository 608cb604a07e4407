//! What must hold of every input from outside, whoever made it. The fuzzer of `fuzz/` and the test of this crate call the
//! same functions. Each takes any bytes, and panics where something is broken.

mod answers;
mod cloudwatch;
mod discovery;
mod documents;
mod events;
mod recordings;
mod smoke;

/// A function that takes any bytes and panics where something is broken.
pub type Target = fn(&[u8]);

/// All targets, by the names of their corpora.
pub const TARGETS: [(&str, Target); 8] = [
    ("carried", events::carried),
    ("cloudwatch", cloudwatch::cloudwatch),
    ("discovery", discovery::discovery),
    ("events", events::events),
    ("policy", documents::policy),
    ("recordings", recordings::recordings),
    ("smoke", smoke::smoke),
    ("yaml", documents::yaml),
];

/// The target of this name.
///
/// # Panics
///
/// Where there is none.
pub fn target(name: &str) -> Target {
    let found = TARGETS.iter().find(|(known, _)| *known == name);
    found.unwrap_or_else(|| panic!("no target is called {name}")).1
}

/// An input of several parts, which lines of `---` separate.
fn parts(data: &[u8]) -> impl Iterator<Item = &[u8]> {
    let mut rest = Some(data);
    std::iter::from_fn(move || {
        let all = rest?;
        let end = all.windows(SEPARATOR.len()).position(|window| window == SEPARATOR);
        rest = end.map(|end| &all[end + SEPARATOR.len()..]);
        Some(&all[..end.unwrap_or(all.len())])
    })
}

const SEPARATOR: &[u8] = b"\n---\n";
