"""The highest rate of requests that keeps an objective, and the replicas for a rate."""
