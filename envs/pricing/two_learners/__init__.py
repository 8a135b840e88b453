"""Two pricing algorithms that learn against each other, and what their prices come to."""
