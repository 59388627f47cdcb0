"""What a request asks of its text besides how it is sampled: penalties, biases, bans, and a grammar that it follows."""
