"""Where cases come from: the catalog, readers, checks, the synthetic phantom and the partition over hospitals."""
