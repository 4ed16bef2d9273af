"""Weights and formats of other libraries."""
