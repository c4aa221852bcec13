"""Privacy that is counted: plans, noise, budgets and ledgers, and the one gate that a private release passes."""
