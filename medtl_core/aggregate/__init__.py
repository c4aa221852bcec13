"""Folds over released updates, taken as replies arrive, and what a server does with their mean."""
