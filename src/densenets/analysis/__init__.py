"""What a network is and does, as plain data."""
