"""Training of derived networks: teacher, student with distillation, and their evaluation."""
