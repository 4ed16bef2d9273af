"""The fused execution: a block, its transition and the stem as operators of PyTorch, on any backend."""
