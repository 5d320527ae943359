"""What every training loop shares: run folders, checkpoints, the loop, losses and metrics."""
