"""Personal methods: every hospital ends with a model of its own."""
