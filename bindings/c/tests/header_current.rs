//! `include/miamix.h` is what the sources say. `MIAMIX_BLESS=1 cargo test -p miamix-c` writes it.

use std::fs;
use std::path::Path;

/// The chapters, in the order in which a reader wants them: each is a source file, its title and introduction
/// the file's own comment, its types and functions by cbindgen.
const CHAPTERS: [(&str, &[&str]); 7] = [
    // Statuses are written once, in the core.
    ("status.rs", &["../../../../src/error.rs"]),
    ("config.rs", &[]),
    ("op.rs", &[]),
    ("plan.rs", &[]),
    ("tensor.rs", &[]),
    ("apply.rs", &[]),
    ("cuda.rs", &[]),
];

const OPENING: &str = r#"
#ifndef MIAMIX_H
#define MIAMIX_H

#include <stddef.h>
#include <stdint.h>

/* Define MIAMIX_SHARED on Windows to link to the shared library. */
#if defined(_WIN32) && defined(MIAMIX_SHARED)
#define MIAMIX_API __declspec(dllimport)
#else
#define MIAMIX_API
#endif

#ifdef __cplusplus
extern "C" {
#endif
"#;

const CLOSING: &str = r#"
#ifdef __cplusplus
}
#endif

#endif /* MIAMIX_H */
"#;

#[test]
fn header_is_current() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let path = root.join("../../include/miamix.h");
    let new = header(root);
    if std::env::var_os("MIAMIX_BLESS").is_some() {
        fs::write(&path, &new).unwrap();
    }
    let old = fs::read_to_string(&path).unwrap_or_default().replace("\r\n", "\n");
    assert!(old == new, "include/miamix.h is stale: run MIAMIX_BLESS=1 cargo test -p miamix-c --test header_current");
}

/// What a reader asks of a function: each argument, what it answers, on which threads.
#[test]
fn every_function_says_what_its_reader_asks() {
    let header = header(Path::new(env!("CARGO_MANIFEST_DIR")));
    let mut n_functions = 0;
    for piece in header.split("/**").skip(1) {
        let (comment, code) = piece.split_once("*/").expect("a comment ends");
        let Some((start, arguments)) = code.trim().strip_prefix("MIAMIX_API").and_then(|code| code.split_once('('))
        else {
            continue;
        };
        n_functions += 1;
        let arguments = arguments.split_once(");").expect("a declaration ends").0;
        // The names of the arguments that the comment tells of, `@param[in]  op, plan  Borrowed.`
        let told: Vec<&str> = comment
            .split("@param[")
            .skip(1)
            .flat_map(|rest| {
                let words = rest.split_once(']').expect("a direction").1.split_whitespace();
                let mut more = true;
                words
                    .take_while(move |word| std::mem::replace(&mut more, word.ends_with(',')))
                    .map(|word| word.trim_end_matches(','))
            })
            .collect();
        let names = arguments.split(',').filter_map(|argument| argument.trim().rsplit([' ', '*']).next());
        let names: Vec<&str> = names.filter(|&name| name != "void").collect();
        let refers = comment.contains("are those of miamix_apply()");
        assert!(refers || told == names, "{start}: tells of {told:?}, has {names:?}");
        assert!(refers || start.trim().starts_with("void ") || comment.contains("@return"), "{start}: no @return");
        assert!(refers || comment.contains("Threads:"), "{start}: no word on threads");
    }
    assert_eq!(n_functions, header.matches("\nMIAMIX_API").count());
}

fn header(root: &Path) -> String {
    let sources = root.join("src/abi");
    let mut concepts = front_matter(&sources.join("mod.rs"));
    concepts.push(String::new());
    concepts.push("Generated from bindings/c/src/abi by MIAMIX_BLESS=1 cargo test -p miamix-c; do not edit.".into());
    concepts.push("SPDX-License-Identifier: Apache-2.0 OR MIT".into());
    let mut header = comment(&concepts) + OPENING;
    for (file, further) in CHAPTERS {
        let mut introduction = front_matter(&sources.join(file));
        introduction[0] = format!("---- {} ----", introduction[0]);
        header += "\n";
        header += &comment(&introduction);
        header += "\n";
        header += &declarations(root, further.iter().chain([&file]).map(|file| sources.join(file)));
    }
    header + CLOSING
}

/// The lines of a file's `//!` comment.
fn front_matter(path: &Path) -> Vec<String> {
    let text = fs::read_to_string(path).unwrap();
    let lines = text.lines().map_while(|line| line.strip_prefix("//!"));
    lines.map(|line| line.strip_prefix(' ').unwrap_or(line).to_owned()).collect()
}

fn comment(lines: &[String]) -> String {
    let lines: String = lines.iter().map(|line| format!(" * {line}").trim_end().to_owned() + "\n").collect();
    format!("/*\n{lines} */\n")
}

/// What cbindgen makes of some files, without the C++ brackets that the header has once.
fn declarations(root: &Path, files: impl Iterator<Item = std::path::PathBuf>) -> String {
    let config = cbindgen::Config::from_file(root.join("cbindgen.toml")).unwrap();
    let builder = files.fold(cbindgen::Builder::new().with_config(config), cbindgen::Builder::with_src);
    let mut text = Vec::new();
    builder.generate().unwrap().write(&mut text);
    String::from_utf8(text)
        .unwrap()
        .replace("#ifdef __cplusplus\nextern \"C\" {\n#endif // __cplusplus\n\n", "")
        .replace("\n#ifdef __cplusplus\n}  // extern \"C\"\n#endif  // __cplusplus\n", "")
        .trim()
        .to_owned()
        + "\n"
}
