//! The file that is written, whole or not at all.

use std::fs::{self, File};
use std::io::{ErrorKind, Write};
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, anyhow, bail};

/// Refuses a place where nothing can be written, or something is already, before anything is asked.
pub fn refuse_to_overwrite(file: &Path, force: bool) -> Result<()> {
    if let Some(folder) = file.parent().filter(|folder| !folder.as_os_str().is_empty() && !folder.is_dir()) {
        bail!("there is no folder {} to write {} into: make it first", folder.display(), file.display());
    }
    if file.is_dir() {
        bail!("{} is a folder: give --out the name of a file", file.display());
    }
    if !force && file.symlink_metadata().is_ok() {
        return Err(is_there(file));
    }
    Ok(())
}

/// Writes it beside its place first and moves it there, so that what is there stays whole until all of the new is.
pub fn write(file: &Path, text: &str, force: bool) -> Result<()> {
    let beside = beside(file);
    let written = fill(&beside, text).and_then(|()| moved(&beside, file, force));
    // What could not be moved is of no use; whether it is there is not known.
    let _ = fs::remove_file(&beside);
    written
}

fn fill(beside: &Path, text: &str) -> Result<()> {
    let failed = || format!("failed to write {}", beside.display());
    let mut new = File::create(beside).with_context(failed)?;
    new.write_all(text.as_bytes()).and_then(|()| new.sync_all()).with_context(failed)
}

fn moved(beside: &Path, file: &Path, force: bool) -> Result<()> {
    let done = if force { fs::rename(beside, file) } else { fs::hard_link(beside, file) };
    match done {
        // Somebody else has written it since it was looked for.
        Err(error) if error.kind() == ErrorKind::AlreadyExists => Err(is_there(file)),
        done => done.with_context(|| format!("failed to write {}", file.display())),
    }
}

fn beside(file: &Path) -> PathBuf {
    let name = file.file_name().unwrap_or_default().to_string_lossy();
    file.with_file_name(format!(".{name}.{}", std::process::id()))
}

fn is_there(file: &Path) -> anyhow::Error {
    anyhow!(
        "{} is there already, and was not changed: give another name with --out, or overwrite it with --force",
        file.display()
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_there_is_only_replaced_by_force_and_nothing_is_left_beside_it() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("shiftgate.yaml");
        let names = || -> Vec<String> {
            let entries = fs::read_dir(folder.path()).unwrap();
            entries.map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect()
        };
        refuse_to_overwrite(&file, false).unwrap();
        write(&file, "one", false).unwrap();
        let refused = [refuse_to_overwrite(&file, false), write(&file, "two", false)];
        for refused in refused {
            let told = refused.unwrap_err().to_string();
            assert!(
                told.contains("is there already, and was not changed") && told.contains("--force"),
                "{told}"
            );
        }
        assert_eq!(fs::read_to_string(&file).unwrap(), "one");
        refuse_to_overwrite(&file, true).unwrap();
        write(&file, "two", true).unwrap();
        assert_eq!(fs::read_to_string(&file).unwrap(), "two");
        assert_eq!(names(), ["shiftgate.yaml"]);
    }

    #[test]
    fn a_folder_that_is_none_is_told_and_one_that_is_is_no_file() {
        let folder = tempfile::tempdir().unwrap();
        let told = |error: anyhow::Error| format!("{error:#}");
        let missing = folder.path().join("no/such.yaml");
        let refused = refuse_to_overwrite(&missing, true).unwrap_err();
        assert!(told(refused).starts_with("there is no folder "), "not told");
        assert!(
            told(write(&missing, "one", true).unwrap_err()).starts_with("failed to write "),
            "no context"
        );
        refuse_to_overwrite(Path::new("of-this-folder.yaml"), false).unwrap();
        for force in [false, true] {
            let refused = refuse_to_overwrite(folder.path(), force).unwrap_err();
            assert!(told(refused).contains("is a folder"), "{force}");
        }
    }
}
