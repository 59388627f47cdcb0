"""GGUF models, run by llama.cpp under our loop."""
