"""Private methods: every release planned, noised and paid for."""
