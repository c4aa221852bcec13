"""Ways to transfer: one module a method, found by `medtl_core.registry`; a new file here is a new method."""
