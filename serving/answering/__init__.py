"""From a conversation to a cited answer: `answer` tells the story, `ladder` chooses who answers.

Above the ladder: conversation, rewriting, extractive (evidence), refusal. Its rungs: generated (prompting,
passages, citing), and those of rungs. What every answer has: events, citations, support.
"""
