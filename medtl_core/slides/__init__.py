"""Whole-slide images: which files are some, the tiles of tissue that stand for one, and stain normalisation."""
