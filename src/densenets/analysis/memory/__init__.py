"""Training memory against depth and batch."""
