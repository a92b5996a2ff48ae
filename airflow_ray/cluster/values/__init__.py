"""What kind of value something is, and what that means for it."""
