"""Collections as OpenAI models."""
