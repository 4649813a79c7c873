//! Writes `docs/op.md` from the schema, in the order that readers of ONNX operator pages know.

use super::host::Element;
use super::schema::{
    ATTRIBUTES, DOMAIN, Field, IMAGE_TYPES, LABEL_KINDS, LabelKind, MIAMIX, MIAMIX_MASKS, Port, PortType,
    SINCE_VERSION, Schema, Settings,
};
use std::path::Path;

const INTRODUCTION: &str = "\
# Operators for ONNX Runtime

<!-- Written from bindings/c/src/ort/schema.rs by `MIAMIX_BLESS=1 cargo test -p miamix-c`. -->

The C library of MiAMix (`libmiamix.so`, `libmiamix.dylib`, `miamix.dll`) is an operator library for ONNX Runtime 1.17
and later. A session learns the operators when its options are given the path of the file:
`register_custom_ops_library` in Python, `RegisterCustomOpsLibrary_V2` in C, `registerCustomOpLibrary` in Java.
onnxruntime-node has no operator libraries. [hosts.md](hosts.md) lists what was tried in each version.

The same seed gives the same pixels as every other face of the library, whatever the number of threads.
Nodes run on the session's own threads, and one session may be run by several threads at once. What they cost beside
their work: [bench/node.md](bench/node.md).
No optimisation folds a node or merges two, so two nodes that have one seed need a `seed_offset`; saved models
keep their nodes, optimised and in ORT format too.
In a training graph a node stands before what is trained, and needs no gradient; `miamix.onnx.training_artifacts` makes
such graphs for onnxruntime-training ([an example](../examples/onnxruntime/train.py)), and `training_mode` of false turns
them into the graph to evaluate with.
Make the first session of a process before other threads make theirs: ONNX Runtime (1.23, for one) adds the domain of an
operator library to a list that it does not lock, and may refuse the second of two sessions that are made together
(`Trying to add a domain to DomainToVersion map, but the domain is already exist`).
Attributes are checked when the session is made, except that ONNX Runtime tells an operator nothing about attributes
whose names it does not ask for: a misspelt one keeps its default.
";

const CUDA: &str = "\
## CUDA

Not yet confirmed on hardware: tested against a stand-in of ONNX Runtime's functions and of the driver, with results equal
to those of the CPU byte for byte. Both operators are there for `CUDAExecutionProvider`, too: put it before
`CPUExecutionProvider` in the session's list. Images, labels and all outputs are on the device; `seed`, `first_sample` and
`training_mode` in CPU memory, where a plan is drawn. Work goes to the stream that ONNX Runtime has for the node, and
nothing waits for it. Memory that it needs comes from a pool of the library's. What differs from the CPU:

* A class id that is too large is found by the device: the run gives a row of zeros for it, and a later run of any such
  node in the process is the error.
* ONNX Runtime's CUDA graphs (`enable_cuda_graph`) are refused, as a plan must be uploaded for each run.
* Where the driver is missing or too old, the session is not made, and the error says why.
";

fn page() -> String {
    [INTRODUCTION.to_owned(), CUDA.to_owned(), section(&MIAMIX), section(&MIAMIX_MASKS)].join("\n")
}

fn section(schema: &Schema) -> String {
    let (name, domain) = (schema.name.to_string_lossy(), DOMAIN.to_string_lossy());
    let prose = &schema.prose;
    let attributes: Vec<String> = ATTRIBUTES
        .iter()
        .map(|attribute| {
            let (kind, default) = kind_and_default(&attribute.field);
            format!("| `{}` | {kind} | {default} | {} |\n", attribute.name.to_string_lossy(), attribute.doc)
        })
        .collect();
    let mut constraints = vec![format!("| T | {} |\n", IMAGE_TYPES.map(|dtype| type_name(dtype.into())).join(", "))];
    if schema.inputs.iter().any(|port| matches!(port.element, PortType::L)) {
        let kinds = LABEL_KINDS.map(|kind| match kind {
            LabelKind::Ids => format!("{} for [N]", type_name(Element::Int64)),
            LabelKind::Soft => format!("{} for [N, K]", type_name(Element::Float)),
        });
        constraints.push(format!("| L | {} |\n", kinds.join(", ")));
    }
    format!(
        "\
## {name}

{sentence}

```text
{formula}
```

### Version

Since version {SINCE_VERSION} of the operator set `{domain}`.

### Attributes

| name | type | default | meaning |
|---|---|---|---|
{attributes}
### Inputs

| name | type | meaning |
|---|---|---|
{inputs}
### Outputs

| name | type | meaning |
|---|---|---|
{outputs}
### Type constraints

| name | types |
|---|---|
{constraints}
### Example

```python
{example}
```
",
        sentence = prose.sentence,
        formula = prose.formula,
        attributes = attributes.concat(),
        inputs = ports(schema.inputs),
        outputs = ports(schema.outputs),
        constraints = constraints.concat(),
        example = prose.example,
    )
}

fn ports(ports: &[Port]) -> String {
    let row = |port: &Port| {
        let element = match port.element {
            PortType::T => "T".to_owned(),
            PortType::L => "L".to_owned(),
            PortType::Is(element) => type_name(element).to_owned(),
        };
        format!("| `{}` | {element} | {} |\n", port.name, port.doc)
    };
    ports.iter().map(row).collect()
}

fn type_name(element: Element) -> &'static str {
    match element {
        Element::Float => "tensor(float)",
        Element::Float16 => "tensor(float16)",
        Element::Bfloat16 => "tensor(bfloat16)",
        Element::Uint8 => "tensor(uint8)",
        Element::Int64 => "tensor(int64)",
        Element::Bool => "tensor(bool)",
    }
}

fn kind_and_default(field: &Field) -> (String, String) {
    let mut defaults = Settings::default();
    match field {
        Field::Float(get) => ("float".to_owned(), format!("{:?}", get(&mut defaults))),
        Field::Count(get) => ("int".to_owned(), get(&mut defaults).to_string()),
        Field::Int(get) => ("int".to_owned(), get(&mut defaults).to_string()),
        Field::OptionalCount(get) => {
            ("int".to_owned(), get(&mut defaults).map_or("none".to_owned(), |count| count.to_string()))
        }
        Field::Range(get) => ("ints".to_owned(), format!("{:?}", get(&mut defaults))),
        Field::Weights(get) => ("floats".to_owned(), format!("{:?}", get(&mut defaults).to_array())),
        Field::Switch(switch) => {
            let names: Vec<String> = (switch.names)().iter().map(|name| format!("`{name}`")).collect();
            (format!("string: {}", names.join(", ")), format!("`{}`", (switch.get)(&defaults)))
        }
    }
}

#[test]
fn the_page_is_what_the_schema_says() {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../docs/op.md");
    if std::env::var_os("MIAMIX_BLESS").is_some_and(|value| value == "1") {
        std::fs::write(&path, page()).unwrap();
    }
    let written = std::fs::read_to_string(&path).unwrap_or_default();
    assert!(written == page(), "docs/op.md is stale: MIAMIX_BLESS=1 cargo test -p miamix-c writes it");
}

#[test]
fn every_parameter_is_an_attribute_in_the_order_of_the_configuration() {
    let json = Settings::default().config.to_json();
    let (parameters, graph_only) = ATTRIBUTES.split_at(ATTRIBUTES.len() - 3);
    let places: Vec<usize> = parameters
        .iter()
        .map(|attribute| format!("\"{}\":", attribute.name.to_str().unwrap()))
        .map(|name| json.find(&name).unwrap_or_else(|| panic!("{name} is no parameter")))
        .collect();
    assert!(places.is_sorted());
    let config: serde_json::Value = serde_json::from_str(&json).unwrap();
    assert_eq!(parameters.len(), config.as_object().unwrap().len());
    assert_eq!([c"num_classes", c"layout", c"seed_offset"], [0, 1, 2].map(|i| graph_only[i].name));
}
