//! One look of the judge, from counts to findings, for whoever measures it: `look MINUTES REQUESTS [COMPARISONS]`. Prints the
//! outcomes.

mod windows;

use std::io::Write;

use windows::Look;

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let mut arguments = std::env::args().skip(1);
    let mut next = || arguments.next();
    let (minutes, requests) = next().zip(next()).ok_or("usage: look MINUTES REQUESTS [COMPARISONS]")?;
    let comparisons = next().map(|comparisons| comparisons.parse()).transpose()?;
    let findings = Look::new(minutes.parse()?, requests.parse()?, comparisons).judged();
    let mut out = std::io::stdout().lock();
    for finding in findings {
        writeln!(out, "{}: {}: {}", finding.check, finding.outcome, finding.summary)?;
    }
    Ok(())
}
