"""Largest accepted values of options and configs: far above all use, and low enough to compute with.

Whatever follows from a number within them (sizes of weights, bytes, pixels) stays below 2^63, and a loop over
it, such as over layers, takes seconds at most.
"""

MOST_CHANNELS = 2**20
MOST_BOTTLENECK_WIDTH = 2**10  # in units of the growth rate
MOST_CLASSES = 2**24
MOST_LAYERS = 10_000  # along a network's longest path
MOST_STAGES = 16  # of a network; each but the first halves the sides
MOST_VALUES = 2**32  # inputs of a linear layer
MOST_PIXELS = 2**12  # of a side of a network's input: three channels are 200 MB then
MOST_WORKERS = 1024  # processes
MOST_IMAGES = 2**40  # of a batch, of a data set, and so of steps
