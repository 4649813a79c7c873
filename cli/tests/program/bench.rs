//! `miamix bench`: what it prints, not how fast it is.

use crate::common::{failure, miamix, output};
use serde_json::{Value, json};

#[test]
fn json_has_every_number() {
    let dir = tempfile::tempdir().unwrap();
    let args = ["bench", "--json", "--seconds", "0", "--workload", "a", "D", "--threads", "1", "2"];
    let report: Value = serde_json::from_str(&output(dir.path(), &args)).unwrap();
    for name in ["cpu", "simd", "system", "miamix", "rustc"] {
        assert!(report["machine"][name].as_str().is_some_and(|text| !text.is_empty()), "{name}: {report}");
    }
    assert!(report["machine"]["cores"].as_u64().unwrap() >= 1);
    let results = report["results"].as_array().unwrap();
    let which: Vec<_> =
        results.iter().map(|r| (r["workload"].as_str().unwrap(), r["threads"].as_u64().unwrap())).collect();
    assert_eq!(which, [("A", 1), ("A", 2), ("D", 1), ("D", 2)]);
    assert_eq!(results[0]["shape"], serde_json::json!([128, 3, 32, 32]));
    assert_eq!((&results[0]["dtype"], &results[0]["layout"]), (&"float32".into(), &"NCHW".into()));
    assert_eq!(results[2]["shape"], serde_json::json!([64, 224, 224, 3]));
    assert_eq!((&results[2]["dtype"], &results[2]["layout"]), (&"uint8".into(), &"NHWC".into()));
    for result in results {
        assert!(result["rounds"].as_u64().unwrap() >= 5);
        for part in ["operator", "floor", "memcpy"] {
            for name in ["min_ms", "median_ms", "p10_ms", "p90_ms", "images_per_s", "gb_per_s"] {
                assert!(result[part][name].as_f64().is_some_and(|x| x > 0.0), "{part}.{name}: {result}");
            }
        }
        let number = |part: &str, name: &str| result[part][name].as_f64().unwrap();
        assert!(["plain", "streaming"].contains(&result["floor"]["stores"].as_str().unwrap()));
        let ratio = number("operator", "median_ms") / number("floor", "median_ms");
        assert_eq!(result["ratio_to_floor"].as_f64().unwrap(), ratio);
        // Bytes of three batches over the time, and of two for memcpy.
        let bytes = if result["workload"] == "A" { 128 * 3 * 32 * 32 * 4 } else { 64 * 224 * 224 * 3 } as f64;
        for (part, batches) in [("operator", 3.0), ("floor", 3.0), ("memcpy", 2.0)] {
            let expected = batches * bytes / (number(part, "median_ms") * 1e6);
            // Two roundings in another order.
            assert!((number(part, "gb_per_s") / expected - 1.0).abs() < 1e-12, "{part}");
        }
    }
}

#[test]
fn the_table_names_machine_and_unit_above_the_numbers() {
    let dir = tempfile::tempdir().unwrap();
    let printed = output(dir.path(), &["bench", "--seconds", "0", "--workload", "A", "--threads", "1"]);
    let lines: Vec<&str> = printed.lines().collect();
    assert!(lines[0].contains("SIMD"), "{printed}");
    assert!(lines[1].starts_with(&format!("miamix {}, rustc ", env!("CARGO_PKG_VERSION"))), "{printed}");
    assert!(lines[2].starts_with("ms a batch"), "{printed}");
    assert!(lines[4].starts_with("workload"), "{printed}");
    assert!(lines[5].starts_with("A 128x3x32x32 float32 NCHW"), "{printed}");
    assert_eq!(lines.len(), 6);
}

#[test]
fn bad_arguments_are_refused() {
    let dir = tempfile::tempdir().unwrap();
    for args in [["--workload", "G"], ["--threads", "0"], ["--seconds", "-1"], ["--seconds", "NaN"]] {
        let (status, message) = failure(dir.path(), &[&["bench"], &args[..]].concat());
        assert!(message.starts_with(&format!("error: invalid value '{}'", args[1])), "{message}");
        assert_eq!(status, 2);
    }
}

/// The answers of `bench --serve` to requests, and what it says of the last one on standard error.
fn served(requests: &[Value], ends_well: bool) -> (Vec<Value>, String) {
    let input: String = requests.iter().map(|request| format!("{request}\n")).collect();
    let dir = tempfile::tempdir().unwrap();
    let ended = miamix(dir.path(), &["bench", "--serve"]).write_stdin(input).output().unwrap();
    assert_eq!(ended.status.success(), ends_well);
    let answers = String::from_utf8(ended.stdout).unwrap();
    let answers = answers.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    (answers, String::from_utf8(ended.stderr).unwrap())
}

#[test]
fn turns_are_served() {
    let prepare = |dtype: &str, layout: &str, num_classes: u32, config: Value| {
        let batch = json!({"samples": 4, "channels": 3, "height": 8, "width": 9, "dtype": dtype, "layout": layout,
                           "num_classes": num_classes});
        json!({"prepare": {"batch": batch, "threads": 2, "config": config}})
    };
    let turn = |contender: &str, seconds: f64| json!({"turn": {"contender": contender, "seconds": seconds}});
    let (answers, _) = served(&[], true);
    assert_eq!(answers[0]["workloads"].as_array().unwrap().len(), 6);
    assert_eq!(answers[0]["workloads"][3]["batch"]["layout"], "NHWC");
    for (dtype, layout, num_classes) in
        [("float32", "NCHW", 10), ("float16", "NHWC", 0), ("bfloat16", "NCHW", 10), ("uint8", "NHWC", 10)]
    {
        let contenders = ["operator", "draw", "apply", "masks", "floor_plain", "floor_streaming", "memcpy"]
            .map(|name| turn(name, 0.0));
        let requests =
            [&[prepare(dtype, layout, num_classes, json!({"method_weights": {"fmix": 1}}))], &contenders[..]];
        let (answers, _) = served(&requests.concat(), true);
        assert_eq!(answers.len(), 2 + contenders.len(), "{dtype} {layout}");
        for answer in &answers[2..] {
            let seconds = answer["seconds"].as_array().unwrap();
            assert!(seconds.len() == 1 && seconds[0].as_f64().unwrap() >= 0.0, "{answer}");
        }
    }
    let good = prepare("uint8", "NCHW", 10, json!({}));
    // However long it may take, a turn is no more than a thousand calls.
    let (answers, _) = served(&[good.clone(), turn("memcpy", 600.0)], true);
    assert_eq!(answers[2]["seconds"].as_array().unwrap().len(), 1000);
    for (requests, message) in [
        (vec![turn("operator", 0.0)], "request: a turn needs a batch"),
        (vec![good.clone(), turn("operatr", 0.0)], "unknown variant `operatr`"),
        (vec![prepare("uint8", "NCHW", 10, json!({"alpha": -1}))], "alpha: must be finite and greater than 0, got -1"),
        (vec![prepare("float64", "NCHW", 10, json!({}))], "unknown variant `float64`"),
    ] {
        let (_, error) = served(&requests, false);
        assert!(error.contains(message), "{error}");
    }
}
