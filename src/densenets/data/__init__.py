"""Data sets, splits, augmentation and batches. Knows nothing of models or training."""
