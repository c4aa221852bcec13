"""Methods that read a table's own columns: scaled by all hospitals together, and told apart or followed over time."""
