"""A checkpoint as a file for an engine: ONNX, OpenVINO, torch.export, AOTInductor."""
