//! `miamix model`: the file says what was asked for.

use crate::common::{failure, output};
use miamix::Config;
use miamix_onnx_model::proto::*;
use prost::Message;
use std::fs;

fn write(args: &str) -> ModelProto {
    let dir = tempfile::tempdir().unwrap();
    let args: Vec<&str> = ["model", "--out", "mix.onnx"].into_iter().chain(args.split_whitespace()).collect();
    output(dir.path(), &args);
    ModelProto::decode(&*fs::read(dir.path().join("mix.onnx")).unwrap()).unwrap()
}

/// `name: type [axes]` of a value.
fn describe(value: &ValueInfoProto) -> String {
    let Some(TypeValue::TensorType(tensor)) = &value.r#type.as_ref().unwrap().value else { panic!("no tensor") };
    let axes: Vec<String> = tensor.shape.as_ref().unwrap().dim.iter().map(axis).collect();
    format!("{}: {:?} [{}]", value.name(), tensor.elem_type(), axes.join(", "))
}

fn axis(dimension: &Dimension) -> String {
    match dimension.value.as_ref().unwrap() {
        DimensionValue::DimValue(n) => n.to_string(),
        DimensionValue::DimParam(name) => name.clone(),
    }
}

fn attribute<'a>(node: &'a NodeProto, name: &str) -> &'a AttributeProto {
    node.attribute.iter().find(|attribute| attribute.name() == name).unwrap_or_else(|| panic!("no attribute {name}"))
}

#[test]
fn a_preset_gives_shapes_classes_and_the_papers_parameters() {
    let model = write("--preset cifar10");
    assert_eq!((model.ir_version(), model.producer_name()), (8, "miamix"));
    let opsets: Vec<_> = model.opset_import.iter().map(|opset| (opset.domain(), opset.version())).collect();
    assert_eq!(opsets, [("", 17), ("ai.miamix", 1)]);
    let graph = model.graph.unwrap();
    assert_eq!(
        graph.input.iter().map(describe).collect::<Vec<_>>(),
        [
            "images: Float [batch, 3, 32, 32]",
            "partner_images: Float [batch, 3, 32, 32]",
            "labels: Int64 [batch]",
            "seed: Int64 []",
            "first_sample: Int64 []",
            "training_mode: Bool []",
        ]
    );
    assert_eq!(
        graph.output.iter().map(describe).collect::<Vec<_>>(),
        [
            "mixed_images: Float [batch, 3, 32, 32]",
            "mixed_labels: Float [batch, 10]",
            "label_weight: Float [batch]",
            "partner_index: Int64 [batch]",
        ]
    );
    let [node] = &graph.node[..] else { panic!("{} nodes", graph.node.len()) };
    assert_eq!((node.domain(), node.op_type()), ("ai.miamix", "MiAMix"));
    assert_eq!(node.input, ["images", "partner_images", "labels", "seed", "first_sample", "training_mode"]);
    assert_eq!(node.output, ["mixed_images", "mixed_labels", "label_weight", "partner_index"]);
    let config = Config::default();
    assert_eq!(attribute(node, "p_self").f, Some(config.p_self));
    assert_eq!(attribute(node, "rotate_max_rad").f, Some(config.rotate_max_rad));
    assert_eq!(attribute(node, "k_max").i, Some(config.k_max.into()));
    assert_eq!(attribute(node, "method_weights").floats, config.method_weights.to_array());
    assert_eq!(attribute(node, "grid_range").ints, config.grid_range.map(i64::from));
    assert_eq!(attribute(node, "smooth_range_px").ints, config.smooth_range_px.map(i64::from));
    assert_eq!(attribute(node, "lambda_reading").s(), b"complement");
    assert_eq!(attribute(node, "num_classes").i, Some(10));
    assert_eq!(attribute(node, "layout").s(), b"NCHW");
    assert_eq!(attribute(node, "seed_offset").i, Some(0));
}

#[test]
fn flags_override_the_preset() {
    let model = write(
        "--preset imagenet --dtype u8 --layout NHWC --size 160x192 --num-classes 5 --masks --seed -3 --seed-offset 7 \
         --methods cutmix --alpha 0.2",
    );
    let graph = model.graph.unwrap();
    assert_eq!(describe(&graph.input[0]), "images: Uint8 [batch, 160, 192, 3]");
    assert_eq!(describe(&graph.output[1]), "mixed_labels: Float [batch, 5]");
    assert_eq!(describe(&graph.output[4]), "masks: Float [batch, 160, 192]");
    assert!(graph.input.iter().all(|input| input.name() != "seed"));
    let [seed] = &graph.initializer[..] else { panic!("{} initializers", graph.initializer.len()) };
    assert_eq!((seed.name(), &seed.int64_data[..], &seed.dims[..]), ("seed", &[-3i64][..], &[][..]));
    let [mix, masks] = &graph.node[..] else { panic!("{} nodes", graph.node.len()) };
    assert_eq!((masks.op_type(), masks.domain()), ("MiAMixMasks", "ai.miamix"));
    assert_eq!(
        (&masks.input[..], &masks.output[..]),
        (&["images", "seed", "first_sample"].map(String::from)[..], &["masks".to_owned()][..])
    );
    for node in [mix, masks] {
        assert_eq!(attribute(node, "seed_offset").i, Some(7));
        assert_eq!(attribute(node, "layout").s(), b"NHWC");
        assert_eq!(attribute(node, "alpha").f, Some(0.2));
        assert_eq!(attribute(node, "method_weights").floats, [0.0, 1.0, 0.0, 0.0, 0.0, 0.0]);
    }
}

#[test]
fn soft_labels_and_open_sizes() {
    for (dtype, name) in [("f16", "Float16"), ("bf16", "Bfloat16")] {
        let graph = write(&format!("--soft-labels --dtype {dtype}")).graph.unwrap();
        assert_eq!(describe(&graph.input[0]), format!("images: {name} [batch, channels, height, width]"));
        assert_eq!(describe(&graph.input[2]), "labels: Float [batch, classes]");
        assert_eq!(describe(&graph.output[1]), "mixed_labels: Float [batch, classes]");
    }
    let graph = write("--soft-labels --num-classes 12 --size 48").graph.unwrap();
    assert_eq!(describe(&graph.input[2]), "labels: Float [batch, 12]");
    assert_eq!(describe(&graph.input[0]), "images: Float [batch, channels, 48, 48]");
}

#[cfg(unix)]
#[test]
fn links_are_followed_and_pipes_written_to() {
    use std::os::unix::fs::{FileTypeExt, symlink};
    let dir = tempfile::tempdir().unwrap();
    let at = |name: &str| dir.path().join(name);
    fs::create_dir(at("models")).unwrap();
    fs::write(at("models/old.onnx"), "old").unwrap();
    output(dir.path(), &["model", "--preset", "cifar10", "--out", "plain.onnx"]);
    let expected = fs::read(at("plain.onnx")).unwrap();
    // To a file, by a second link, and to one that is yet to be.
    for (link, goal, file) in [
        ("one.onnx", "models/old.onnx", "models/old.onnx"),
        ("two.onnx", "one.onnx", "models/old.onnx"),
        ("three.onnx", "models/new.onnx", "models/new.onnx"),
    ] {
        symlink(goal, at(link)).unwrap();
        fs::write(at("models/old.onnx"), "old").unwrap();
        output(dir.path(), &["model", "--preset", "cifar10", "--out", link]);
        assert_eq!(fs::read_link(at(link)).unwrap().to_str(), Some(goal), "{link} is what it was");
        assert!(fs::read(at(file)).unwrap() == expected, "{link}");
    }
    symlink("a.onnx", at("b.onnx")).unwrap();
    symlink("b.onnx", at("a.onnx")).unwrap();
    let (status, message) = failure(dir.path(), &["model", "--preset", "cifar10", "--out", "a.onnx"]);
    assert_eq!((status, &*message), (1, "error: a.onnx: cannot write: its links lead to no end\n"));

    assert!(std::process::Command::new("mkfifo").arg(at("pipe")).status().unwrap().success());
    // For reading alone, opening would wait for the program.
    let mut pipe = fs::OpenOptions::new().read(true).write(true).open(at("pipe")).unwrap();
    let printed = output(dir.path(), &["model", "--preset", "cifar10", "--out", "pipe"]);
    assert!(printed.ends_with(&format!("{} bytes\n", expected.len())), "{printed}");
    assert!(fs::metadata(at("pipe")).unwrap().file_type().is_fifo(), "the pipe is there still");
    let mut got = vec![0; expected.len()];
    std::io::Read::read_exact(&mut pipe, &mut got).unwrap();
    assert!(got == expected);
}

#[test]
fn errors_say_what_is_missing_or_wrong() {
    let dir = tempfile::tempdir().unwrap();
    let fail = |args: &[&str]| failure(dir.path(), &[&["model", "--out", "mix.onnx"], args].concat());
    let (status, message) = fail(&[]);
    assert!(message.contains("--num-classes <K>"), "{message}");
    assert_eq!(status, 2);
    let (status, message) = fail(&["--num-classes", "3", "--size", "0x4"]);
    assert!(message.contains("must be PX or HEIGHTxWIDTH, each 1 to 32768"), "{message}");
    assert_eq!(status, 2);
    let (status, message) = fail(&["--num-classes", "2147483648"]);
    assert!(message.contains("2147483648 is not in 0..=2147483647"), "{message}");
    assert_eq!(status, 2);
    let expected = "error: k_max: must be at most 8, got 9\n";
    assert_eq!(fail(&["--preset", "imagenet", "--k-max", "9"]), (2, expected.into()));
    assert!(fs::read_dir(dir.path()).unwrap().next().is_none(), "nothing is written");
}
