"""Networks: their configs, modules and layer tables, and the registry of their names."""
