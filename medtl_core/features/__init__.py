"""Features: what decides them, their computation by a frozen backbone, and the cache."""
