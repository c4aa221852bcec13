"""Figures for a clinic: thresholds, net benefit, intervals of AUROC, subgroups; from scores or from hospitals' sums."""
