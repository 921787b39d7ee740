"""The only rooms with hooks: they carry out what the stages decide inside a Hugging Face model."""
