"""Makes a reference pair: corpus, tokenizer, target, distilled drafter, held-out prompts, provenance."""
