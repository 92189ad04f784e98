"""What lets a task be stopped or killed at any moment and go on."""
