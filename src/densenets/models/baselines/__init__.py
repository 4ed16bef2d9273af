"""The networks that DenseNet is compared with: each one's config, module and layer rows."""
