//! A page in the browser.

use std::path::Path;
use std::process::{Command, Stdio};
use std::time::Duration;

use anyhow::{Context, Result, bail};
use tokio::time::timeout;

/// How long a program may take to say that it cannot open the page. One that goes on for longer is the browser itself.
const PATIENCE: Duration = Duration::from_secs(3);

/// Opens a page with whatever this machine opens pages with; an error when nothing does.
pub async fn open(page: &Path) -> Result<()> {
    let page = page.canonicalize().with_context(|| format!("failed to find {}", page.display()))?;
    for command in open::commands(page) {
        if opens(command, PATIENCE).await {
            return Ok(());
        }
    }
    bail!("no browser could be opened")
}

/// Whether a program takes the page.
async fn opens(command: Command, patience: Duration) -> bool {
    let mut command = tokio::process::Command::from(command);
    // What it prints is nothing that the reader of a report waits for, and a browser for the terminal would never end.
    command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
    let Ok(mut program) = command.spawn() else { return false };
    match timeout(patience, program.wait()).await {
        Ok(ended) => ended.is_ok_and(|status| status.success()),
        Err(_) => true,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_program_opens_a_page_when_it_ends_well_or_goes_on() {
        let opens = async |program: &str, argument: &str, patience| {
            let mut command = Command::new(program);
            command.arg(argument);
            super::opens(command, Duration::from_millis(patience)).await
        };
        assert!(opens("true", "page.html", 10_000).await);
        assert!(!opens("false", "page.html", 10_000).await);
        assert!(!opens("no-such-program-anywhere", "page.html", 10_000).await);
        assert!(opens("sleep", "2", 10).await);
    }
}
