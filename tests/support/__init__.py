"""What the tests share: tiny models, oracles, checkers of golden files, planted faults."""
