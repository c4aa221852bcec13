"""Classifiers that travel as more than one matrix, beside the methods that make them."""
