"""The coordinator's use of Flower: its SuperLink, and a ServerApp that runs in the process of whoever started it."""
