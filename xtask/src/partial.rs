//! Folders that are there whole or not at all.

use anyhow::{Context, Result};
use std::fs;
use std::path::{Path, PathBuf};

/// A folder under another name while it is made; removed unless it is finished.
pub struct Partial {
    path: PathBuf,
    goal: PathBuf,
}

impl Partial {
    /// Beside `goal`, so that moving it there is one step.
    pub fn of(goal: &Path) -> Result<Self> {
        let name = goal.file_name().with_context(|| format!("{} names no folder", goal.display()))?.to_string_lossy();
        let path = goal.with_file_name(format!(".{name}.partial-{}", std::process::id()));
        if path.exists() {
            fs::remove_dir_all(&path)?;
        }
        fs::create_dir_all(&path).with_context(|| format!("cannot make {}", path.display()))?;
        Ok(Partial { path, goal: goal.to_owned() })
    }

    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Puts the folder in the place of the goal.
    pub fn replace(self) -> Result<()> {
        let old = self.path.with_extension("old");
        if self.goal.exists() {
            fs::rename(&self.goal, &old).with_context(|| format!("cannot move {}", self.goal.display()))?;
        }
        fs::rename(&self.path, &self.goal).with_context(|| format!("cannot make {}", self.goal.display()))?;
        if old.exists() {
            fs::remove_dir_all(&old)?;
        }
        Ok(())
    }

    /// Moves the files into the goal, beside what else may be there.
    pub fn merge(self) -> Result<()> {
        fs::create_dir_all(&self.goal).with_context(|| format!("cannot make {}", self.goal.display()))?;
        for entry in fs::read_dir(&self.path)? {
            let entry = entry?;
            let goal = self.goal.join(entry.file_name());
            fs::rename(entry.path(), &goal).with_context(|| format!("cannot write {}", goal.display()))?;
        }
        Ok(())
    }
}

impl Drop for Partial {
    fn drop(&mut self) {
        if self.path.exists() {
            let _ = fs::remove_dir_all(&self.path);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn folder(name: &str) -> PathBuf {
        let path = std::env::temp_dir().join(format!("miamix-xtask-{}-{name}", std::process::id()));
        fs::create_dir_all(&path).unwrap();
        path
    }

    #[test]
    fn an_abandoned_folder_leaves_nothing() {
        let folder = folder("abandoned");
        let partial = Partial::of(&folder.join("goal")).unwrap();
        fs::write(partial.path().join("half"), "x").unwrap();
        drop(partial);
        assert_eq!(fs::read_dir(&folder).unwrap().count(), 0);
        fs::remove_dir(folder).unwrap();
    }

    #[test]
    fn replacing_drops_what_was_there_and_merging_keeps_it() {
        let folder = folder("finished");
        let goal = folder.join("goal");
        for (name, merge, expected) in [("a", false, 1), ("b", false, 1), ("c", true, 2), ("c", true, 2)] {
            let partial = Partial::of(&goal).unwrap();
            fs::write(partial.path().join(name), name).unwrap();
            if merge { partial.merge() } else { partial.replace() }.unwrap();
            assert_eq!(fs::read_to_string(goal.join(name)).unwrap(), name);
            assert_eq!(fs::read_dir(&goal).unwrap().count(), expected);
            assert_eq!(fs::read_dir(&folder).unwrap().count(), 1);
        }
        fs::remove_dir_all(folder).unwrap();
    }
}
