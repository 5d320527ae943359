"""What a deployed model needs: loading checkpoints, prediction and export."""
