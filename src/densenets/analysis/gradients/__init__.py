"""Signal and gradient by depth."""
