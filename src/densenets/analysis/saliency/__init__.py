"""Where in a picture a DenseNet finds evidence for a class."""
