"""The server's side of medtl: a thin Flower ServerApp and the central evaluation."""
