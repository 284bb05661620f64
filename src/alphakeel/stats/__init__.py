"""Arithmetic on arrays: knows nothing of panels, files or torch."""
