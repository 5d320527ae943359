"""What all training stages share: run folders, checkpoints, the training loop, losses and metrics."""
