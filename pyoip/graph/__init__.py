"""ONNX files read, checked and simplified into plain data: the only rooms that know onnx."""
