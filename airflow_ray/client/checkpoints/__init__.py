"""Checkpoints as the client sees them: where they lie, who may read them, and the way back."""
