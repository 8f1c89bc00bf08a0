"""What is prohibited, what needs review, what must be disclosed: data, its schema, its loader."""
