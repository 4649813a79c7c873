"""What people would use instead of the operator, each in its own idiom."""
