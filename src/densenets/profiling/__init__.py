"""What a network costs on this machine: time and memory, each variant in a process of its own."""
