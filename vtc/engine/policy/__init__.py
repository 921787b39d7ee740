"""Methods that remember: what the action queries of a policy have looked at, over the calls of an episode."""
