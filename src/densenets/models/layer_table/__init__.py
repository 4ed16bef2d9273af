"""What a network is, layer by layer, by arithmetic on its config: none is built. Needs no PyTorch."""
