"""The federation: what hospitals are asked, what they answer, and what a study makes of the answers."""
