"""The backends of the fused execution: what each must compute, a record each, and their implementations."""
