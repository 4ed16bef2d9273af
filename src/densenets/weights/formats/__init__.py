"""Files of weights by format: each reader gives the layers of a file, as `file_modules` has them."""
