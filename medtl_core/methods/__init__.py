"""Methods: what a server asks of the hospitals, round by round, to obtain a head."""
