//! Every input that is checked in, and mutations of it, the same ones in every run. A fuzzer finds more; this keeps what it
//! found, and needs nothing but `cargo test`.

#![allow(
    clippy::unwrap_used,
    clippy::print_stdout,
    clippy::manual_assert,
    clippy::disallowed_methods,
    reason = "a test file"
)]

use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use rand::seq::IndexedRandom;
use rand::{Rng, RngExt, SeedableRng};
use rand_pcg::Pcg64Mcg;
use shiftgate_fuzz_targets::{TARGETS, Target};

/// Mutations for each target, as long as they take no longer than the time. The environment may ask for more of them, from
/// another seed, and then there is no time limit.
const MUTATIONS: u64 = 4_000;
const AT_MOST: Duration = Duration::from_secs(8);
/// For some of the targets, for example `MUTATE=policy,yaml:10000000:7` (names, number, seed).
const ASKED: &str = "MUTATE";
/// Inputs whose names begin so take a hundred times as long as others: they are tried as they are, and not mutated.
const SLOW: &str = "slow-";
/// Mutations between two lines of progress.
const TELL_EVERY: u64 = 100_000;
/// What formats are made of, and what breaks them.
const PIECES: [&str; 16] = [
    "[",
    "{",
    "\"",
    ": ",
    "- ",
    "&a ",
    "*a",
    "null",
    "-1",
    "1e308",
    "0.1",
    "9223372036854775807",
    "%",
    "\n",
    "---\n",
    "\u{feff}",
];

#[test]
fn what_must_hold_holds_of_every_input_and_its_mutations() {
    let asked = std::env::var(ASKED).ok().map(|text| Asked::parse(&text));
    std::thread::scope(|scope| {
        for (name, target) in TARGETS {
            let asked = asked.clone();
            if asked.as_ref().is_none_or(|asked| asked.targets.iter().any(|target| target == name)) {
                scope.spawn(move || check(name, target, asked.as_ref()));
            }
        }
    });
}

/// What somebody wants to see mutated.
#[derive(Clone)]
struct Asked {
    targets: Vec<String>,
    mutations: u64,
    seed: u64,
}

impl Asked {
    fn parse(text: &str) -> Self {
        let [targets, mutations, seed] = text.split(':').collect::<Vec<_>>().try_into().unwrap();
        let targets = targets.split(',').map(str::to_owned).collect();
        Self { targets, mutations: mutations.parse().unwrap(), seed: seed.parse().unwrap() }
    }
}

fn check(name: &str, target: Target, asked: Option<&Asked>) {
    let corpus = corpus(name);
    assert!(!corpus.is_empty(), "{name} has no corpus");
    for (path, input) in &corpus {
        println!("{name}: {}", path.display());
        target(input);
    }
    let corpus: Vec<_> = corpus.into_iter().filter(|(path, _)| !is_slow(path)).collect();
    let (mutations, seed) = asked.map_or((MUTATIONS, 1), |asked| (asked.mutations, asked.seed));
    let mut random = Pcg64Mcg::seed_from_u64(seed);
    let began = now();
    for done in 0..mutations {
        let (_, one) = corpus.choose(&mut random).unwrap();
        let (_, other) = corpus.choose(&mut random).unwrap();
        let input = mutated(one, other, &mut random);
        if std::panic::catch_unwind(|| target(&input)).is_err() {
            panic!(
                "{name}: keep this in fuzz/corpus/{name}, and mend it: {:?}",
                String::from_utf8_lossy(&input)
            );
        }
        let lasted = now() - began;
        if asked.is_none() && lasted > AT_MOST {
            return;
        }
        if asked.is_some() && (done + 1) % TELL_EVERY == 0 {
            println!("{name}: {} mutations of seed {seed} in {} s", done + 1, lasted.as_secs());
        }
    }
}

fn corpus(name: &str) -> Vec<(PathBuf, Vec<u8>)> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../corpus").join(name);
    let files = std::fs::read_dir(&folder).unwrap_or_else(|error| panic!("{}: {error}", folder.display()));
    let mut paths: Vec<PathBuf> = files.map(|file| file.unwrap().path()).collect();
    paths.sort();
    paths.into_iter().map(|path| (path.clone(), std::fs::read(path).unwrap())).collect()
}

fn is_slow(path: &Path) -> bool {
    path.file_name().is_some_and(|name| name.to_string_lossy().starts_with(SLOW))
}

/// One to four small changes: a byte, a piece of a format, a cut, or the end of another input.
fn mutated(one: &[u8], other: &[u8], random: &mut impl Rng) -> Vec<u8> {
    let mut input = one.to_vec();
    for _ in 0..random.random_range(1..=4) {
        let at = random.random_range(0..=input.len());
        match random.random_range(0..6) {
            0 if at < input.len() => input[at] = random.random(),
            1 if at < input.len() => input[at] ^= 1 << random.random_range(0..8),
            2 => drop(input.splice(at..at, PIECES.choose(random).unwrap().bytes())),
            3 => drop(input.drain(at..(at + random.random_range(0..16)).min(input.len()))),
            4 => input.truncate(at),
            _ => {
                input.truncate(at);
                input.extend(&other[random.random_range(0..=other.len())..]);
            }
        }
    }
    input
}

#[expect(clippy::disallowed_methods, reason = "a test that ends after a while")]
fn now() -> Instant {
    Instant::now()
}
