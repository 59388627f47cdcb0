"""From token ids to text, and where a text ends."""
