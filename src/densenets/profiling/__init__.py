"""Time and memory of networks on this machine, each variant in a process of its own."""
