"""From a network to the graph of its gradient: another ONNX model, which any runtime executes."""
