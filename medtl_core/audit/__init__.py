"""Attacks on what one hospital would send, and whether a claim survives them."""
