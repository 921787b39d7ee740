"""Pure torch: token layouts, stages, budgets and the operators the methods share. No transformers, no hooks, no I/O."""
