"""Exported networks: what stands in their files, and the engines that run them."""
