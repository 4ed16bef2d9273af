"""Drawings of networks: dense blocks with their connections, transitions, and the stages of the baselines."""
