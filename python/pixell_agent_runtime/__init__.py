"""What agents may import from the runtime."""
