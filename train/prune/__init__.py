"""Filter pruning of trained networks: which filters go, their removal, the budget, the report."""
