"""Filter pruning of trained networks: choice and removal of filters, latency budget, report."""
