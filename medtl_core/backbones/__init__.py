"""Pretrained backbones: the table of known ones, their weights on disk, and the frozen feature extractor."""
