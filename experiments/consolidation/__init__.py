"""Question: what is a session worth to the weights, by whom it is taught and where?"""
