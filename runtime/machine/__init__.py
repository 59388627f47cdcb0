"""What a machine has: processor, threads, transfers between host and device."""
