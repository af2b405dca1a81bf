"""The table of misuses, by topic. A row is a mistake a user can make, and what the answer must name."""
