//! As much of the ONNX format as a model with one layer of nodes takes.

use prost::Message;

/// Element types, as ONNX numbers them.
pub const FLOAT: i32 = 1;
pub const UINT8: i32 = 2;
pub const INT64: i32 = 7;
pub const BOOL: i32 = 9;
pub const FLOAT16: i32 = 10;
pub const BFLOAT16: i32 = 16;

#[derive(Clone, PartialEq, Message)]
struct Model {
    #[prost(int64, tag = 1)]
    ir_version: i64,
    #[prost(message, optional, tag = 7)]
    graph: Option<Graph>,
    #[prost(message, repeated, tag = 8)]
    opset_import: Vec<OperatorSet>,
}

#[derive(Clone, PartialEq, Message)]
struct OperatorSet {
    #[prost(string, tag = 1)]
    domain: String,
    #[prost(int64, tag = 2)]
    version: i64,
}

#[derive(Clone, PartialEq, Message)]
struct Graph {
    #[prost(message, repeated, tag = 1)]
    node: Vec<Node>,
    #[prost(string, tag = 2)]
    name: String,
    #[prost(message, repeated, tag = 11)]
    input: Vec<Value>,
    #[prost(message, repeated, tag = 12)]
    output: Vec<Value>,
}

#[derive(Clone, PartialEq, Message)]
pub struct Node {
    #[prost(string, repeated, tag = 1)]
    input: Vec<String>,
    #[prost(string, repeated, tag = 2)]
    output: Vec<String>,
    #[prost(string, tag = 3)]
    name: String,
    #[prost(string, tag = 4)]
    op_type: String,
    #[prost(message, repeated, tag = 5)]
    attribute: Vec<Attribute>,
    #[prost(string, tag = 7)]
    domain: String,
}

#[derive(Clone, PartialEq, Message)]
struct Attribute {
    #[prost(string, tag = 1)]
    name: String,
    #[prost(float, optional, tag = 2)]
    f: Option<f32>,
    #[prost(int64, optional, tag = 3)]
    i: Option<i64>,
    #[prost(string, optional, tag = 4)]
    s: Option<String>,
    #[prost(float, repeated, tag = 7)]
    floats: Vec<f32>,
    #[prost(int64, repeated, tag = 8)]
    ints: Vec<i64>,
    /// 1: float, 2: int, 3: string, 6: floats, 7: ints.
    #[prost(int32, tag = 20)]
    kind: i32,
}

#[derive(Clone, PartialEq, Message)]
pub struct Value {
    #[prost(string, tag = 1)]
    name: String,
    #[prost(message, optional, tag = 2)]
    kind: Option<Type>,
}

#[derive(Clone, PartialEq, Message)]
struct Type {
    #[prost(message, optional, tag = 1)]
    tensor: Option<TensorType>,
}

/// A tensor of a shape that is not declared.
#[derive(Clone, PartialEq, Message)]
struct TensorType {
    #[prost(int32, tag = 1)]
    element: i32,
}

impl Node {
    /// A node of the domain `ai.miamix`.
    pub fn new(op_type: &str, name: &str, inputs: &[&str], outputs: &[&str]) -> Self {
        let strings = |names: &[&str]| names.iter().map(|name| (*name).to_owned()).collect();
        Node {
            input: strings(inputs),
            output: strings(outputs),
            name: name.to_owned(),
            op_type: op_type.to_owned(),
            attribute: Vec::new(),
            domain: "ai.miamix".to_owned(),
        }
    }

    fn with(mut self, name: &str, attribute: Attribute) -> Self {
        self.attribute.push(Attribute { name: name.to_owned(), ..attribute });
        self
    }

    pub fn float(self, name: &str, value: f32) -> Self {
        self.with(name, Attribute { f: Some(value), kind: 1, ..Default::default() })
    }

    pub fn int(self, name: &str, value: i64) -> Self {
        self.with(name, Attribute { i: Some(value), kind: 2, ..Default::default() })
    }

    pub fn string(self, name: &str, value: &str) -> Self {
        self.with(name, Attribute { s: Some(value.to_owned()), kind: 3, ..Default::default() })
    }

    pub fn floats(self, name: &str, values: &[f32]) -> Self {
        self.with(name, Attribute { floats: values.to_vec(), kind: 6, ..Default::default() })
    }

    pub fn ints(self, name: &str, values: &[i64]) -> Self {
        self.with(name, Attribute { ints: values.to_vec(), kind: 7, ..Default::default() })
    }
}

/// An input or an output of the graph.
pub fn value(name: &str, element: i32) -> Value {
    Value { name: name.to_owned(), kind: Some(Type { tensor: Some(TensorType { element }) }) }
}

/// The bytes of a model.
pub fn model(nodes: Vec<Node>, inputs: Vec<Value>, outputs: Vec<Value>) -> Vec<u8> {
    let graph = Graph { node: nodes, name: "graph".to_owned(), input: inputs, output: outputs };
    let opset = |domain: &str, version| OperatorSet { domain: domain.to_owned(), version };
    let opset_import = vec![opset("", 17), opset("ai.miamix", 1)];
    Model { ir_version: 8, graph: Some(graph), opset_import }.encode_to_vec()
}
