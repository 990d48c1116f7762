"""To and from other environment libraries."""
