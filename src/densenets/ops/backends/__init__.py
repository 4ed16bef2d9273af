"""The backends of the fused execution: the kernels that each must have, their registry, and each backend."""
