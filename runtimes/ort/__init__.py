"""ONNX Runtime on the host CPU."""
