"""Cost of training steps: arithmetic, time and memory."""
