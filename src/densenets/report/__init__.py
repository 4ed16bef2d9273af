"""Pictures of plain data."""
