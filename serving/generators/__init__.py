"""Language models: over the OpenAI API, and in this process."""
