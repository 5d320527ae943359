"""What every training loop shares: experiment files, run folders, checkpoints, the loop, losses and metrics."""
