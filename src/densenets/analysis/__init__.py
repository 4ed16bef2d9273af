"""Analyses of networks and runs: computation, figure and table."""
