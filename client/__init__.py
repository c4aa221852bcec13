"""The hospital's side of medtl: a thin Flower ClientApp and the site's own data, policy and paths."""
