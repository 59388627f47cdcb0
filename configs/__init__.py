"""Ready-made arguments for every command, and the reference pair."""
