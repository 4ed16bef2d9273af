"""What is installed, and what runs here: facts, advice, and a self-test of the kernels against PyTorch."""
