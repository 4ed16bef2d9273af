"""Finished runs side by side: error against cost."""
