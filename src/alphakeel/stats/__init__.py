"""Arithmetic on arrays: no panels, files or torch."""
