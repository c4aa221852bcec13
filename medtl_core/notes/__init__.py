"""Notes: letters, reports and other text as cases and as features."""
