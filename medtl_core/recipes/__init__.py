"""Weights before a run: fetched on a connected machine when a person types it, packed, unpacked; never at run time."""
