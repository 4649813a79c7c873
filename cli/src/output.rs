//! Results appear whole or not at all: they are written beside their place, then moved there.

use anyhow::{Context, Result, bail};
use std::collections::HashSet;
use std::fs;
use std::io::Write;
use std::path::{Path, PathBuf};
use tempfile::TempDir;

/// The file that says what a folder of ours holds.
pub const MANIFEST: &str = "labels.json";

/// Writes a file, replacing the one that was there; of a link, the one that it leads to.
///
/// Pipes and devices are written to: there is nothing to replace.
pub fn write_file(path: &Path, bytes: &[u8]) -> Result<()> {
    let name = path.display();
    let cannot_write = || format!("{name}: cannot write");
    if let Ok(present) = fs::metadata(path)
        && !present.is_file()
    {
        if present.is_dir() {
            bail!("{name}: is a folder");
        }
        let mut stream = fs::OpenOptions::new().write(true).open(path).with_context(cannot_write)?;
        return stream.write_all(bytes).with_context(cannot_write);
    }
    let path = followed(path).with_context(cannot_write)?;
    let Some(file_name) = path.file_name() else { bail!("{name}: is a folder") };
    let temp = temp_dir(&path)?;
    let new = temp.path().join(file_name);
    fs::write(&new, bytes).with_context(cannot_write)?;
    fs::rename(&new, &path).with_context(cannot_write)
}

/// Where a path's links lead to, whether there is a file or not.
fn followed(path: &Path) -> std::io::Result<PathBuf> {
    let mut path = path.to_owned();
    // As many as Linux follows.
    for _ in 0..40 {
        if !path.is_symlink() {
            return Ok(path);
        }
        let goal = fs::read_link(&path)?;
        path = path.parent().unwrap_or(Path::new("")).join(goal);
    }
    Err(std::io::Error::other("its links lead to no end"))
}

/// A folder of results.
pub struct OutputDir {
    target: PathBuf,
    /// Holds `new`; beside the target, so that moving is renaming.
    temp: TempDir,
    /// What an earlier run left in the target, and goes when this one is done.
    stale: Vec<PathBuf>,
}

impl OutputDir {
    /// Makes a place to write to.
    ///
    /// # Errors
    /// If `target` holds files that are not the results of an earlier run; `force` leaves these where they are.
    pub fn new(target: &Path, force: bool) -> Result<Self> {
        let name = target.display();
        let mut stale = Vec::new();
        if target.exists() {
            let present = files(target).with_context(|| format!("{name}: cannot read"))?;
            let ours = ours(target);
            let (old, foreign): (Vec<_>, Vec<_>) = present.into_iter().partition(|file| ours.contains(file));
            if let (Some(file), false) = (foreign.first(), force) {
                bail!(
                    "{name}: is not empty and holds {}, which miamix did not write; choose another folder, or \
                     --force to write beside it",
                    file.display()
                );
            }
            stale = old;
        }
        let temp = temp_dir(target)?;
        fs::create_dir(temp.path().join("new")).with_context(|| format!("{name}: cannot write beside it"))?;
        Ok(OutputDir { target: target.to_owned(), temp, stale })
    }

    /// Where to write.
    pub fn path(&self) -> PathBuf {
        self.temp.path().join("new")
    }

    /// Moves what was written to its place; what else an earlier run left there goes.
    ///
    /// # Errors
    /// If a folder lies where a file goes, or a file where a folder goes: nothing has changed then.
    pub fn publish(self) -> Result<()> {
        let (new, target) = (self.path(), &self.target);
        let cannot_write = || format!("{}: cannot write", target.display());
        if !target.exists() {
            return fs::rename(&new, target).with_context(cannot_write);
        }
        if let Some(conflict) = conflict(&new, target).with_context(cannot_write)? {
            let (present, wanted) = if conflict.is_dir() { ("folder", "file") } else { ("file", "folder") };
            bail!("{}: is a {present}, where a {wanted} is to go", conflict.display());
        }
        let written: HashSet<_> = files(&new).with_context(cannot_write)?.into_iter().collect();
        move_into(&new, target).with_context(cannot_write)?;
        let mut stale = self.stale.iter().filter(|file| !written.contains(*file));
        stale.try_for_each(|file| fs::remove_file(target.join(file))).with_context(cannot_write)
    }
}

/// A temporary folder beside `target`, whose parents are made.
fn temp_dir(target: &Path) -> Result<TempDir> {
    let parent = match target.canonicalize() {
        // A folder such as `.` has no name, but a parent.
        Ok(target) => target.parent().map(Path::to_owned).unwrap_or(target),
        Err(_) => match target.parent() {
            Some(parent) if parent != Path::new("") => parent.to_owned(),
            _ => PathBuf::from("."),
        },
    };
    let made =
        fs::create_dir_all(&parent).and_then(|()| tempfile::Builder::new().prefix(".miamix-").tempdir_in(&parent));
    made.with_context(|| format!("{}: cannot write beside it", target.display()))
}

/// The files that the folder's manifest says are ours, by their path in it.
pub fn ours(dir: &Path) -> HashSet<PathBuf> {
    #[derive(serde::Deserialize)]
    struct Manifest {
        producer: String,
        files: HashSet<PathBuf>,
    }
    let manifest = fs::read_to_string(dir.join(MANIFEST)).ok().and_then(|text| serde_json::from_str(&text).ok());
    match manifest {
        Some(Manifest { producer, files }) if producer.starts_with("miamix ") => files,
        _ => HashSet::new(),
    }
}

/// Every file in a folder and the folders in it, by its path in it, sorted.
fn files(dir: &Path) -> std::io::Result<Vec<PathBuf>> {
    let mut found = Vec::new();
    for entry in fs::read_dir(dir)? {
        let entry = entry?;
        let name = PathBuf::from(entry.file_name());
        if entry.file_type()?.is_dir() {
            found.extend(files(&entry.path())?.into_iter().map(|file| name.join(file)));
        } else {
            found.push(name);
        }
    }
    found.sort();
    Ok(found)
}

/// What lies in one folder where it keeps a file or folder of another one from going there.
fn conflict(from: &Path, to: &Path) -> std::io::Result<Option<PathBuf>> {
    for entry in fs::read_dir(from)? {
        let entry = entry?;
        let target = to.join(entry.file_name());
        if !target.exists() {
            continue;
        }
        let found = match (entry.file_type()?.is_dir(), target.is_dir()) {
            (true, true) => conflict(&entry.path(), &target)?,
            (false, false) => None,
            _ => Some(target),
        };
        if found.is_some() {
            return Ok(found);
        }
    }
    Ok(None)
}

/// Moves the files of one folder into another, folder by folder.
fn move_into(from: &Path, to: &Path) -> std::io::Result<()> {
    for entry in fs::read_dir(from)? {
        let entry = entry?;
        let target = to.join(entry.file_name());
        if entry.file_type()?.is_dir() && target.is_dir() {
            move_into(&entry.path(), &target)?;
        } else {
            fs::rename(entry.path(), target)?;
        }
    }
    Ok(())
}
