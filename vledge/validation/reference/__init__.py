"""What a model's own framework computed: the bundle that holds it, and comparison."""
