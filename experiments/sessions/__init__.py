"""Runs of agents with a session slot: pre-training across jobs, and nights that fold sessions into the weights."""
