"""What loads and serves the checkpoints that `surgery` writes; knows nothing of the compiler."""
