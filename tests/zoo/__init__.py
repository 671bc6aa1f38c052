"""Small networks of every architecture that people export, built here with random weights."""
