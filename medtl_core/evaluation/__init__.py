"""Evaluation: every figure of merit, from scores or from sums over hospitals, with intervals and calibration."""
