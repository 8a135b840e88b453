"""Two runs whose agents learn against each other."""
