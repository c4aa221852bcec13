"""Sweeps: one experiment of many runs that differ in what is swept, resumable, with one table and one report."""
