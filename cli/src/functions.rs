//! Where the project and its function binaries are.

use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, bail};

/// One of the functions; where it is, the others are too.
const FUNCTION: &str = "before-install";

/// The project's folder: the nearest one above the current folder that has the template and the state machine.
pub fn project() -> Result<PathBuf> {
    let current = std::env::current_dir().context("failed to find the current folder")?;
    let found = current.ancestors().find(|folder| {
        folder.join("template.yaml").is_file() && folder.join("statemachine/watch.asl.json").is_file()
    });
    found
        .map(Path::to_owned)
        .context("run this inside the Shiftgate repository: no template.yaml was found here or above")
}

/// The folder with the function binaries: the given one, or the one that cargo builds them into.
pub fn binaries(project: &Path, given: Option<PathBuf>) -> Result<PathBuf> {
    if let Some(folder) = given {
        return Ok(folder);
    }
    // The whole workspace, as `cargo run` itself: with fewer packages the dependencies would have other features, and
    // be built a second time.
    let mut build = Command::new("cargo");
    build.current_dir(project).args(["build", "--quiet", "--workspace", "--bins"]);
    // What is measured is measured as it is deployed.
    if !cfg!(debug_assertions) {
        build.arg("--release");
    }
    crate::show::error("building what has changed of the functions; the first time takes minutes ...");
    let status =
        build.status().context("failed to run cargo; give the built functions with --functions DIR")?;
    if !status.success() {
        bail!("failed to build the functions");
    }
    // This program stands where cargo puts the functions too.
    let this = std::env::current_exe().context("failed to find this program")?;
    let folder = this.parent().map(Path::to_owned).filter(|folder| folder.join(FUNCTION).is_file());
    Ok(folder.unwrap_or_else(|| project.join("target/debug")))
}
