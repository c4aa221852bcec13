"""Heads: affine classifiers on frozen features, in closed form from summed statistics or trained by gradient."""
