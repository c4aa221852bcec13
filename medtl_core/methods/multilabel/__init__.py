"""Methods of multi-label tasks: each finding is a question of two answers, on features and sums that all share."""
