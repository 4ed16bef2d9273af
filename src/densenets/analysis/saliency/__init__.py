"""Evidence for a class in a picture, dense block by dense block (Grad-CAM)."""
