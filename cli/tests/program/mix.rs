//! `miamix mix`: what it writes is what the library gives.

use crate::common::{failure, miamix, output};
use image::{GrayImage, Rgb, RgbImage};
use miamix::{Batch, BatchShape, Config, Labels, MiaMix, Output, Plan};
use ndarray::{Array1, Array2, Array3, Array4, s};
use serde_json::Value;
use std::fs;
use std::path::Path;
use tempfile::TempDir;

/// Not a multiple of a vector, and more than the widest smoothing window.
const SIDE: usize = 27;

/// A picture that no other one, flip or transposition resembles.
fn picture(salt: u8) -> RgbImage {
    RgbImage::from_fn(SIDE as u32, SIDE as u32, |x, y| Rgb([(x * 9) as u8, (y * 8) as u8, salt.wrapping_mul(50)]))
}

/// Three photographs of two classes in folders, and one beside them.
fn photos() -> TempDir {
    let dir = tempfile::tempdir().unwrap();
    for (i, name) in ["set/cat/1.png", "set/cat/2.png", "set/dog/1.png", "hat.png"].into_iter().enumerate() {
        let path = dir.path().join(name);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        picture(i as u8).save(path).unwrap();
    }
    dir
}

fn json(path: &Path) -> Value {
    serde_json::from_str(&fs::read_to_string(path).unwrap()).unwrap()
}

/// What is in a folder, sorted.
fn names(dir: &Path) -> Vec<String> {
    let mut names: Vec<String> =
        fs::read_dir(dir).unwrap().map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect();
    names.sort();
    names
}

#[test]
fn results_are_those_of_the_library() {
    let dir = photos();
    let side = SIDE.to_string();
    let flags = "--seed -5 --count 10 --k-max 3 --p-apply 0.8 --p-flip 0.5 --pad-px 2 --threads 2";
    let args = ["mix", "set", "hat.png", "--out", "a/b/out", "--size", &side];
    let printed = output(dir.path(), &args.into_iter().chain(flags.split(' ')).collect::<Vec<_>>());
    assert_eq!(printed, "a/b/out: 23 files; look at a/b/out/contact-sheet.png\n");
    let out = dir.path().join("a/b/out");
    assert_eq!(names(&out), ["contact-sheet.png", "labels.json", "masks", "mixed", "plan.json"]);
    assert_eq!(names(&dir.path().join("a/b")), ["out"], "nothing temporary is left");

    // More images than photographs: these come again in turn.
    let photo: Vec<usize> = (0..10).map(|i| i % 4).collect();
    let files = ["set/cat/1.png", "set/cat/2.png", "set/dog/1.png", "hat.png"];
    let classes = ["cat", "dog", "hat"];
    let class_of = [0i64, 0, 1, 2];

    let config = Config { k_max: 3, p_apply: 0.8, p_flip: 0.5, pad_px: 2, ..Config::default() };
    let op = MiaMix::new(config.clone()).unwrap();
    let plan = op.draw(BatchShape::new(10, SIDE, SIDE), -5i64 as u64, 0).unwrap();
    let plan_text = fs::read_to_string(out.join("plan.json")).unwrap();
    assert_eq!(Plan::from_json(&plan_text).unwrap(), plan);

    let images = Array4::from_shape_fn((10, 3, SIDE, SIDE), |(n, c, y, x)| {
        picture(photo[n] as u8).get_pixel(x as u32, y as u32).0[c]
    });
    let ids = Array1::from_iter(photo.iter().map(|&photo| class_of[photo]));
    let (mut mixed, mut labels) = (Array4::<u8>::zeros(images.dim()), Array2::zeros((10, 3)));
    let (mut masks, mut label_weight) = (Array3::zeros((10, SIDE, SIDE)), vec![0.0; 10]);
    let batch = Batch {
        images: images.view().into(),
        partner_images: images.view().into(),
        labels: Labels::ids(ids.view(), 3),
    };
    let output = Output {
        images: mixed.view_mut().into(),
        labels: Some(labels.view_mut()),
        label_weight: Some(&mut label_weight),
        partner_index: None,
    };
    op.apply(&plan, batch, output).unwrap();
    op.masks(&plan, Some(masks.view_mut()), None).unwrap();

    let manifest = json(&out.join("labels.json"));
    assert_eq!(manifest["producer"], format!("miamix {}", env!("CARGO_PKG_VERSION")));
    assert_eq!(manifest["classes"], serde_json::json!(classes));
    assert_eq!(Config::from_json(&manifest["config"].to_string()).unwrap(), config);
    assert_eq!(manifest["files"].as_array().unwrap().len(), 23);
    for file in manifest["files"].as_array().unwrap() {
        assert!(out.join(file.as_str().unwrap()).is_file(), "{file}");
    }
    let plan_json: Value = serde_json::from_str(&plan_text).unwrap();
    assert_eq!(manifest["outputs"].as_array().unwrap().len(), 10);
    for (i, entry) in manifest["outputs"].as_array().unwrap().iter().enumerate() {
        let partner = photo[plan.sample(i).partner_index];
        assert_eq!(entry["primary"]["file"], files[photo[i]]);
        assert_eq!(entry["partner"]["file"], files[partner]);
        assert_eq!(entry["primary"]["class"], classes[class_of[photo[i]] as usize]);
        assert_eq!(entry["partner"]["class"], classes[class_of[partner] as usize]);
        assert_eq!(entry["label_weight"].as_f64().unwrap() as f32, label_weight[i]);
        assert_eq!(entry["layers"], plan_json["samples"][i]["layers"]);
        for (k, class) in classes.into_iter().enumerate() {
            let weight = entry["class_weights"].get(class).map_or(0.0, |weight| weight.as_f64().unwrap());
            assert_eq!(weight as f32, labels[[i, k]], "image {i}, {class}");
        }
        let picture = image::open(out.join(entry["mixed"].as_str().unwrap())).unwrap().into_rgb8();
        let expected = RgbImage::from_fn(SIDE as u32, SIDE as u32, |x, y| {
            Rgb([0, 1, 2].map(|c| mixed[[i, c, y as usize, x as usize]]))
        });
        assert!(picture == expected, "image {i}");
        let mask = image::open(out.join(entry["mask"].as_str().unwrap())).unwrap().into_luma8();
        let grey = masks.slice(s![i, .., ..]).iter().map(|&m: &f32| (m * 255.0).round() as u8).collect();
        assert!(mask == GrayImage::from_raw(SIDE as u32, SIDE as u32, grey).unwrap(), "mask {i}");
    }
}

#[test]
fn other_pictures_are_cropped_to_their_middle() {
    let dir = tempfile::tempdir().unwrap();
    // Red, green and blue thirds: the middle square is green.
    let wide = RgbImage::from_fn(60, 20, |x, _| Rgb([[255, 0, 0], [0, 255, 0], [0, 0, 255]][x as usize / 20]));
    wide.save(dir.path().join("wide.png")).unwrap();
    output(dir.path(), &["mix", "wide.png", "--out", "out", "--size", "8"]);
    let mixed = image::open(dir.path().join("out/mixed/0000.png")).unwrap().into_rgb8();
    assert_eq!(mixed.dimensions(), (8, 8));
    assert!(mixed.pixels().all(|pixel| *pixel == Rgb([0, 255, 0])));
}

#[test]
fn the_number_of_threads_changes_no_byte() {
    let dir = photos();
    for (out, threads) in [("one", "1"), ("three", "3")] {
        output(dir.path(), &["mix", "set", "--out", out, "--size", "32", "--count", "5", "--threads", threads]);
    }
    for file in ["labels.json", "plan.json", "contact-sheet.png", "mixed/0003.png", "masks/0004.png"] {
        let [one, three] = ["one", "three"].map(|out| fs::read(dir.path().join(out).join(file)).unwrap());
        assert!(one == three, "{file}");
    }
}

#[test]
fn parameters_come_from_a_file_and_flags_override_it() {
    let dir = photos();
    fs::write(dir.path().join("mix.json"), r#"{"alpha": 0.5, "k_max": 3, "method_weights": {"fmix": 1}}"#).unwrap();
    output(dir.path(), &["mix", "hat.png", "--out", "out", "--size", "8", "--config", "mix.json", "--alpha", "2"]);
    let config = Config::from_json(&json(&dir.path().join("out/labels.json"))["config"].to_string()).unwrap();
    let weights = [0.0, 0.0, 1.0, 0.0, 0.0, 0.0].into();
    assert_eq!(config, Config { alpha: 2.0, k_max: 3, method_weights: weights, ..Config::default() });
}

#[test]
fn an_earlier_result_is_replaced_and_other_files_are_not() {
    let dir = photos();
    let mix = |extra: &[&'static str]| [&["mix", "set", "--out", "out", "--size", "8"], extra].concat();
    let out = dir.path().join("out");
    output(dir.path(), &mix(&["--count", "5"]));
    output(dir.path(), &mix(&["--count", "2"]));
    assert_eq!(names(&out.join("mixed")), ["0000.png", "0001.png"], "what is stale has gone");

    fs::write(out.join("mixed/notes.txt"), "mine").unwrap();
    let (status, message) = failure(dir.path(), &mix(&[]));
    assert_eq!(status, 1);
    assert_eq!(
        message,
        "error: out: is not empty and holds mixed/notes.txt, which miamix did not write; choose another folder, or \
         --force to write beside it\n"
    );
    assert_eq!(names(&out.join("mixed")), ["0000.png", "0001.png", "notes.txt"]);

    output(dir.path(), &mix(&["--force"]));
    assert_eq!(names(&out.join("mixed")), ["0000.png", "0001.png", "0002.png", "notes.txt"]);
    assert_eq!(fs::read_to_string(out.join("mixed/notes.txt")).unwrap(), "mine");
    assert_eq!(names(dir.path()), ["hat.png", "out", "set"]);
}

#[test]
fn an_earlier_result_stays_where_the_new_one_cannot_go() {
    let dir = photos();
    let mix = |seed| ["mix", "set", "--out", "out", "--size", "8", "--force", "--seed", seed];
    output(dir.path(), &mix("1"));
    let out = dir.path().join("out");
    let pixels = || ["mixed/0000.png", "masks/0002.png", "labels.json"].map(|file| fs::read(out.join(file)).unwrap());
    let old = pixels();
    fs::remove_file(out.join("contact-sheet.png")).unwrap();
    fs::create_dir(out.join("contact-sheet.png")).unwrap();
    let message = "error: out/contact-sheet.png: is a folder, where a file is to go\n";
    assert_eq!(failure(dir.path(), &mix("2")), (1, message.into()));
    assert!(pixels() == old);

    fs::remove_dir(out.join("contact-sheet.png")).unwrap();
    fs::remove_dir_all(out.join("masks")).unwrap();
    fs::write(out.join("masks"), "mine").unwrap();
    let message = "error: out/masks: is a file, where a folder is to go\n";
    assert_eq!(failure(dir.path(), &mix("2")), (1, message.into()));
    assert!(fs::read(out.join("mixed/0000.png")).unwrap() == old[0]);
    assert_eq!(names(dir.path()), ["hat.png", "out", "set"], "nothing temporary is left");
}

#[test]
fn results_are_no_photographs() {
    let dir = photos();
    let mix = |extra: &[&'static str]| [&["mix", ".", "--out", "out", "--size", "8"], extra].concat();
    assert_eq!(output(dir.path(), &mix(&[])), output(dir.path(), &mix(&[])));
    let manifest = json(&dir.path().join("out/labels.json"));
    assert_eq!(manifest["outputs"].as_array().unwrap().len(), 4);
    // In the photographs' own folder, and a photograph among results, are photographs.
    fs::copy(dir.path().join("hat.png"), dir.path().join("out/mixed/mine.png")).unwrap();
    for _ in 0..2 {
        output(dir.path(), &["mix", ".", "--out", ".", "--size", "8", "--force"]);
        assert_eq!(json(&dir.path().join("labels.json"))["outputs"].as_array().unwrap().len(), 5);
    }
    // Who names a folder of them means it.
    output(dir.path(), &["mix", "out/masks", "--out", "new", "--size", "8"]);
    assert_eq!(json(&dir.path().join("new/labels.json"))["outputs"].as_array().unwrap().len(), 4);
}

#[cfg(unix)]
#[test]
fn memory_that_cannot_be_had_is_an_error() {
    let dir = photos();
    // 5 TB; the shell's limit, 4 GiB, is for systems that would promise it.
    let command = miamix(dir.path(), &[]);
    let script = "ulimit -v 4194304 && exec \"$0\" mix hat.png --out out --count 100000 --size 4096 --threads 1";
    let run = std::process::Command::new("sh")
        .args(["-c", script])
        .arg(command.get_program())
        .current_dir(dir.path())
        .output()
        .unwrap();
    let message = String::from_utf8(run.stderr).unwrap();
    assert_eq!(message, "error: out of memory: 4.58 TiB for images; a smaller --size, --count or --rows takes less\n");
    assert_eq!(run.status.code(), Some(1));
    assert_eq!(names(dir.path()), ["hat.png", "set"]);
}

#[test]
fn errors_name_file_and_cause_and_leave_nothing() {
    let dir = photos();
    fs::write(dir.path().join("broken.jpg"), "this is text").unwrap();
    fs::create_dir(dir.path().join("empty")).unwrap();
    fs::write(dir.path().join("bad.json"), r#"{"alhpa": 1}"#).unwrap();
    fs::write(dir.path().join("beyond.json"), r#"{"k_max": 9}"#).unwrap();
    for (args, status, message) in [
        (&["gone.png"][..], 1, "error: gone.png: cannot read: No such file"),
        (&["broken.jpg"], 1, "error: broken.jpg: cannot decode: "),
        (&["hat.png", "broken.jpg", "gone.png"], 1, "error: gone.png: cannot read: "),
        (&["empty"], 1, "error: empty: holds no photographs (png, jpg, jpeg, webp)\n"),
        (&["hat.png", "--alpha", "-1"], 2, "error: alpha: must be finite and greater than 0, got -1\n"),
        (&["hat.png", "--config", "bad.json"], 2, "error: bad.json: config: alhpa: unknown field `alhpa`"),
        (&["hat.png", "--config", "beyond.json"], 2, "error: beyond.json: k_max: must be at most 8, got 9\n"),
        (
            &["hat.png", "--methods", "fmix,fmix"],
            2,
            "error: invalid value 'fmix,fmix' for '--methods <LIST>': fmix: named twice",
        ),
        (&["hat.png", "--config", "gone.json"], 1, "error: gone.json: cannot read: No such file"),
        (&["hat.png", "--merge", "max"], 2, "error: invalid value 'max' for '--merge <NAME>'"),
        (&["hat.png", "--size", "0"], 2, "error: invalid value '0' for '--size <PX>'"),
        (&["hat.png", "--threads", "300"], 2, "error: n_threads: must be at most 256, got 300\n"),
        (&[], 2, "error: the following required arguments were not provided"),
    ] {
        let before = names(dir.path());
        let (got_status, got) = failure(dir.path(), &[&["mix", "--out", "out"], args].concat());
        assert!(got.starts_with(message), "{args:?}: {got}");
        assert_eq!(got_status, status, "{args:?}: {got}");
        assert_eq!(names(dir.path()), before, "{args:?}");
    }
}

#[test]
fn the_cause_of_a_bad_image_is_said_once() {
    let dir = photos();
    let whole = fs::read(dir.path().join("hat.png")).unwrap();
    fs::write(dir.path().join("short.png"), &whole[..whole.len() / 2]).unwrap();
    fs::write(dir.path().join("text.jpg"), "this is text").unwrap();
    fs::write(dir.path().join("text"), "this is text").unwrap();
    for name in ["short.png", "text.jpg", "text"] {
        let (status, message) = failure(dir.path(), &["mix", name, "--out", "out"]);
        let cause = message.strip_prefix(&format!("error: {name}: cannot decode: ")).expect(&message).trim();
        // Neither the whole cause nor its last part comes again.
        let last = cause.rsplit(": ").next().unwrap();
        assert!(!last.is_empty() && message.matches(last).count() == 1, "{message}");
        assert_eq!(status, 1);
    }
}

#[cfg(unix)]
#[test]
fn an_interrupted_run_leaves_nothing() {
    let dir = photos();
    // Far more images than can be written while the signal is on its way.
    let args = ["mix", "set", "--out", "out", "--size", "64", "--count", "6000"];
    let command = miamix(dir.path(), &args);
    let mut child = std::process::Command::new(command.get_program())
        .args(args)
        .current_dir(dir.path())
        .stdout(std::process::Stdio::null())
        .spawn()
        .unwrap();
    let began = || names(dir.path()).iter().any(|name| name.starts_with(".miamix-"));
    while !began() {
        assert_eq!(child.try_wait().unwrap(), None, "it ended before it was interrupted");
        std::thread::sleep(std::time::Duration::from_millis(2));
    }
    let pid = child.id().to_string();
    assert!(std::process::Command::new("kill").args(["-INT", &pid]).status().unwrap().success());
    assert_eq!(child.wait().unwrap().code(), Some(130));
    assert_eq!(names(dir.path()), ["hat.png", "set"]);
}
