"""The facts of every network, each family's in a frozen config. Needs no PyTorch."""
