"""What stages ask to be measured, read beside the user's own kernels."""
