"""A deployed hospital's node: Flower's SuperNode under the eye of a process that answers for the hospital."""
