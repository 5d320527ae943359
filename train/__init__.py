"""Training of networks: teacher, student with distillation, baselines; pruning, evaluation and comparison."""
