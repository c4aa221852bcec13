"""Signals: records of electrocardiographs and of other sensors over time, as cases and as features."""
