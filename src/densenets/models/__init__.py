"""Configs and modules of the networks, and the zoo of their names."""
