"""Synthetic chest radiographs: anatomy, and the scanners that see it."""
