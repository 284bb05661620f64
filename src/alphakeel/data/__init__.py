"""Everything that touches files or feeds, and the panel they fill."""
