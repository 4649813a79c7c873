//! Debian's packages, unpacked under `target`: nothing is installed.

use crate::command;
use crate::partial::Partial;
use crate::test::Skip;
use crate::workspace::Workspace;
use anyhow::{Context, Result};
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

/// A list of packages, and from where they come.
pub struct Packages<'a> {
    /// Checksums and file names, as `sha256sum` has them: a file of the tree.
    pub list: &'a str,
    /// The folder under `target` in which they are unpacked.
    pub folder: &'a str,
    /// About what is downloaded.
    pub size: &'a str,
    /// The Debian release that has them, where it may be another than the machine's.
    pub release: Option<&'a str>,
    /// Besides amd64.
    pub architectures: &'a [&'a str],
}

impl Packages<'_> {
    /// The folder in which they lie unpacked; a [`Skip`] where they are not to be had.
    pub fn unpacked(&self, workspace: &Workspace) -> Result<PathBuf> {
        let list = fs::read_to_string(workspace.existing(self.list)?)?;
        let folder = workspace.target.join(self.folder);
        let root = folder.join("root");
        let stamp = root.join("packages");
        if fs::read_to_string(&stamp).is_ok_and(|unpacked| unpacked == list) {
            return Ok(root);
        }
        let partial = Partial::of(&root)?;
        let log = workspace.log(&format!("{}-packages", self.folder));
        self.unpack(&list, partial.path(), &folder.join("apt"), &log)
            .map_err(|error| Skip(format!("Debian's packages of {} are not to be had here: {error:#}", self.list)))?;
        fs::write(partial.path().join("packages"), &list)?;
        partial.replace()?;
        Ok(root)
    }

    fn unpack(&self, list: &str, root: &Path, apt: &Path, log: &Path) -> Result<()> {
        let packages: Vec<String> =
            list.lines().map(package).collect::<Option<_>>().context("a line names no package")?;
        // Lists and packages of these architectures and this release, apart from the system's.
        let (lists, cache, debs) = (apt.join("lists"), apt.join("cache"), apt.join("debs"));
        for folder in [lists.join("partial"), cache.join("archives/partial"), debs.clone()] {
            fs::create_dir_all(folder)?;
        }
        let architectures: String = self.architectures.iter().map(|name| format!(" \"{name}\";")).collect();
        let mut config = format!(
            "Dir::State::lists \"{}\";\nDir::Cache \"{}\";\nAPT::Architectures {{\"amd64\";{architectures}}};\n",
            lists.display(),
            cache.display()
        );
        if let Some(release) = self.release {
            let sources = apt.join("sources.list");
            fs::write(&sources, format!("deb {} {release} main\n", mirror()?))?;
            config += &format!("Dir::Etc::sourcelist \"{}\";\nDir::Etc::sourceparts \"-\";\n", sources.display());
        }
        fs::write(apt.join("config"), config)?;
        let apt_get = || {
            let mut command = Command::new("apt-get");
            command.env("APT_CONFIG", apt.join("config")).current_dir(&debs);
            command
        };
        command::run_quietly("Reading the lists of packages", apt_get().arg("update"), log)?;
        let what = format!("Downloading {} of packages", self.size);
        command::run_quietly(&what, apt_get().arg("download").args(&packages), log)?;
        fs::write(debs.join("sums"), list)?;
        let mut check = Command::new("sha256sum");
        command::run_quietly("Checking them", check.current_dir(&debs).args(["--check", "--strict", "sums"]), log)?;
        for line in list.lines() {
            let deb = line.split_whitespace().nth(1).context("a line names no package")?;
            let mut unpack = Command::new("dpkg-deb");
            command::run(unpack.current_dir(&debs).arg("-x").arg(deb).arg(root))?;
        }
        fs::remove_dir_all(apt)?;
        Ok(())
    }
}

/// From where the machine has the packages of its own release, which serves other releases too.
fn mirror() -> Result<String> {
    let format = ["--format", "$(SITE) $(RELEASE)", "Identifier: Packages", "Component: main"];
    let targets = command::capture(Command::new("apt-get").arg("indextargets").args(format))?;
    // Updates and security, `bookworm-security`, may lie elsewhere.
    let mut releases = targets.lines().filter_map(|line| line.split_once(' ')).filter(|(_, name)| !name.contains('-'));
    Ok(releases.next().context("this machine has no source of packages")?.0.to_owned())
}

/// What apt calls the package of a line: name, architecture and version.
fn package(line: &str) -> Option<String> {
    let file = line.split_whitespace().nth(1)?.strip_suffix(".deb")?;
    let [name, version, architecture] = file.split('_').collect::<Vec<_>>().try_into().ok()?;
    // apt serves what belongs to every architecture under the machine's own.
    let architecture = if architecture == "all" { "amd64" } else { architecture };
    Some(format!("{name}:{architecture}={}", version.replace("%3a", ":")))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn packages_are_named_as_apt_names_them() {
        assert_eq!(package("0a1b  libllvm22_1%3a22.1.8-1_amd64.deb").unwrap(), "libllvm22:amd64=1:22.1.8-1");
        assert_eq!(package("0a1b  libc6-arm64-cross_2.36_all.deb").unwrap(), "libc6-arm64-cross:amd64=2.36");
        assert!(package("0a1b  README").is_none());
    }

    #[test]
    fn every_package_has_a_checksum() {
        let folder = Path::new(env!("CARGO_MANIFEST_DIR"));
        let lists = fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path());
        let lists: Vec<_> = lists.filter(|path| path.extension().is_some_and(|end| end == "sha256")).collect();
        assert!(lists.len() >= 2);
        for list in lists {
            for line in fs::read_to_string(list).unwrap().lines() {
                assert!(package(line).is_some() && line.find(' ') == Some(64), "{line}");
            }
        }
    }
}
