"""Feature reuse: the weight that each layer gives to every source before it."""
