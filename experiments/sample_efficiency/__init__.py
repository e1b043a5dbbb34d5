"""Question: how many real transitions does the deployed, search-free student need, with dreams and without?"""
