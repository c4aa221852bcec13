"""A small local service and one page: a person drops a file and reads what a head says of it."""
