"""A trained head for other programs: one file with the network inside, and a manifest; a model card of a run."""

#: Beside the name of an input, that of whether a case has it.
HAS = "has_"
