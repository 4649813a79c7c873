//! The operator for ONNX Runtime (domain `ai.miamix`).
