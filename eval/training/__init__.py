"""Training of the embedded models: generated scenes in, small vision-language models out."""
