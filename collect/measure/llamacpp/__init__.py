"""What llama.cpp under our loop is worth: equal texts, speeds beside its own loops, and where a step's time goes."""
