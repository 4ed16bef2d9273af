"""Time and memory of networks, measured in processes."""
