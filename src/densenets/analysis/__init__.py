"""Analyses of networks and runs, each with its computation, its figure and its table."""
