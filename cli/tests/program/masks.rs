//! `miamix masks`.

use crate::common::{failure, output};
use image::Rgb;
use std::fs;

#[test]
fn the_gallery_shows_both_images_and_follows_its_seed() {
    let dir = tempfile::tempdir().unwrap();
    let draw = |file: &str, seed: &str, threads: &str| {
        let args = ["masks", "--out", file, "--size", "40", "--seed", seed, "--threads", threads];
        assert_eq!(output(dir.path(), &args), format!("{file}: 60 masks\n"));
        fs::read(dir.path().join(file)).unwrap()
    };
    let first = draw("a.png", "1", "1");
    assert!(first == draw("b.png", "1", "2"));
    assert!(first != draw("a.png", "2", "1"), "an earlier gallery is replaced");

    let gallery = image::load_from_memory(&first).unwrap().into_rgb8();
    // Twelve columns of masks of 40 pixels, each enlarged so that captions can be read.
    assert!(gallery.width() > 12 * 160 && gallery.height() > 5 * 160, "{:?}", gallery.dimensions());
    for colour in [Rgb([0; 3]), Rgb([255; 3])] {
        let share = gallery.pixels().filter(|pixel| **pixel == colour).count() as f64
            / f64::from(gallery.width() * gallery.height());
        // 48 of the 60 masks are black and white, half of each by their shares; the ground is the rest.
        assert!(share > 0.1, "{colour:?}: {share}");
    }
}

#[test]
fn errors_name_the_file() {
    let dir = tempfile::tempdir().unwrap();
    fs::create_dir(dir.path().join("folder.png")).unwrap();
    let args = ["masks", "--out", "folder.png"];
    assert_eq!(failure(dir.path(), &args), (1, "error: folder.png: is a folder\n".into()));
    for name in ["masks", "masks.jpg", ".png"] {
        let (status, message) = failure(dir.path(), &["masks", "--out", name]);
        let expected = format!("error: invalid value '{name}' for '--out <FILE>': must end in .png");
        assert!(message.starts_with(&expected), "{message}");
        assert_eq!(status, 2);
    }
    fs::write(dir.path().join("file"), "").unwrap();
    let (status, message) = failure(dir.path(), &["masks", "--out", "file/masks.png"]);
    assert!(message.starts_with("error: file/masks.png: cannot write beside it: "), "{message}");
    assert_eq!(status, 1);
}
