"""What AWS should hold, what it holds, and the steps from one to the other. Pure."""
