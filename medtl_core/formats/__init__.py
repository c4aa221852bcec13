"""Formats: how files of each kind become cases; `medtl_core.data.readers` reaches them by name."""
