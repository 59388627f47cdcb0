"""What a step costs, and the choice rule over it."""
