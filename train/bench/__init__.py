"""Speed, memory and what bounds them, beside other libraries."""
