"""Networks that take an activation function."""
