"""Infrastructure: how the project is locked, packaged and deployed."""
