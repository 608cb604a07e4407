//! Folders to write to.

use std::path::Path;

use anyhow::{Context, Result};

/// Makes a folder, and those that it is in, if there is none.
pub fn make(folder: &Path) -> Result<()> {
    std::fs::create_dir_all(folder).with_context(|| format!("failed to make {}", folder.display()))
}

/// Makes the folder that a file will be in.
pub fn of(file: &Path) -> Result<()> {
    file.parent().map_or(Ok(()), make)
}
