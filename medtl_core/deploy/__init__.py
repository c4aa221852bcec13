"""The coordinator's side of a deployed federation: its folder, invitations, the one open port, runs and their state."""
