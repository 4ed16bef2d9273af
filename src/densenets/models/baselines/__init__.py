"""The networks that DenseNet is compared with, each beside its config."""
