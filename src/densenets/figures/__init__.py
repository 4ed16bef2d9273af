"""What all figures share: writing them, styles of series, text of numbers. Knows nothing of what is drawn."""
