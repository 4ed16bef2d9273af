"""Checkpoints at the Hugging Face Hub, with model cards of their figures."""
