"""Records of networks that a library knows and no table of ours lists."""
