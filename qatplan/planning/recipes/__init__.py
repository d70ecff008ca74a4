"""A plan as a recipe for a trainer."""
