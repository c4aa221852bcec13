"""Everything that knows Flower: records, the in-process grid, the exchange, and the other two roads."""

import logging

# Flower's logger has a handler of its own; once any library configures the root logger every line would print twice.
logging.getLogger("flwr").propagate = False
