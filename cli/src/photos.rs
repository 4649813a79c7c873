//! Photographs: where they are, what class they have, their pixels.

use crate::output;
use anyhow::{Context, Result, anyhow, bail};
use image::{DynamicImage, ImageDecoder, ImageError, ImageReader, RgbImage, imageops::FilterType};
use std::collections::{HashMap, HashSet};
use std::ffi::OsStr;
use std::path::{Path, PathBuf};

/// Endings of the files that are taken from folders.
const ENDINGS: [&str; 4] = ["png", "jpg", "jpeg", "webp"];

/// A photograph on disk.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Photo {
    /// Where it is.
    pub path: PathBuf,
    /// Index into [`Photos::classes`].
    pub class: usize,
}

/// Photographs and the names of their classes.
#[derive(Debug, Default)]
pub struct Photos {
    /// In the order given, within a folder by name.
    pub photos: Vec<Photo>,
    /// Names, each once.
    pub classes: Vec<String>,
    /// The class of each folder's name.
    folders: HashMap<String, usize>,
}

impl Photos {
    /// Finds photographs: a file is a class of its own, a file in a folder has the folder's class.
    ///
    /// # Errors
    /// For a path that cannot be read, and for a folder without photographs.
    pub fn find(paths: &[PathBuf]) -> Result<Self> {
        let mut found = Photos::default();
        for path in paths {
            let name = path.display();
            if std::fs::metadata(path).with_context(|| format!("{name}: cannot read"))?.is_dir() {
                let before = found.photos.len();
                // A folder may be named twice; within one, links may lead back to where they lie.
                found.add_folder(path, &mut Seen::default())?;
                if found.photos.len() == before {
                    bail!("{name}: holds no photographs ({})", ENDINGS.join(", "));
                }
            } else {
                let stem = path.file_stem().unwrap_or(path.as_os_str()).to_string_lossy().into_owned();
                let class = found.add_class(stem, path);
                found.photos.push(Photo { path: path.clone(), class });
            }
        }
        Ok(found)
    }

    /// Adds what is in a folder, unless it was there before, by another name perhaps; results are no photographs.
    fn add_folder(&mut self, folder: &Path, seen: &mut Seen) -> Result<()> {
        let cannot_read = || format!("{}: cannot read", folder.display());
        if !seen.folders.insert(folder.canonicalize().with_context(cannot_read)?) {
            return Ok(());
        }
        seen.results.extend(output::ours(folder).into_iter().map(|file| folder.join(file)));
        let mut entries = Vec::new();
        for entry in std::fs::read_dir(folder).with_context(cannot_read)? {
            entries.push(entry.with_context(cannot_read)?.path());
        }
        entries.sort();
        for path in entries {
            if path.is_dir() {
                self.add_folder(&path, seen)?;
            } else if path.extension().is_some_and(is_photo) && !seen.results.contains(&path) {
                let class = self.folder_class(folder);
                self.photos.push(Photo { path, class });
            }
        }
        Ok(())
    }

    fn folder_class(&mut self, folder: &Path) -> usize {
        // `.` has no name of its own.
        let full = folder.canonicalize().unwrap_or(folder.to_owned());
        let name = full.file_name().unwrap_or(full.as_os_str()).to_string_lossy().into_owned();
        if let Some(&class) = self.folders.get(&name) {
            return class;
        }
        let class = self.add_class(name.clone(), folder);
        self.folders.insert(name, class);
        class
    }

    /// A new class; if its name is taken, it has the path's, numbered if that is taken too.
    fn add_class(&mut self, name: String, path: &Path) -> usize {
        let full = path.display().to_string();
        let numbered = (2..).map(|i| format!("{full} ({i})"));
        let free = [name, full.clone()].into_iter().chain(numbered).find(|name| !self.classes.contains(name));
        self.classes.extend(free);
        self.classes.len() - 1
    }
}

/// What a walk through folders met.
#[derive(Default)]
struct Seen {
    /// Under the names that all paths to them share.
    folders: HashSet<PathBuf>,
    /// Files that this program wrote.
    results: HashSet<PathBuf>,
}

fn is_photo(extension: &OsStr) -> bool {
    ENDINGS.iter().any(|ending| extension.eq_ignore_ascii_case(ending))
}

/// The middle square of a photograph, `size` pixels a side, turned as its camera was held.
pub fn load(path: &Path, size: u32) -> Result<RgbImage> {
    let name = path.display();
    // The decoder's errors say their causes themselves.
    let cannot_decode = |error: ImageError| anyhow!("{name}: cannot decode: {error}");
    let reader = ImageReader::open(path).and_then(ImageReader::with_guessed_format);
    let mut decoder = reader.with_context(|| format!("{name}: cannot read"))?.into_decoder().map_err(cannot_decode)?;
    let orientation = decoder.orientation().map_err(cannot_decode)?;
    let mut image = DynamicImage::from_decoder(decoder).map_err(cannot_decode)?;
    image.apply_orientation(orientation);
    let side = image.width().min(image.height());
    let (x, y) = ((image.width() - side) / 2, (image.height() - side) / 2);
    Ok(image.crop_imm(x, y, side, side).resize_exact(size, size, FilterType::Lanczos3).to_rgb8())
}

/// Which photograph each of `n_samples` samples is: evenly spaced if there are more photographs, else over and over.
pub fn choose(n_photos: usize, n_samples: usize) -> Vec<usize> {
    (0..n_samples).map(|i| if n_samples <= n_photos { i * n_photos / n_samples } else { i % n_photos }).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn samples_are_spread_over_the_photographs() {
        assert_eq!(choose(3, 3), [0, 1, 2]);
        assert_eq!(choose(10, 3), [0, 3, 6]);
        assert_eq!(choose(2, 5), [0, 1, 0, 1, 0]);
    }

    #[cfg(unix)]
    #[test]
    fn a_folder_is_visited_once() {
        let dir = tempfile::tempdir().unwrap();
        let set = dir.path().join("set");
        std::fs::create_dir_all(set.join("cat")).unwrap();
        std::fs::write(set.join("cat/1.png"), "").unwrap();
        for (original, link) in [(".", "cat/up"), ("cat", "dog"), ("..", "cat/cat")] {
            std::os::unix::fs::symlink(set.join(original), set.join(link)).unwrap();
        }
        let found = Photos::find(std::slice::from_ref(&set)).unwrap();
        assert_eq!(found.photos, [Photo { path: set.join("cat/1.png"), class: 0 }]);
        assert_eq!(found.classes, ["cat"]);
        // Whoever names a folder twice wants it twice.
        assert_eq!(Photos::find(&[set.clone(), set]).unwrap().photos.len(), 2);
    }

    #[test]
    fn folders_are_classes_and_so_is_each_file() {
        let dir = tempfile::tempdir().unwrap();
        let touch = |name: &str| {
            let path = dir.path().join(name);
            std::fs::create_dir_all(path.parent().unwrap()).unwrap();
            std::fs::write(&path, "").unwrap();
            path
        };
        let [b, a, _, other_cat] =
            ["set/dog/b.png", "set/cat/a.JPG", "set/cat/notes.txt", "more/cat/c.webp"].map(touch);
        let cat = touch("cat.png");
        let found = Photos::find(&[dir.path().join("set"), cat.clone(), dir.path().join("more")]).unwrap();
        let paths: Vec<_> = found.photos.iter().map(|photo| photo.path.clone()).collect();
        assert_eq!(paths, [a, b, cat.clone(), other_cat]);
        assert_eq!(found.photos.iter().map(|photo| photo.class).collect::<Vec<_>>(), [0, 1, 2, 0]);
        assert_eq!(found.classes, ["cat".to_owned(), "dog".into(), cat.display().to_string()]);
    }
}
