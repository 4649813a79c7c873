//! The files of `miamix-onnx-model` say what the schema says.

use super::host::Element;
use super::schema::{
    ATTRIBUTES, DOMAIN, Field, IMAGE_TYPES, LabelKind, Layout, MIAMIX, MIAMIX_MASKS, Port, SINCE_VERSION, Schema,
};
use miamix_onnx_model::proto::{AttributeType, DataType, GraphProto, NodeProto, TypeValue, ValueInfoProto};
use miamix_onnx_model::{self as model, ModelSpec};
use std::collections::BTreeSet;

fn graph(spec: &ModelSpec) -> GraphProto {
    model::message(spec).unwrap().graph.unwrap()
}

fn attribute_type(field: &Field) -> AttributeType {
    match field {
        Field::Float(_) => AttributeType::Float,
        Field::Count(_) | Field::Int(_) | Field::OptionalCount(_) => AttributeType::Int,
        Field::Range(_) => AttributeType::Ints,
        Field::Weights(_) => AttributeType::Floats,
        Field::Switch(_) => AttributeType::String,
    }
}

fn data_type(element: Element) -> DataType {
    match element {
        Element::Float => DataType::Float,
        Element::Float16 => DataType::Float16,
        Element::Bfloat16 => DataType::Bfloat16,
        Element::Uint8 => DataType::Uint8,
        Element::Int64 => DataType::Int64,
        Element::Bool => DataType::Bool,
    }
}

/// Names and types of the schema's attributes.
fn declared(with_num_classes: bool) -> BTreeSet<(String, AttributeType)> {
    let all = ATTRIBUTES.iter().map(|a| (a.name.to_str().unwrap().to_owned(), attribute_type(&a.field)));
    all.filter(|(name, _)| with_num_classes || name != "num_classes").collect()
}

/// Names and types of a node's attributes, each of which is there once.
fn written(node: &NodeProto) -> BTreeSet<(String, AttributeType)> {
    let set: BTreeSet<_> = node.attribute.iter().map(|a| (a.name().to_owned(), a.r#type())).collect();
    assert_eq!(set.len(), node.attribute.len());
    set
}

fn element(value: &ValueInfoProto) -> DataType {
    let Some(TypeValue::TensorType(tensor)) = &value.r#type.as_ref().unwrap().value else { panic!("no tensor") };
    tensor.elem_type()
}

#[test]
fn attributes_are_those_of_the_schema() {
    let no_k = model::LabelKind::Soft { num_classes: None };
    for labels in [model::LabelKind::Ids { num_classes: 3 }, model::LabelKind::Soft { num_classes: Some(3) }, no_k] {
        let graph = graph(&ModelSpec { labels, masks: true, ..Default::default() });
        let [mix, masks] = &graph.node[..] else { panic!("{} nodes", graph.node.len()) };
        assert_eq!(written(mix), declared(labels != no_k), "{labels:?}");
        assert_eq!(written(masks), declared(false), "{labels:?}");
    }
}

#[test]
fn domain_and_version_are_those_of_the_schema() {
    let message = model::message(&ModelSpec { masks: true, ..Default::default() }).unwrap();
    let domain = DOMAIN.to_str().unwrap();
    let opsets = message.opset_import.iter().filter(|opset| opset.domain() == domain);
    assert_eq!(opsets.map(|opset| opset.version()).collect::<Vec<_>>(), [i64::from(SINCE_VERSION)]);
    assert_eq!((model::DOMAIN, model::DOMAIN_VERSION), (domain, SINCE_VERSION.into()));
    assert!(message.graph.unwrap().node.iter().all(|node| node.domain() == domain));
}

#[test]
fn layouts_are_those_of_the_schema() {
    let written: Vec<String> = [model::Layout::Nchw, model::Layout::Nhwc]
        .map(|layout| {
            let node = &graph(&ModelSpec { layout, ..Default::default() }).node[0];
            let attribute = node.attribute.iter().find(|attribute| attribute.name() == "layout").unwrap();
            String::from_utf8(attribute.s().to_owned()).unwrap()
        })
        .into();
    assert_eq!(written, Layout::ALL.iter().map(|layout| layout.name()).collect::<Vec<_>>());
}

#[test]
fn inputs_and_outputs_are_those_of_the_schema() {
    let names = |ports: &[Port]| ports.iter().map(|port| port.name.to_owned()).collect::<Vec<_>>();
    for dtype in IMAGE_TYPES {
        for (labels, kind) in [
            (model::LabelKind::Ids { num_classes: 3 }, LabelKind::Ids),
            (model::LabelKind::Soft { num_classes: None }, LabelKind::Soft),
        ] {
            let graph = graph(&ModelSpec { dtype, labels, masks: true, ..Default::default() });
            let types_of = |edges: &[String]| -> Vec<DataType> {
                let values = || graph.input.iter().chain(&graph.output);
                edges.iter().map(|edge| element(values().find(|value| value.name() == edge).unwrap())).collect()
            };
            let [mix, masks] = &graph.node[..] else { panic!("{} nodes", graph.node.len()) };
            let check = |node: &NodeProto, schema: &Schema| {
                assert_eq!(node.op_type(), schema.name.to_str().unwrap());
                let types = [types_of(&node.input), types_of(&node.output)];
                assert_eq!(
                    types,
                    schema.elements(dtype, kind).map(|e| e.into_iter().map(data_type).collect::<Vec<_>>())
                );
            };
            check(mix, &MIAMIX);
            check(masks, &MIAMIX_MASKS);
            // Edges bear the names of the ports, but for the input of the masks that is only measured.
            assert_eq!([&mix.input, &mix.output], [&names(MIAMIX.inputs), &names(MIAMIX.outputs)]);
            assert_eq!(masks.input[1..], names(MIAMIX_MASKS.inputs)[1..]);
            assert_eq!(masks.output, names(MIAMIX_MASKS.outputs));
        }
    }
}
