"""The page of a run or a checkpoint."""
