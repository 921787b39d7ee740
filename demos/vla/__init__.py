"""A small simulated table, a small policy of OpenVLA's shape, and rollouts of it with and without pruning."""
