"""What every step of the pipeline uses: files, progress, array types."""
