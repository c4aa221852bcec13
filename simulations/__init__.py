"""Simulations: scenarios, and the experiments and benchmarks that run them."""
