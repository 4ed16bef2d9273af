"""What networks and runs show when they are measured or looked into: plain data in, plain data out."""
