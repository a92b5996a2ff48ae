"""The detached actor that submits the work of one namespace and so owns the results."""
