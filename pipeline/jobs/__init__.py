"""One function for each stage that computes: it puts the rooms together as params.yaml says. The rooms see no params object."""
