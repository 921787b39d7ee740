"""Search for the ratios of VFlowOpt on a user's own model and samples."""
