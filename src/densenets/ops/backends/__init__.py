"""What computes the unit of the fused execution: each backend is a record and an implementation."""
